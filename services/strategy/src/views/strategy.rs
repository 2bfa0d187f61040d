//! Strategies by tenant, city and state.

use hansa_chassis::page::Page;
use hansa_journal::{Asked, Found, Store, among, keyset, storage, view};
use hansa_kernel::{RecordId, RecordName, Refusal, TenantId};
use hansa_proto::strategy::{ListStrategiesRequest, StrategyState};
use hansa_strategy_domain::Strategy;
use sea_orm::{QueryFilter, entity::prelude::*};

view! {
    /// Strategies by tenant, city and state.
    "strategies" Strategies of Strategy as |record, strategy| {
        /// Whose it is.
        tenant: Uuid = hansa_kernel::Record::owner(strategy).0,
        /// The city that it is for.
        city: Uuid = RecordName::parse(strategy.city(), "cities", "city").map(|city| city.id.0).unwrap_or_default(),
        /// `StrategyState`.
        state: i32 = strategy.state() as i32,
        /// Sorts the newest first: the id, which begins with the time, with each of its bits turned.
        newest: String = format!("{:032x}", !record.as_u128()),
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
    let query = Entity::find()
        .filter(Column::Tenant.eq(tenant.0))
        .where_named(Column::City, "cities", ("city", &asked.city))?
        .where_stated(Column::State, asked.state);
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
