//! The view of tenants and the list query on it.

use hansa_chassis::Page;
use hansa_journal::{FilterExt, JournalError, PageOfIds, Store, View, keyset, view_entity};
use hansa_proto::register::ListTenantsRequest;
use hansa_register_domain::Tenant;
use sea_orm::entity::prelude::*;

/// A tenant, by name, kind and city.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    /// The id of the record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The name in lower case.
    pub sort_name: String,
    /// `TenantKind`.
    pub kind: i32,
    /// The city that the tenant represents.
    pub city: Option<Uuid>,
}

view_entity!();

impl View for Entity {
    type State = Tenant;

    fn rows(record: Uuid, tenant: &Tenant) -> Vec<Model> {
        vec![Model {
            record,
            sort_name: tenant.display_name().to_lowercase(),
            kind: tenant.kind() as i32,
            city: tenant.city().map(|city| city.0),
        }]
    }
}

/// Returns a page of tenants, by name.
///
/// # Errors
/// `INVALID_FIELD` if the city is malformed; `UNAVAILABLE` if the database is unavailable.
pub async fn list(store: &Store, request: &ListTenantsRequest, page: &Page) -> Result<PageOfIds, JournalError> {
    let query = Entity::find().filter_enum(Column::Kind, request.kind).filter_name(
        Column::City,
        "cities",
        ("city", &request.city),
    )?;
    keyset(store.reader(), query, (Column::SortName, Column::Record), page.after.as_deref(), page.size).await
}
