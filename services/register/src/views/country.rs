//! Countries by code.

use hansa_chassis::page::Page;
use hansa_journal::{Found, Store, keyset, view};
use hansa_kernel::Refusal;
use hansa_proto::register::ListCountriesRequest;
use hansa_register_domain::Country;
use sea_orm::{QueryFilter, entity::prelude::*};

view! {
    /// Countries by code.
    "countries" Countries of Country as |record, country| {
        /// ISO 3166-1 alpha-2.
        code: String = country.iso2().to_owned(),
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
