//! The view of strategies, and its queries.

use hansa_chassis::Page;
use hansa_journal::{FilterExt, JournalError, PageOfIds, Store, View, is_any_of, keyset, view_entity};
use hansa_kernel::{RecordId, RecordName, TenantId};
use hansa_proto::strategy::{ListStrategiesRequest, StrategyState};
use hansa_strategy_domain::Strategy;
use sea_orm::{QueryFilter, entity::prelude::*};

/// A row of the view: one strategy with its tenant, city and state.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "strategies")]
pub struct Model {
    /// The record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The owner.
    pub tenant: Uuid,
    /// The city of the strategy.
    pub city: Uuid,
    /// `StrategyState`.
    pub state: i32,
    /// The sort key for newest first: the inverted bits of the id, whose first bits are the creation time.
    pub newest: String,
}

view_entity!();

impl View for Entity {
    type State = Strategy;

    fn rows(record: Uuid, strategy: &Strategy) -> Vec<Model> {
        vec![Model {
            record,
            tenant: hansa_kernel::Record::owner(strategy).0,
            city: RecordName::parse(strategy.city(), "cities", "city").map(|city| city.id.0).unwrap_or_default(),
            state: strategy.state() as i32,
            newest: format!("{:032x}", !record.as_u128()),
        }]
    }
}

/// Returns a page of a tenant's strategies, the newest first.
///
/// # Errors
/// `INVALID_FIELD` if the city is malformed; `UNAVAILABLE` if the database is unavailable.
pub async fn list(
    store: &Store,
    tenant: TenantId,
    request: &ListStrategiesRequest,
    page: &Page,
) -> Result<PageOfIds, JournalError> {
    let query = Entity::find()
        .filter(Column::Tenant.eq(tenant.0))
        .filter_name(Column::City, "cities", ("city", &request.city))?
        .filter_enum(Column::State, request.state);
    keyset(store.reader(), query, (Column::Newest, Column::Record), page.after.as_deref(), page.size).await
}

/// Returns the strategies of a city that are not superseded, with their states, the newest first.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn standing(
    store: &Store,
    tenant: TenantId,
    city: RecordId,
) -> Result<Vec<(RecordId, StrategyState)>, JournalError> {
    let mut rows = standing_each(store, &[city.0]).await?;
    rows.retain(|row| row.tenant == tenant.0);
    rows.sort_by(|one, other| one.newest.cmp(&other.newest));
    Ok(rows.into_iter().map(|row| (RecordId(row.record), row.state.try_into().unwrap_or_default())).collect())
}

/// Returns the strategies of some cities that are not superseded.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn standing_each(store: &Store, cities: &[Uuid]) -> Result<Vec<Model>, JournalError> {
    Ok(Entity::find()
        .filter(is_any_of(store.engine(), Column::City, cities.iter().copied()))
        .filter(Column::State.ne(StrategyState::Superseded as i32))
        .all(store.reader())
        .await?)
}
