//! The networks service: networks, their membership criteria, and memberships (NW-1 to NW-3).

mod api;
mod migrations;
mod subscriptions;
mod views;

use api::{membership::Memberships, network::Networks};
use hansa_chassis::{Policies, ServiceBuilder, ServiceType, limits::MESSAGE_SIZES};
use hansa_proto::handlers::{membership_service, network_service};

pub use migrations::Migrator;

/// The name of the service: of its package, its database and its feed.
pub const NAME: &str = "networks";

/// Its packages and their policies.
pub const POLICIES: Policies = &[("hansa.networks.v1", include_str!("../policy.cedar"))];

/// The service, for the list of the binary.
pub const SERVICE: ServiceType =
    ServiceType { name: NAME, policies: POLICIES, open: |context| Box::pin(context.open::<Migrator>(service())) };

/// Describes what the service consists of.
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
