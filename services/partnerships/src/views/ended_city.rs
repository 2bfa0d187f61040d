//! The view of cities with a successor, whether the succession is past or lies ahead (CT-11).

use chrono::NaiveDate;
use hansa_journal::{JournalError, Store, View, tables::mirror, view_entity};
use hansa_kernel::{RecordId, Reference};
use hansa_register_domain::reference::CityReference;
use sea_orm::{QueryFilter, QuerySelect, entity::prelude::*};

/// A city with a successor.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ended_cities")]
pub struct Model {
    /// The city.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The day of the succession, ISO 8601.
    pub since: String,
}

view_entity!();

impl View for Entity {
    type State = CityReference;

    fn rows(record: Uuid, city: &CityReference) -> Vec<Model> {
        let row = |since: NaiveDate| Model { record, since: since.to_string() };
        city.successor.map(|(_, since)| row(since)).into_iter().collect()
    }
}

/// Returns the cities whose succession is on or before a day.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn by(store: &Store, day: NaiveDate) -> Result<Vec<Uuid>, JournalError> {
    let query = Entity::find().select_only().column(Column::Record).filter(Column::Since.lte(day.to_string()));
    Ok(query.into_tuple().all(store.reader()).await?)
}

/// Returns whether the register has deleted a city. A city that is not mirrored yet does not count as deleted.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn is_deleted(store: &Store, city: RecordId) -> Result<bool, JournalError> {
    let found = mirror::Entity::find_by_id((CityReference::COLLECTION.to_owned(), city.0)).one(store.reader()).await;
    let row = found?;
    Ok(row.is_some_and(|row| row.revision == CityReference::REVISION.cast_signed() && row.state.is_empty()))
}
