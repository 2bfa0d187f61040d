//! The view of countries and the list query on it.

use hansa_chassis::Page;
use hansa_journal::{JournalError, PageOfIds, Store, View, keyset, view_entity};
use hansa_proto::register::ListCountriesRequest;
use hansa_register_domain::Country;
use sea_orm::{QueryFilter, entity::prelude::*};

/// A country, by code.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "countries")]
pub struct Model {
    /// The id of the record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The country, ISO 3166-1 alpha-2.
    pub code: String,
}

view_entity!();

impl View for Entity {
    type State = Country;

    fn rows(record: Uuid, country: &Country) -> Vec<Model> {
        vec![Model { record, code: country.iso2().to_owned() }]
    }
}

/// Returns a page of countries, by code.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn list(store: &Store, request: &ListCountriesRequest, page: &Page) -> Result<PageOfIds, JournalError> {
    let mut query = Entity::find();
    if !request.country_code.is_empty() {
        query = query.filter(Column::Code.eq(&request.country_code));
    }
    keyset(store.reader(), query, (Column::Code, Column::Record), page.after.as_deref(), page.size).await
}
