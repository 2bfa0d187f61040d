//! Deletion of a city that was entered in error. A tombstone remains (PL-8).

use super::City;
use crate::rights;
use hansa_kernel::{Caller, Refusal, Refused, record::tombstone};
use hansa_proto::{register::RetractCityRequest, types::Tombstone};

/// Deletes a city that was entered in error.
///
/// # Errors
/// Refused under CT-10 if the city has joined or the caller is not the steward of its entry, under CT-11 if the city
/// took part in a merger or split, under CT-2 if it has constituents, and under PL-8 if the command gives no reason.
pub fn delete(state: &City, command: &RetractCityRequest, caller: &Caller) -> Refused<Tombstone> {
    rights::change(state, caller)?;
    if let Some(tenant) = state.tenant() {
        return Err(Refusal::rule("CT-10", "CITY_JOINED", "a city that has joined cannot be deleted")
            .missing(tenant.name(), "is its tenant")
            .help("Rename the city, merge it, or correct its entry."));
    }
    if !state.successions.is_empty() {
        return Err(Refusal::rule(
            "CT-11",
            "CITY_HAS_SUCCESSION",
            "a city that took part in a merger or split cannot be deleted",
        )
        .missing("successions", "refer to this city")
        .help("Keep the city. A city that has ended stays in the register."));
    }
    if !state.constituents.is_empty() {
        return Err(Refusal::rule("CT-2", "CONSTITUENTS_LEFT", "a metropolis with constituents cannot be deleted")
            .missing("constituents", "must be removed first")
            .help("Update the city with an empty list of constituents."));
    }
    tombstone(&command.reason)
}
