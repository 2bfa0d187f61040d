//! The strategy service: strategies of cities, and how their diplomacy stands (ST-1 to ST-9).

mod api;
pub mod evaluator;
mod migrations;
mod portfolio;
mod subscriptions;
mod views;

use evaluator::{Evaluator, sweep};
use hansa_chassis::{Desk, Module};
use hansa_journal::{Clock, Journal, JournalBuilder, NodeKeys, Store, StoreError};
use hansa_strategy_domain::{Evaluations, Rubric};
use std::sync::Arc;

pub use migrations::Migrator;

/// The service's name: of its package, its database and its feed.
pub const NAME: &str = "strategy";

/// Its packages and their policies.
pub const POLICIES: &[(&str, &str)] = &[("hansa.strategy.v1", include_str!("../policy.cedar"))];

/// What the journal holds.
fn journal() -> JournalBuilder {
    Journal::of(NAME).viewed::<views::strategy::Strategies>().record::<Evaluations>()
}

/// Opens the service on a store.
///
/// # Errors
/// Where the database cannot be read.
pub async fn open(store: Store, node: NodeKeys, clock: Arc<dyn Clock>) -> Result<Module, StoreError> {
    let journal = journal().open(store, node, clock).await?;
    let rubric = Arc::new(Rubric::embedded());
    let mut workers = Arc::new(Evaluator::new(&journal, rubric.clone())).queues();
    workers.push(sweep(&journal));
    let subscriptions = vec![
        ("register", subscriptions::register::subscription(&journal)),
        ("partnerships", subscriptions::partnerships::subscription(&journal)),
        (NAME, subscriptions::own::subscription(&journal)),
    ];
    let own = journal.clone();
    Ok(Module {
        name: NAME,
        journal,
        policies: POLICIES,
        mount: Box::new(move |routes, policy, drain| {
            let desk = Desk::new(own, policy);
            routes.add_service(api::strategy::server(desk.clone()));
            routes.add_service(api::evaluation::server(desk, rubric, drain));
        }),
        subscriptions,
        workers,
    })
}
