//! Countries by code.

use hansa_chassis::page::Page;
use hansa_journal::{Found, Store, View, keyset};
use hansa_kernel::Refusal;
use hansa_proto::register::ListCountriesRequest;
use hansa_register_domain::Country;
use sea_orm::{QueryFilter, Set, entity::prelude::*};

/// One country.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "countries")]
pub struct Model {
    /// The country.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// ISO 3166-1 alpha-2.
    pub code: String,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct Countries;

impl View for Countries {
    type State = Country;
    type Entity = Entity;
    type Row = ActiveModel;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, country: &Country) -> Vec<ActiveModel> {
        vec![ActiveModel { record: Set(record), code: Set(country.iso2().to_owned()) }]
    }
}

/// A page of countries, by code.
///
/// # Errors
/// Where the database is away.
pub async fn list(store: &Store, asked: &ListCountriesRequest, page: &Page) -> Result<Found, Refusal> {
    let mut query = Entity::find();
    if !asked.country_code.is_empty() {
        query = query.filter(Column::Code.eq(&asked.country_code));
    }
    keyset(store.reader(), query, (Column::Code, Column::Record), page.after.as_deref(), page.size).await
}
