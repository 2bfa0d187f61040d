//! A tie that was brought in in error is deleted; its tombstone stays (PL-8, AG-13).

use super::{Agreement, rules::is_keeper};
use hansa_kernel::{Caller, Refusal, Refused, record::tombstone};
use hansa_proto::{partnerships::DeleteAgreementRequest, types::Tombstone};

/// Deletes a tie that no party has taken over.
///
/// # Errors
/// AG-13 for an agreement that was concluded here, is a party's by now or is another steward's; PL-8 without a reason.
pub fn delete(state: &Agreement, command: &DeleteAgreementRequest, caller: &Caller) -> Refused<Tombstone> {
    if state.origin.is_none() {
        return Err(Refusal::rule("AG-13", "An agreement that was concluded here is no error of an import")
            .missing("origin", "it was not brought in")
            .help("Its parties withdraw or end it."));
    }
    if !is_keeper(state, caller) {
        return Err(Refusal::rule("AG-13", "The steward who keeps a tie deletes it, until a party takes it over")
            .missing("keeper", "is another by now")
            .help("A party disputes what is not so, or ends the agreement."));
    }
    tombstone(&command.reason)
}
