//! Cities by name, country, tier and size.

use hansa_chassis::page::Page;
use hansa_journal::{Found, Store, View, keyset};
use hansa_kernel::Refusal;
use hansa_proto::register::ListCitiesRequest;
use hansa_register_domain::{City, size};
use sea_orm::{QueryFilter, Set, entity::prelude::*};

/// One city.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "cities")]
pub struct Model {
    /// The city.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// Its name in lower case.
    pub sort_name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// `CityTier`.
    pub tier: i32,
    /// `SizeClass` (CT-1).
    pub size_class: i32,
    /// Whether it is a tenant.
    pub joined: bool,
    /// Whether a register knows it.
    pub linked: bool,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct Cities;

impl View for Cities {
    type State = City;
    type Entity = Entity;
    type Row = ActiveModel;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, city: &City) -> Vec<ActiveModel> {
        vec![ActiveModel {
            record: Set(record),
            sort_name: Set(city.display_name().to_lowercase()),
            country: Set(city.country().to_owned()),
            tier: Set(city.tier() as i32),
            size_class: Set(size::class(city.population()) as i32),
            joined: Set(city.tenant().is_some()),
            linked: Set(city.linked()),
        }]
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
    let mut query = Entity::find();
    if !asked.country_code.is_empty() {
        query = query.filter(Column::Country.eq(&asked.country_code));
    }
    if asked.tier != 0 {
        query = query.filter(Column::Tier.eq(asked.tier));
    }
    if asked.size_class != 0 {
        query = query.filter(Column::SizeClass.eq(asked.size_class));
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
