//! The rpc handlers of the service: they parse the request, name the record and the rule, and respond.

pub mod membership;
pub mod network;

use hansa_journal::{Journal, Loaded, Mirrors};
use hansa_kernel::{Record, RecordName, Refusal, Refused};
use hansa_networks_domain::{Network, criteria, membership::ApplicationFacts};
use hansa_register_domain::{
    country,
    reference::{self, CityReference, CountryReference},
};

/// Loads a network. Networks are public, so no relation is checked.
async fn network(journal: &Journal, name: &str) -> Refused<Loaded<Network>> {
    let name = RecordName::parse(name, "networks", "network")?;
    journal.load::<Network>(&name).await?.ok_or_else(|| Refusal::not_found(&name))
}

/// Reads the facts that decide an application of the city to the network today.
async fn application_facts(journal: &Journal, network: &Loaded<Network>, city: &str) -> Refused<ApplicationFacts> {
    let name = RecordName::parse(city, "cities", "city")?;
    let city = Mirrors::<CityReference>::new(journal).get(name.id).await?;
    let city = city.ok_or_else(|| reference::unknown(name.id))?;
    let country = Mirrors::<CountryReference>::new(journal).get(country::id_of(&city.country)).await?;
    let today = journal.clock().moment().today();
    Ok(ApplicationFacts {
        network: (network.name.clone(), network.state.owner()),
        city: city.tenant,
        tier: city.tier,
        successor: city.successor_on(today),
        eligibility: criteria::judge(&network.state.get().criteria, &city, country.as_deref(), today)?,
    })
}
