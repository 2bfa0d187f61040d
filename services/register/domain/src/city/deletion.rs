//! A city that was entered in error is deleted; its tombstone stays (PL-8).

use super::City;
use crate::rights;
use hansa_kernel::{Caller, Refusal, Refused, record::tombstone};
use hansa_proto::{register::DeleteCityRequest, types::Tombstone};

/// Deletes an entry that was an error.
///
/// # Errors
/// CT-10 where the city has joined or the caller does not keep its entry; CT-11 where others hang on it; PL-8 without a reason.
pub fn delete(state: &City, command: &DeleteCityRequest, caller: &Caller) -> Refused<Tombstone> {
    rights::change(state, caller)?;
    if let Some(tenant) = state.tenant() {
        return Err(Refusal::rule("CT-10", "a city that has joined is no error of the register")
            .missing(tenant.name(), "is its tenant")
            .help("Rename the city, merge it, or correct its entry."));
    }
    if !state.successions.is_empty() {
        return Err(Refusal::rule("CT-11", "a city with a succession has a history that others follow")
            .missing("successions", "would be left without this city")
            .help("Leave it: a city that ended is no error of the register."));
    }
    if !state.constituents.is_empty() {
        return Err(Refusal::rule("CT-2", "a metropolis is deleted once it has no constituents")
            .missing("constituents", "must be taken out first")
            .help("Update the city with an empty list of constituents."));
    }
    tombstone(&command.reason)
}
