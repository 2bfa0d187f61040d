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

/// The name of the service, its proto package, its database and its feed.
pub const NAME: &str = "register";

/// The proto packages of the service and their Cedar policies.
pub const POLICIES: Policies = &[("hansa.register.v1", include_str!("../policy.cedar"))];

/// The service, as the binary lists it.
pub const SERVICE: ServiceType =
    ServiceType { name: NAME, policies: POLICIES, open: |context| Box::pin(context.open::<Migrator>(service())) };

/// Returns the builder of the service: views, records and gRPC handlers.
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
