//! The networks service: networks, what they ask of their members, and memberships (NW-1 to NW-3).

mod api;
mod migrations;
mod views;

use hansa_chassis::{Desk, Module};
use hansa_journal::{Clock, Journal, Mirror, NodeKeys, Store, StoreError, subscription::Subscription};
use hansa_register_domain::reference::{CityReference, CountryReference};
use std::sync::Arc;

pub use migrations::Migrator;

/// The service's name: of its package, its database and its feed.
pub const NAME: &str = "networks";

/// Its packages and their policies.
pub const POLICIES: &[(&str, &str)] = &[("hansa.networks.v1", include_str!("../policy.cedar"))];

/// The register's cities.
struct Cities;
impl Mirror for Cities {
    type State = CityReference;
}

/// The register's countries.
struct Countries;
impl Mirror for Countries {
    type State = CountryReference;
}

/// Opens the service on a store.
///
/// # Errors
/// Where the database cannot be read.
pub async fn open(store: Store, node: NodeKeys, clock: Arc<dyn Clock>) -> Result<Module, StoreError> {
    let journal = Journal::of(NAME).viewed::<views::network::Networks>().viewed::<views::membership::Memberships>();
    let journal = journal.open(store, node, clock).await?;
    let own = journal.clone();
    let from_register = Subscription::new("networks-from-register", &journal).mirror::<Cities>().mirror::<Countries>();
    Ok(Module {
        name: NAME,
        policies: POLICIES,
        mount: Box::new(move |routes, policy, _| {
            let desk = Desk::new(own, policy);
            routes.add_service(api::network::server(desk.clone()));
            routes.add_service(api::membership::server(desk));
        }),
        subscriptions: vec![("register", from_register)],
        workers: Vec::new(),
        journal,
    })
}
