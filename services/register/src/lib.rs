//! The register service: cities, countries, tenants and offices (CT-1 to CT-5, CT-10, CT-11, CT-13, PL-1).

mod api;
mod custody;
mod migrations;
mod views;

use hansa_chassis::{Desk, Module};
use hansa_journal::{Clock, Journal, JournalBuilder, NodeKeys, Store, StoreError};
use hansa_register_domain::Office;
use std::sync::Arc;

pub use migrations::Migrator;

/// The service's name: of its package, its database and its feed.
pub const NAME: &str = "register";

/// Its packages and their policies.
pub const POLICIES: &[(&str, &str)] = &[("hansa.register.v1", include_str!("../policy.cedar"))];

/// What the journal holds.
fn journal() -> JournalBuilder {
    Journal::of(NAME)
        .viewed::<views::city::Cities>()
        .viewed::<views::country::Countries>()
        .viewed::<views::tenant::Tenants>()
        .record::<Office>()
}

/// Opens the service on a store.
///
/// # Errors
/// Where the database cannot be read.
pub async fn open(store: Store, node: NodeKeys, clock: Arc<dyn Clock>) -> Result<Module, StoreError> {
    let journal = journal().open(store, node, clock).await?;
    let own = journal.clone();
    Ok(Module {
        name: NAME,
        journal,
        policies: POLICIES,
        mount: Box::new(move |routes, policy, _stop| {
            let desk = Desk::new(own, policy);
            routes.add_service(api::city::server(desk.clone()));
            routes.add_service(api::country::server(desk.clone()));
            routes.add_service(api::tenant::server(desk.clone()));
            routes.add_service(api::office::server(desk));
        }),
        subscriptions: Vec::new(),
        workers: Vec::new(),
    })
}
