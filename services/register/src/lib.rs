//! The register service: cities, countries, tenants and offices (CT-1 to CT-5, CT-10, CT-11, CT-13, PL-1).

mod api;
mod migrations;
mod tenant_keys;
mod views;

use api::{city::Cities, country::Countries, office::Offices, tenant::Tenants};
use hansa_chassis::{Policies, ServiceBuilder, ServiceType, limits::MESSAGE_SIZES};
use hansa_proto::handlers::{city_service, country_service, office_service, tenant_service};
use hansa_register_domain::Office;

pub use migrations::Migrator;

/// The name of the service: of its package, its database and its feed.
pub const NAME: &str = "register";

/// Its packages and their policies.
pub const POLICIES: Policies = &[("hansa.register.v1", include_str!("../policy.cedar"))];

/// The service, for the list of the binary.
pub const SERVICE: ServiceType =
    ServiceType { name: NAME, policies: POLICIES, open: |context| Box::pin(context.open::<Migrator>(service())) };

/// Describes what the service consists of.
#[must_use]
pub fn service() -> ServiceBuilder {
    ServiceBuilder::new(NAME, POLICIES)
        .view::<views::city::Entity>()
        .view::<views::country::Entity>()
        .view::<views::tenant::Entity>()
        .record::<Office>()
        .grpc(|routes, handlers| {
            routes.add_service(city_service(Cities::from(handlers.clone()), MESSAGE_SIZES));
            routes.add_service(country_service(Countries::from(handlers.clone()), MESSAGE_SIZES));
            routes.add_service(tenant_service(Tenants::from(handlers.clone()), MESSAGE_SIZES));
            routes.add_service(office_service(Offices::from(handlers), MESSAGE_SIZES));
        })
}
