//! The rpc handlers of the service: they parse the request, name the record and the rule, and respond.

pub mod agreement;
pub mod attestation;
mod export;
pub mod partnership;

use crate::facts;
use hansa_chassis::{ApiResult, CommandContext, parse_name, rpc_handlers};
use hansa_kernel::{Caller, Decision, Moment, Record, Refusal, Relation};
use hansa_partnerships_domain::agreement::{Agreement, Change, Facts};
use hansa_proto::{WriteRequest, partnerships as proto};

rpc_handlers!(
    /// Handles the rpcs of `AgreementService`, `PartnershipService` and `AttestationService`.
    Agreements
);

/// A rule that needs the facts of the agreement's cities.
type RuleWithFacts<Q> = fn(&Agreement, &Q, &Caller, &Facts, Moment) -> Decision<Change>;

impl Agreements {
    /// Executes a rule that needs the facts of the agreement's cities. If a city is not mirrored, a stranger gets
    /// `NOT_FOUND` for the agreement and not for the city.
    async fn execute_with_facts<Q>(
        &self,
        context: &CommandContext<Q>,
        rule: RuleWithFacts<Q>,
    ) -> ApiResult<proto::Agreement>
    where
        Q: WriteRequest + Send + Sync + 'static,
    {
        let (field, name) = context.request.target();
        let name = parse_name::<Agreement>(field, name)?;
        let facts = facts::of_record(&self.journal, &name).await;
        let subject = name.clone();
        let rule = move |state: &Agreement, request: &Q, caller: &Caller, now: Moment| match &facts {
            Ok(facts) => rule(state, request, caller, facts, now),
            Err(_) if state.relation(caller) == Relation::Stranger => Err(Refusal::not_found(&subject)),
            Err(refusal) => Err(refusal.clone()),
        };
        let command = self.commands.update(context, name, context.request.etag(), rule);
        self.commands.respond(context, command).await
    }
}
