//! The strategy service: strategies of cities, and the continuous evaluation of their diplomacy (ST-1 to ST-9).

mod api;
pub mod evaluator;
mod migrations;
mod portfolio;
mod subscriptions;
mod views;

use api::{evaluation::EvaluationHandler, strategy::Strategies};
use evaluator::{Evaluator, sweep};
use hansa_chassis::{Policies, ServiceBuilder, ServiceType, limits::MESSAGE_SIZES};
use hansa_proto::handlers::{evaluation_service, strategy_service};
use hansa_strategy_domain::{Evaluations, Rubric};
use std::sync::Arc;

pub use migrations::Migrator;

/// The name of the service. Its package, database and feed have the same name.
pub const NAME: &str = "strategy";

/// The API packages of the service with their Cedar policies.
pub const POLICIES: Policies = &[("hansa.strategy.v1", include_str!("../policy.cedar"))];

/// The entry of the service in the binary's list of services.
pub const SERVICE: ServiceType =
    ServiceType { name: NAME, policies: POLICIES, open: |context| Box::pin(context.open::<Migrator>(service())) };

/// Describes the views, records, subscriptions, workers and rpcs of the service.
#[must_use]
pub fn service() -> ServiceBuilder {
    let rubric = Arc::new(Rubric::embedded());
    let used = rubric.clone();
    ServiceBuilder::new(NAME, POLICIES)
        .view::<views::strategy::Entity>()
        .record::<Evaluations>()
        .subscription("register", subscriptions::register::subscription)
        .subscription("partnerships", subscriptions::partnerships::subscription)
        .subscription(NAME, subscriptions::own::subscription)
        .workers(move |journal| {
            let mut workers = Arc::new(Evaluator::new(journal, used)).queues();
            workers.push(sweep(journal));
            workers
        })
        .grpc(move |routes, handlers| {
            routes.add_service(strategy_service(Strategies::from(handlers.clone()), MESSAGE_SIZES));
            routes.add_service(evaluation_service(EvaluationHandler::new(handlers, rubric), MESSAGE_SIZES));
        })
}
