//! Deletes a tie that was imported by mistake and leaves a tombstone (PL-8, AG-13).

use super::{Agreement, rules::is_keeper};
use hansa_kernel::{Caller, Refusal, Refused, record::tombstone};
use hansa_proto::{partnerships::RetractAgreementRequest, types::Tombstone};

/// Deletes a tie that no party has taken over.
///
/// # Errors
/// Refused under AG-13 if the agreement was not imported, if a party has taken it over, or if another steward keeps
/// it; under PL-8 if there is no reason.
pub fn delete(state: &Agreement, command: &RetractAgreementRequest, caller: &Caller) -> Refused<Tombstone> {
    if state.origin.is_none() {
        return Err(Refusal::rule("AG-13", "NOT_IMPORTED", "Only an imported agreement can be deleted")
            .missing("origin", "the agreement was concluded on the platform")
            .help("Ask its parties to withdraw or end it."));
    }
    if !is_keeper(state, caller) {
        return Err(Refusal::rule(
            "AG-13",
            "NOT_KEEPER",
            "Only the steward who keeps a tie can delete it, until a party takes it over",
        )
        .missing("keeper", "your tenant does not keep this tie, or a party has taken it over")
        .help("Ask a party to dispute the import or to end the agreement."));
    }
    tombstone(&command.reason)
}
