//! The view of ties: two rows per tie, one for each city.

use hansa_journal::{JournalError, Store, View, is_any_of, view_entity};
use hansa_partnerships_domain::{agreement::Which, ties::Tie};
use sea_orm::{QueryFilter, entity::prelude::*};

/// A row of the view: one of the two cities of a tie.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ties")]
pub struct Model {
    /// The agreement.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The city.
    #[sea_orm(primary_key, auto_increment = false)]
    pub city: Uuid,
    /// The other city.
    pub partner: Uuid,
    /// The country of the other city, ISO 3166-1 alpha-2.
    pub partner_country: String,
}

view_entity!();

impl View for Entity {
    type State = Tie;

    const ONE_ROW: bool = false;

    fn rows(record: Uuid, tie: &Tie) -> Vec<Model> {
        let row = |which: Which| Model {
            record,
            city: tie.ends[which].city.0,
            partner: tie.ends[which.other()].city.0,
            partner_country: tie.ends[which.other()].country.clone(),
        };
        Which::ALL.into_iter().map(row).collect()
    }
}

/// Returns the rows of some cities, for agreements in any state.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn of_each(store: &Store, cities: &[Uuid]) -> Result<Vec<Model>, JournalError> {
    let query = Entity::find().filter(is_any_of(store.engine(), Column::City, cities.iter().copied()));
    Ok(query.all(store.reader()).await?)
}
