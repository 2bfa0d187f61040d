//! Tenants by name, kind and city.

use hansa_chassis::page::Page;
use hansa_journal::{Asked, Found, Store, keyset, view};
use hansa_kernel::Refusal;
use hansa_proto::register::ListTenantsRequest;
use hansa_register_domain::Tenant;
use sea_orm::entity::prelude::*;

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
    let query = Entity::find().where_stated(Column::Kind, asked.kind).where_named(
        Column::City,
        "cities",
        ("city", &asked.city),
    )?;
    keyset(store.reader(), query, (Column::SortName, Column::Record), page.after.as_deref(), page.size).await
}
