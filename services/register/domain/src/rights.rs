//! Who may change an entry of the register (CT-10). Roles within a tenant are the policies' matter.

use crate::city::City;
use hansa_kernel::{Caller, Reason, Record, Refusal, Refused, Role};

/// The caller is a steward of this node.
pub fn steward(caller: &Caller) -> Refused<()> {
    if caller.has(Role::Steward) {
        return Ok(());
    }
    Err(Refusal::because(Reason::NotPermitted, "CT-10", "only the node's steward may do this")
        .missing("role", "steward")
        .help("Ask the steward of your node."))
}

/// The caller may change the city: its own tenant or, until it joins, the steward whose entry it is.
pub fn change(city: &City, caller: &Caller) -> Refused<()> {
    let own = caller.tenant == city.owner();
    match city.tenant() {
        Some(_) if own => Ok(()),
        Some(tenant) => Err(Refusal::because(
            Reason::NotPermitted,
            "CT-10",
            "the city has joined: its own tenant alone changes its entry",
        )
        .missing(tenant.name(), "must make the change")
        .help("Ask the city.")),
        None if own => steward(caller),
        None => Err(Refusal::because(
            Reason::NotPermitted,
            "CT-10",
            "the city has not joined: the steward who keeps its entry changes it",
        )
        .missing(city.owner().name(), "must make the change")
        .help("Ask that steward, or let the city join.")),
    }
}
