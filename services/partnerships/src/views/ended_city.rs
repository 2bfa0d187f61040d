//! The cities that are no more, or will be no more from a day on, and whose records go to another (CT-11).

use chrono::NaiveDate;
use hansa_journal::{Store, View, storage, tables::mirror};
use hansa_kernel::{RecordId, Reference, Refusal};
use hansa_register_domain::reference::CityReference;
use sea_orm::{QueryFilter, QuerySelect, Set, entity::prelude::*};

/// One city.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ended_cities")]
pub struct Model {
    /// The city.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// Since when, ISO 8601.
    pub since: String,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct EndedCities;

impl View for EndedCities {
    type State = CityReference;
    type Entity = Entity;
    type Row = ActiveModel;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, city: &CityReference) -> Vec<ActiveModel> {
        let row = |since: NaiveDate| ActiveModel { record: Set(record), since: Set(since.to_string()) };
        city.successor.map(|(_, since)| row(since)).into_iter().collect()
    }
}

/// Those whose day has come.
///
/// # Errors
/// Where the database is away.
pub async fn by(store: &Store, day: NaiveDate) -> Result<Vec<Uuid>, Refusal> {
    let query = Entity::find().select_only().column(Column::Record).filter(Column::Since.lte(day.to_string()));
    query.into_tuple().all(store.reader()).await.map_err(|error| storage(&error))
}

/// Whether the register has deleted a city, and not only not told of it yet.
///
/// # Errors
/// Where the database is away.
pub async fn is_deleted(store: &Store, city: RecordId) -> Result<bool, Refusal> {
    let found = mirror::Entity::find_by_id((CityReference::COLLECTION.to_owned(), city.0)).one(store.reader()).await;
    let row = found.map_err(|error| storage(&error))?;
    Ok(row.is_some_and(|row| row.revision == CityReference::REVISION.cast_signed() && row.state.is_empty()))
}
