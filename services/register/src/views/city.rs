//! Cities by name, country, tier and size.

use hansa_chassis::page::Page;
use hansa_journal::{Asked, Found, Store, keyset, view};
use hansa_kernel::Refusal;
use hansa_proto::register::ListCitiesRequest;
use hansa_register_domain::{City, size};
use sea_orm::{QueryFilter, entity::prelude::*};

view! {
    /// Cities by name, country, tier and size.
    "cities" Cities of City as |record, city| {
        /// Its name in lower case.
        sort_name: String = city.display_name().to_lowercase(),
        /// ISO 3166-1 alpha-2.
        country: String = city.country().to_owned(),
        /// `CityTier`.
        tier: i32 = city.tier() as i32,
        /// `SizeClass` (CT-1).
        size_class: i32 = size::class(city.population()) as i32,
        /// Whether it is a tenant.
        joined: bool = city.tenant().is_some(),
        /// Whether a register knows it.
        linked: bool = city.linked(),
    }
}

/// What a caller asks for, but for the page.
#[must_use]
pub fn question(asked: &ListCitiesRequest) -> String {
    format!(
        "cities {} {} {} {} {:?} {:?}",
        asked.country_code, asked.tier, asked.name_prefix, asked.size_class, asked.joined, asked.linked
    )
}

/// A page of cities, by name.
///
/// # Errors
/// Where the database is away.
pub async fn list(store: &Store, asked: &ListCitiesRequest, page: &Page) -> Result<Found, Refusal> {
    let mut query =
        Entity::find().where_stated(Column::Tier, asked.tier).where_stated(Column::SizeClass, asked.size_class);
    if !asked.country_code.is_empty() {
        query = query.filter(Column::Country.eq(&asked.country_code));
    }
    if !asked.name_prefix.is_empty() {
        let prefix = asked.name_prefix.to_lowercase();
        // A range, not a pattern: it uses the index, and no character of the prefix means anything else.
        query = query.filter(Column::SortName.gte(&prefix)).filter(Column::SortName.lt(format!("{prefix}\u{10ffff}")));
    }
    if let Some(joined) = asked.joined {
        query = query.filter(Column::Joined.eq(joined));
    }
    if let Some(linked) = asked.linked {
        query = query.filter(Column::Linked.eq(linked));
    }
    keyset(store.reader(), query, (Column::SortName, Column::Record), page.after.as_deref(), page.size).await
}
