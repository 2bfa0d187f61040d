//! Tenants by name, kind and city.

use hansa_chassis::page::Page;
use hansa_journal::{Found, Store, View, keyset};
use hansa_kernel::{RecordName, Refusal};
use hansa_proto::register::ListTenantsRequest;
use hansa_register_domain::Tenant;
use sea_orm::{QueryFilter, Set, entity::prelude::*};

/// One tenant.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// Its name in lower case.
    pub sort_name: String,
    /// `TenantKind`.
    pub kind: i32,
    /// The city that it is.
    pub city: Option<Uuid>,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct Tenants;

impl View for Tenants {
    type State = Tenant;
    type Entity = Entity;
    type Row = ActiveModel;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, tenant: &Tenant) -> Vec<ActiveModel> {
        vec![ActiveModel {
            record: Set(record),
            sort_name: Set(tenant.display_name().to_lowercase()),
            kind: Set(tenant.kind() as i32),
            city: Set(tenant.city().map(|city| city.0)),
        }]
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
