//! The gRPC methods: open the request, name the record and the rule, render the answer.

pub mod agreement;
pub mod attestation;
mod export;
pub mod facts;
pub mod partnership;

use hansa_chassis::{Act, Desk, to_status};
use hansa_journal::Receipt;
use hansa_kernel::{Caller, Decision, Moment, Record, RecordName, Refusal, Refused, Relation};
use hansa_partnerships_domain::agreement::{Agreement, COLLECTION, Change, Facts};
use hansa_proto::{WriteRequest, partnerships as proto};
use tonic::{Response, Status};

/// The methods of all three services, over a desk.
pub(crate) struct Agreements(pub(crate) Desk);

type Answer = Result<Response<proto::Agreement>, Status>;
type Rule<Q> = fn(&Agreement, &Q, &Caller, Moment) -> Decision<Change>;
type Informed<Q> = fn(&Agreement, &Q, &Caller, &Facts, Moment) -> Decision<Change>;

impl Agreements {
    /// The usual command: one agreement, one rule.
    async fn step<Q>(&self, act: &Act<Q>, name: &str, rule: Rule<Q>) -> Answer
    where
        Q: WriteRequest + Send + Sync + 'static,
    {
        let command = self.0.on(act, agreement_name(name, "name")?, act.request.etag(), rule);
        let receipt = self.0.submit(act, command).await?;
        self.shown(act, &receipt).await
    }

    /// The same for a rule that needs to know the cities. Where they are not known, that is said only to a caller who may
    /// see the agreement.
    async fn informed<Q>(&self, act: &Act<Q>, name: &str, rule: Informed<Q>) -> Answer
    where
        Q: WriteRequest + Send + Sync + 'static,
    {
        let name = agreement_name(name, "name")?;
        let facts = facts::of_record(self.0.journal(), &name).await;
        let subject = name.clone();
        let command =
            self.0.on(act, name, act.request.etag(), move |state: &Agreement, asked: &Q, caller: &Caller, at| {
                match &facts {
                    Ok(facts) => rule(state, asked, caller, facts, at),
                    Err(_) if state.relation(caller) == Relation::Stranger => Err(Refusal::not_found(&subject)),
                    Err(refusal) => Err(refusal.clone()),
                }
            });
        let receipt = self.0.submit(act, command).await?;
        self.shown(act, &receipt).await
    }

    async fn shown<Q>(&self, act: &Act<Q>, receipt: &Receipt<Agreement>) -> Answer {
        self.0.answer(act, receipt.state.resource_for(&act.caller, &receipt.name, &receipt.etag)).await
    }
}

/// A part of a request, or the refusal as gRPC says it.
fn ask<T>(part: Refused<T>) -> Result<T, Status> {
    part.map_err(|refusal| to_status(&refusal))
}

fn agreement_name(name: &str, field: &str) -> Result<RecordName, Status> {
    ask(RecordName::parse(name, COLLECTION, field))
}
