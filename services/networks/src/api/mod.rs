//! The gRPC methods: name the record and the rule.

pub mod membership;
pub mod network;

use crate::{Cities, Countries};
use hansa_chassis::Desk;
use hansa_journal::{Loaded, Mirrors};
use hansa_kernel::{Record, RecordName, Refusal, Refused};
use hansa_networks_domain::{Network, criteria, membership::Ground};
use hansa_register_domain::{country, reference};

/// A network that is there: networks are public.
async fn network(desk: &Desk, name: &str) -> Refused<Loaded<Network>> {
    let name = RecordName::parse(name, "networks", "network")?;
    desk.journal().load::<Network>(&name).await?.ok_or_else(|| Refusal::not_found(&name))
}

/// What a city's application to a network is judged by today.
async fn ground(desk: &Desk, network: &Loaded<Network>, city: &str) -> Refused<Ground> {
    let name = RecordName::parse(city, "cities", "city")?;
    let known = Mirrors::<Cities>::of(desk.journal()).get(name.id).await?;
    let city = known.ok_or_else(|| reference::unknown(name.id))?;
    let country = Mirrors::<Countries>::of(desk.journal()).get(country::id_of(&city.country)).await?;
    let today = desk.journal().clock().moment().today();
    Ok(Ground {
        network: (network.name.clone(), network.state.owner()),
        city: city.tenant,
        tier: city.tier,
        successor: city.successor_on(today),
        eligibility: criteria::judge(&network.state.get().criteria, &city, country.as_deref(), today)?,
    })
}
