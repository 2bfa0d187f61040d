//! The cities that are tenants: those alone are evaluated.

use super::tie;
use hansa_journal::{Store, View, storage};
use hansa_kernel::{RecordId, Refusal, TenantId};
use hansa_register_domain::reference::CityReference;
use sea_orm::{Condition, QueryFilter, QuerySelect, QueryTrait, Select, Set, entity::prelude::*};

/// One city that has joined.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "joined_cities")]
pub struct Model {
    /// The city.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// Its country, ISO 3166-1 alpha-2.
    pub country: String,
    /// Its tenant.
    pub tenant: Uuid,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct JoinedCities;

impl View for JoinedCities {
    type State = CityReference;
    type Entity = Entity;
    type Row = ActiveModel;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, city: &CityReference) -> Vec<ActiveModel> {
        let row = |tenant: TenantId| ActiveModel {
            record: Set(record),
            country: Set(city.country.clone()),
            tenant: Set(tenant.0),
        };
        city.tenant.map(row).into_iter().collect()
    }
}

async fn ids(store: &Store, query: Select<Entity>) -> Result<Vec<Uuid>, Refusal> {
    let query = query.select_only().column(Column::Record);
    query.into_tuple().all(store.reader()).await.map_err(|error| storage(&error))
}

fn with_a_tie(that: Condition) -> Condition {
    let cities = tie::Entity::find().select_only().column(tie::Column::City).filter(that).into_query();
    Condition::any().add(Column::Record.in_subquery(cities))
}

/// All of them.
///
/// # Errors
/// Where the database is away.
pub async fn all(store: &Store) -> Result<Vec<Uuid>, Refusal> {
    ids(store, Entity::find()).await
}

/// Those of a tenant: one as a rule.
///
/// # Errors
/// Where the database is away.
pub async fn of_tenant(store: &Store, tenant: TenantId) -> Result<Vec<Uuid>, Refusal> {
    ids(store, Entity::find().filter(Column::Tenant.eq(tenant.0))).await
}

/// Those of a country, and those with a partner there.
///
/// # Errors
/// Where the database is away.
pub async fn touched_by_country(store: &Store, country: &str) -> Result<Vec<Uuid>, Refusal> {
    let partner = Condition::all().add(tie::Column::PartnerCountry.eq(country));
    ids(store, Entity::find().filter(with_a_tie(partner).add(Column::Country.eq(country)))).await
}

/// Those that have a city as a partner.
///
/// # Errors
/// Where the database is away.
pub async fn partners_of(store: &Store, city: RecordId) -> Result<Vec<Uuid>, Refusal> {
    ids(store, Entity::find().filter(with_a_tie(Condition::all().add(tie::Column::Partner.eq(city.0))))).await
}
