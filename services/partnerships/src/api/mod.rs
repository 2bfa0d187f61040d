//! The gRPC methods: open the request, name the record and the rule, render the answer.

pub mod agreement;
pub mod attestation;
mod export;
pub mod facts;
pub mod partnership;

use hansa_chassis::{Act, Desk, named};
use hansa_kernel::{Caller, Decision, Moment, Record, Refusal, Relation};
use hansa_partnerships_domain::agreement::{Agreement, Change, Facts};
use hansa_proto::{WriteRequest, partnerships as proto};
use tonic::{Response, Status};

/// The methods of all three services, over a desk.
pub(crate) struct Agreements(pub(crate) Desk);

type Answer = Result<Response<proto::Agreement>, Status>;
type Informed<Q> = fn(&Agreement, &Q, &Caller, &Facts, Moment) -> Decision<Change>;

impl Agreements {
    /// One agreement, and a rule that needs to know the cities. Where they are not known, that is said only to a caller who
    /// may see the agreement.
    async fn informed<Q>(&self, act: &Act<Q>, rule: Informed<Q>) -> Answer
    where
        Q: WriteRequest + Send + Sync + 'static,
    {
        let (field, name) = act.request.target();
        let name = named::<Agreement>(field, name)?;
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
        self.0.done(act, command).await
    }
}
