//! Decides which tenant may change an entry of the register (CT-10). The Cedar policies decide about roles within a
//! tenant.

use crate::city::City;
use hansa_kernel::{Caller, ReasonClass, Record, Refusal, Refused, Role};

/// Checks that the caller is a steward of this node. Refused under CT-10 otherwise.
pub fn steward(caller: &Caller) -> Refused<()> {
    if caller.has(Role::Steward) {
        return Ok(());
    }
    Err(Refusal::because(ReasonClass::NotPermitted, "CT-10", "NOT_STEWARD", "only the node's steward may do this")
        .missing("role", "steward")
        .help("Ask the steward of your node."))
}

/// Checks that the caller may change the city. The city's own tenant may or, until the city joins, the steward who
/// owns the entry. Refused under CT-10 otherwise.
pub fn change(city: &City, caller: &Caller) -> Refused<()> {
    let own = caller.tenant == city.owner();
    match city.tenant() {
        Some(_) if own => Ok(()),
        Some(tenant) => Err(Refusal::because(
            ReasonClass::NotPermitted,
            "CT-10",
            "NOT_CITY_OWNER",
            "only the city's own tenant may change the entry of a city that has joined",
        )
        .missing(tenant.name(), "must make the change")
        .help("Ask the city's tenant to make the change.")),
        None if own => steward(caller),
        None => Err(Refusal::because(
            ReasonClass::NotPermitted,
            "CT-10",
            "NOT_CITY_KEEPER",
            "only the steward who owns the entry may change a city that has not joined",
        )
        .missing(city.owner().name(), "must make the change")
        .help("Ask that steward to make the change, or let the city join first.")),
    }
}
