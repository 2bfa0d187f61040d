//! The partnerships service: agreements of two cities, from the proposal to the end (AG-1 to AG-14).

mod api;
mod facts;
mod migrations;
mod subscriptions;
mod views;

#[cfg(test)]
mod tests;

use api::Agreements;
use hansa_chassis::{Policies, ServiceBuilder, ServiceType, limits::MESSAGE_SIZES};
use hansa_journal::{Journal, Worker};
use hansa_proto::handlers::{agreement_service, attestation_service, partnership_service};
use subscriptions::{inheritance, queues, register, succession};

pub use migrations::Migrator;

/// The name of the service, its package, its database and its feed.
pub const NAME: &str = "partnerships";

/// The service's packages and their policies.
pub const POLICIES: Policies = &[("hansa.partnerships.v1", include_str!("../policy.cedar"))];

/// The entry for the binary's list of services.
pub const SERVICE: ServiceType =
    ServiceType { name: NAME, policies: POLICIES, open: |context| Box::pin(context.open::<Migrator>(service())) };

/// Builds the description of the service: views, subscriptions, workers and rpcs.
#[must_use]
pub fn service() -> ServiceBuilder {
    ServiceBuilder::new(NAME, POLICIES)
        .view::<views::agreement::Entity>()
        .subscription("register", register::subscription)
        .subscription(NAME, succession::subscription)
        .workers(|journal| vec![supersede(journal), inherit(journal), inherit_daily(journal)])
        .grpc(|routes, handlers| {
            let agreements = Agreements::from(handlers);
            routes.add_service(agreement_service(agreements.clone(), MESSAGE_SIZES));
            routes.add_service(partnership_service(agreements.clone(), MESSAGE_SIZES));
            routes.add_service(attestation_service(agreements, MESSAGE_SIZES));
        })
}

/// Creates the worker that supersedes agreements when stronger ones enter into force (AG-3).
fn supersede(journal: &Journal) -> Box<dyn Worker> {
    let own = journal.clone();
    journal.work_queue(queues::SUPERSEDE, move |id| succession::supersede(own.clone(), id))
}

/// Creates the worker that moves agreements to a city's successor (CT-11).
fn inherit(journal: &Journal) -> Box<dyn Worker> {
    let own = journal.clone();
    journal.work_queue(queues::INHERIT, move |city| inheritance::inherit(own.clone(), city))
}

/// Creates the worker that enqueues the cities whose succession takes effect on a new day.
fn inherit_daily(journal: &Journal) -> Box<dyn Worker> {
    let store = journal.store().clone();
    journal.daily(queues::INHERIT, move |today| {
        let store = store.clone();
        async move { Ok(views::ended_city::by(&store, today).await?) }
    })
}
