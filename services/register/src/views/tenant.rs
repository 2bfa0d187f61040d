//! Tenants by name, kind and city.

use hansa_chassis::page::Page;
use hansa_journal::{Found, Store, keyset, view};
use hansa_kernel::{RecordName, Refusal};
use hansa_proto::register::ListTenantsRequest;
use hansa_register_domain::Tenant;
use sea_orm::{QueryFilter, entity::prelude::*};

view! {
    /// Tenants by name, kind and city.
    "tenants" Tenants of Tenant as |record, tenant| {
        /// Its name in lower case.
        sort_name: String = tenant.display_name().to_lowercase(),
        /// `TenantKind`.
        kind: i32 = tenant.kind() as i32,
        /// The city that it is.
        city: Option<Uuid> = tenant.city().map(|city| city.0),
    }
}

/// A page of tenants, by name.
///
/// # Errors
/// INVALID_FIELD where the city is no name; where the database is away.
pub async fn list(store: &Store, asked: &ListTenantsRequest, page: &Page) -> Result<Found, Refusal> {
    let mut query = Entity::find();
    if asked.kind != 0 {
        query = query.filter(Column::Kind.eq(asked.kind));
    }
    if !asked.city.is_empty() {
        query = query.filter(Column::City.eq(RecordName::parse(&asked.city, "cities", "city")?.id.0));
    }
    keyset(store.reader(), query, (Column::SortName, Column::Record), page.after.as_deref(), page.size).await
}
