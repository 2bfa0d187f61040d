//! Ties by the cities at their ends: two rows a tie.

use hansa_journal::{Store, View, among, storage};
use hansa_kernel::Refusal;
use hansa_partnerships_domain::{agreement::Which, ties::Tie};
use sea_orm::{QueryFilter, Set, entity::prelude::*};

/// One end of a tie.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ties")]
pub struct Model {
    /// The agreement.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The city at this end.
    #[sea_orm(primary_key, auto_increment = false)]
    pub city: Uuid,
    /// The city at the other.
    pub partner: Uuid,
    /// The other's country, ISO 3166-1 alpha-2.
    pub partner_country: String,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct Ties;

impl View for Ties {
    type State = Tie;
    type Entity = Entity;
    type Row = ActiveModel;

    const ONE_ROW: bool = false;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, tie: &Tie) -> Vec<ActiveModel> {
        let row = |which: Which| ActiveModel {
            record: Set(record),
            city: Set(tie.ends[which].city.0),
            partner: Set(tie.ends[which.other()].city.0),
            partner_country: Set(tie.ends[which.other()].country.clone()),
        };
        Which::ALL.into_iter().map(row).collect()
    }
}

/// The ends of agreements at some cities, whatever their state.
///
/// # Errors
/// Where the database is away.
pub async fn of_each(store: &Store, cities: &[Uuid]) -> Result<Vec<Model>, Refusal> {
    let query = Entity::find().filter(among(store.engine(), Column::City, cities.iter().copied()));
    query.all(store.reader()).await.map_err(|error| storage(&error))
}
