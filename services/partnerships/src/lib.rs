//! The partnerships service: agreements of two cities, from the proposal to the end (AG-1 to AG-14).

mod api;
mod migrations;
mod subscriptions;
mod views;

#[cfg(test)]
mod tests;

use hansa_chassis::{Desk, Module};
use hansa_journal::{Clock, Journal, JournalBuilder, NodeKeys, Store, StoreError, Worker, subscription::Subscription};
use std::sync::Arc;
use subscriptions::{
    inheritance,
    register::{Cities, Countries},
    succession::{self, Successions},
};

pub use migrations::Migrator;

/// The service's name: of its package, its database and its feed.
pub const NAME: &str = "partnerships";

/// Its packages and their policies.
pub const POLICIES: &[(&str, &str)] = &[("hansa.partnerships.v1", include_str!("../policy.cedar"))];

/// What the journal holds.
fn journal() -> JournalBuilder {
    Journal::of(NAME).viewed::<views::agreement::Agreements>()
}

/// What the service learns from the register.
fn from_register(journal: &Journal) -> Subscription {
    Subscription::new("partnerships-from-register", journal)
        .viewed::<Cities, views::ended_city::EndedCities>()
        .mirror::<Countries>()
}

/// What follows from its own changes for other agreements.
fn from_itself(journal: &Journal) -> Subscription {
    Subscription::new("partnerships-from-itself", journal).mirror::<Successions>()
}

/// Takes agreements out of force once stronger ones are (AG-3).
fn superseding(journal: &Journal) -> Box<dyn Worker> {
    let own = journal.clone();
    journal.queue(succession::QUEUE, move |id| succession::supersede(own.clone(), id))
}

/// Lets agreements follow the successor of a city that is no more (CT-11).
fn inheriting(journal: &Journal) -> Box<dyn Worker> {
    let own = journal.clone();
    journal.queue(inheritance::QUEUE, move |city| inheritance::inherit(own.clone(), city))
}

/// A succession may lie ahead when the register tells of it: its day comes by the calendar.
fn ending(journal: &Journal) -> Box<dyn Worker> {
    let store = journal.store().clone();
    journal.daily(inheritance::QUEUE, move |today| {
        let store = store.clone();
        async move { views::ended_city::by(&store, today).await }
    })
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
        policies: POLICIES,
        mount: Box::new(move |routes, policy, _stop| {
            let desk = Desk::new(own, policy);
            routes.add_service(api::agreement::server(desk.clone()));
            routes.add_service(api::partnership::server(desk.clone()));
            routes.add_service(api::attestation::server(desk));
        }),
        subscriptions: vec![("register", from_register(&journal)), (NAME, from_itself(&journal))],
        workers: vec![superseding(&journal), inheriting(&journal), ending(&journal)],
        journal,
    })
}
