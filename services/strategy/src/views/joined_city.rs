//! The view of cities that have joined. The evaluator evaluates only these.

use super::tie;
use hansa_journal::{JournalError, Store, View, view_entity};
use hansa_kernel::{RecordId, TenantId};
use hansa_register_domain::reference::CityReference;
use sea_orm::{Condition, QueryFilter, QuerySelect, QueryTrait, Select, entity::prelude::*};

/// A row of the view: one city that has joined.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "joined_cities")]
pub struct Model {
    /// The city.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The country, ISO 3166-1 alpha-2.
    pub country: String,
    /// The tenant.
    pub tenant: Uuid,
}

view_entity!();

impl View for Entity {
    type State = CityReference;

    fn rows(record: Uuid, city: &CityReference) -> Vec<Model> {
        let row = |tenant: TenantId| Model { record, country: city.country.clone(), tenant: tenant.0 };
        city.tenant.map(row).into_iter().collect()
    }
}

async fn ids(store: &Store, query: Select<Entity>) -> Result<Vec<Uuid>, JournalError> {
    let query = query.select_only().column(Column::Record);
    Ok(query.into_tuple().all(store.reader()).await?)
}

fn with_a_tie(that: Condition) -> Condition {
    let cities = tie::Entity::find().select_only().column(tie::Column::City).filter(that).into_query();
    Condition::any().add(Column::Record.in_subquery(cities))
}

/// Returns all cities that have joined.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn all(store: &Store) -> Result<Vec<Uuid>, JournalError> {
    ids(store, Entity::find()).await
}

/// Returns the cities of a tenant, usually one.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn of_tenant(store: &Store, tenant: TenantId) -> Result<Vec<Uuid>, JournalError> {
    ids(store, Entity::find().filter(Column::Tenant.eq(tenant.0))).await
}

/// Returns the cities of a country, and those with a partner in it.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn touched_by_country(store: &Store, country: &str) -> Result<Vec<Uuid>, JournalError> {
    let partner = Condition::all().add(tie::Column::PartnerCountry.eq(country));
    ids(store, Entity::find().filter(with_a_tie(partner).add(Column::Country.eq(country)))).await
}

/// Returns the partners of a city.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn partners_of(store: &Store, city: RecordId) -> Result<Vec<Uuid>, JournalError> {
    ids(store, Entity::find().filter(with_a_tie(Condition::all().add(tie::Column::Partner.eq(city.0))))).await
}
