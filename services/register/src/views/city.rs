//! The view of cities and the list query on it.

use hansa_chassis::Page;
use hansa_journal::{FilterExt, JournalError, PageOfIds, Store, View, keyset, view_entity};
use hansa_proto::register::ListCitiesRequest;
use hansa_register_domain::{City, size};
use sea_orm::{QueryFilter, entity::prelude::*};

/// A city, by name, country, tier and size.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "cities")]
pub struct Model {
    /// The id of the record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The name in lower case.
    pub sort_name: String,
    /// The country, ISO 3166-1 alpha-2.
    pub country: String,
    /// `CityTier`.
    pub tier: i32,
    /// `SizeClass` (CT-1).
    pub size_class: i32,
    /// Whether the city is a tenant.
    pub joined: bool,
    /// Whether a register identifies the city.
    pub registered: bool,
}

view_entity!();

impl View for Entity {
    type State = City;

    fn rows(record: Uuid, city: &City) -> Vec<Model> {
        vec![Model {
            record,
            sort_name: city.display_name().to_lowercase(),
            country: city.country().to_owned(),
            tier: city.tier() as i32,
            size_class: size::class(city.population()) as i32,
            joined: city.tenant().is_some(),
            registered: city.registered(),
        }]
    }
}

/// Returns a page of cities, by name.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn list(store: &Store, request: &ListCitiesRequest, page: &Page) -> Result<PageOfIds, JournalError> {
    let mut query =
        Entity::find().filter_enum(Column::Tier, request.tier).filter_enum(Column::SizeClass, request.size_class);
    if !request.country_code.is_empty() {
        query = query.filter(Column::Country.eq(&request.country_code));
    }
    if !request.display_name_prefix.is_empty() {
        let prefix = request.display_name_prefix.to_lowercase();
        // A range instead of a pattern: it uses the index, and no character of the prefix is a wildcard.
        query = query.filter(Column::SortName.gte(&prefix)).filter(Column::SortName.lt(format!("{prefix}\u{10ffff}")));
    }
    if let Some(joined) = request.joined {
        query = query.filter(Column::Joined.eq(joined));
    }
    if let Some(registered) = request.registered {
        query = query.filter(Column::Registered.eq(registered));
    }
    keyset(store.reader(), query, (Column::SortName, Column::Record), page.after.as_deref(), page.size).await
}
