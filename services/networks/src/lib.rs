//! The networks service: networks, their membership criteria, and memberships (NW-1 to NW-3).

mod api;
mod migrations;
mod subscriptions;
mod views;

use api::{membership::Memberships, network::Networks};
use hansa_chassis::{Policies, ServiceBuilder, ServiceType, limits::MESSAGE_SIZES};
use hansa_proto::handlers::{membership_service, network_service};

pub use migrations::Migrator;

/// The name of the service. Its package, database and feed have the same name.
pub const NAME: &str = "networks";

/// The API packages of the service with their Cedar policies.
pub const POLICIES: Policies = &[("hansa.networks.v1", include_str!("../policy.cedar"))];

/// The entry of the service in the binary's list of services.
pub const SERVICE: ServiceType =
    ServiceType { name: NAME, policies: POLICIES, open: |context| Box::pin(context.open::<Migrator>(service())) };

/// Describes the views, subscriptions and rpcs of the service.
#[must_use]
pub fn service() -> ServiceBuilder {
    ServiceBuilder::new(NAME, POLICIES)
        .view::<views::network::Entity>()
        .view::<views::membership::Entity>()
        .subscription("register", subscriptions::register)
        .grpc(|routes, handlers| {
            routes.add_service(network_service(Networks::from(handlers.clone()), MESSAGE_SIZES));
            routes.add_service(membership_service(Memberships::from(handlers), MESSAGE_SIZES));
        })
}
