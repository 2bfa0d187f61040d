//! Strategies by tenant, city and state.

use hansa_chassis::page::Page;
use hansa_journal::{Found, Store, View, among, keyset, storage};
use hansa_kernel::{RecordId, RecordName, Refusal, TenantId};
use hansa_proto::strategy::{ListStrategiesRequest, StrategyState};
use hansa_strategy_domain::Strategy;
use sea_orm::{QueryFilter, Set, entity::prelude::*};

/// One strategy.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "strategies")]
pub struct Model {
    /// The strategy.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// Whose it is.
    pub tenant: Uuid,
    /// The city that it is for.
    pub city: Uuid,
    /// `StrategyState`.
    pub state: i32,
    /// Sorts the newest first: the id, which begins with the time, with each of its bits turned.
    pub newest: String,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct Strategies;

impl View for Strategies {
    type State = Strategy;
    type Entity = Entity;
    type Row = ActiveModel;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, strategy: &Strategy) -> Vec<ActiveModel> {
        let Ok(city) = RecordName::parse(strategy.city(), "cities", "city") else { return Vec::new() };
        vec![ActiveModel {
            record: Set(record),
            tenant: Set(hansa_kernel::Record::owner(strategy).0),
            city: Set(city.id.0),
            state: Set(strategy.state() as i32),
            newest: Set(format!("{:032x}", !record.as_u128())),
        }]
    }
}

/// A page of a tenant's strategies, the newest first.
///
/// # Errors
/// INVALID_FIELD where the city is no name; where the database is away.
pub async fn list(
    store: &Store,
    tenant: TenantId,
    asked: &ListStrategiesRequest,
    page: &Page,
) -> Result<Found, Refusal> {
    let mut query = Entity::find().filter(Column::Tenant.eq(tenant.0));
    if !asked.city.is_empty() {
        query = query.filter(Column::City.eq(RecordName::parse(&asked.city, "cities", "city")?.id.0));
    }
    if asked.state != 0 {
        query = query.filter(Column::State.eq(asked.state));
    }
    keyset(store.reader(), query, (Column::Newest, Column::Record), page.after.as_deref(), page.size).await
}

/// A city's strategies that were not superseded, with their states, the newest first.
///
/// # Errors
/// Where the database is away.
pub async fn standing(
    store: &Store,
    tenant: TenantId,
    city: RecordId,
) -> Result<Vec<(RecordId, StrategyState)>, Refusal> {
    let mut rows = standing_each(store, &[city.0]).await?;
    rows.retain(|row| row.tenant == tenant.0);
    rows.sort_by(|one, other| one.newest.cmp(&other.newest));
    Ok(rows.into_iter().map(|row| (RecordId(row.record), row.state.try_into().unwrap_or_default())).collect())
}

/// The strategies of some cities that were not superseded.
///
/// # Errors
/// Where the database is away.
pub async fn standing_each(store: &Store, cities: &[Uuid]) -> Result<Vec<Model>, Refusal> {
    Entity::find()
        .filter(among(store.engine(), Column::City, cities.iter().copied()))
        .filter(Column::State.ne(StrategyState::Superseded as i32))
        .all(store.reader())
        .await
        .map_err(|error| storage(&error))
}
