//! Agreements by city, country, state and kind, and by who may see them.

use hansa_chassis::page::Page;
use hansa_journal::{Found, Store, View, keyset};
use hansa_kernel::{Caller, Record, RecordId, RecordName, Refusal};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::partnerships::{AgreementState as S, ListAgreementsRequest};
use sea_orm::{Condition, QueryFilter, Select, Set, entity::prelude::*};

/// One agreement. `a` is the side of the initiator, `b` the partner's.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agreements")]
pub struct Model {
    /// The agreement.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// Its id as text: by time where it was proposed here, steady for imports.
    pub sort_key: String,
    /// `AgreementState`.
    pub state: i32,
    /// `AgreementKind`.
    pub kind: i32,
    /// The initiator.
    pub city_a: Uuid,
    /// The partner.
    pub city_b: Uuid,
    /// ISO 3166-1 alpha-2.
    pub country_a: String,
    /// ISO 3166-1 alpha-2.
    pub country_b: String,
    /// The tenant that has taken the initiator's side.
    pub tenant_a: Option<Uuid>,
    /// The tenant that has taken the partner's side.
    pub tenant_b: Option<Uuid>,
    /// Whose record it is.
    pub owner: Uuid,
    /// Whether everyone sees that it is there.
    pub public: bool,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// The view.
#[derive(Debug)]
pub struct Agreements;

impl View for Agreements {
    type State = Agreement;
    type Entity = Entity;
    type Row = ActiveModel;

    fn record_column() -> Column {
        Column::Record
    }

    fn rows(record: Uuid, agreement: &Agreement) -> Vec<ActiveModel> {
        let (cities, countries, tenants) = (agreement.cities(), agreement.countries(), agreement.tenants());
        vec![ActiveModel {
            record: Set(record),
            sort_key: Set(record.to_string()),
            state: Set(agreement.state() as i32),
            kind: Set(agreement.kind() as i32),
            city_a: Set(cities.initiator.0),
            city_b: Set(cities.partner.0),
            country_a: Set(countries.initiator.to_owned()),
            country_b: Set(countries.partner.to_owned()),
            tenant_a: Set(tenants.initiator.map(|tenant| tenant.0)),
            tenant_b: Set(tenants.partner.map(|tenant| tenant.0)),
            owner: Set(agreement.owner().0),
            public: Set(agreement.audience().public),
        }]
    }
}

/// What a caller asks for, but for the page.
#[must_use]
pub fn question(asked: &ListAgreementsRequest) -> String {
    format!("agreements {} {} {} {}", asked.city, asked.state, asked.kind, asked.country)
}

/// A page of the agreements that the caller may see.
///
/// # Errors
/// INVALID_FIELD where the city is no name; where the database is away.
pub async fn list(
    store: &Store,
    caller: &Caller,
    asked: &ListAgreementsRequest,
    page: &Page,
) -> Result<Found, Refusal> {
    let mut query = Entity::find().filter(visible(caller));
    if let Some(parties) = parties(asked)? {
        query = query.filter(parties);
    }
    if asked.state != 0 {
        query = query.filter(Column::State.eq(asked.state));
    }
    if asked.kind != 0 {
        query = query.filter(Column::Kind.eq(asked.kind));
    }
    paged(store, query, page.after.as_deref(), page.size).await
}

/// A page of the agreements in which the caller's tenant has one side, and a city of a country the other.
///
/// # Errors
/// Where the database is away.
pub async fn own_with(
    store: &Store,
    caller: &Caller,
    country: &str,
    after: Option<&[String]>,
    size: u64,
) -> Result<Found, Refusal> {
    let tenant = caller.tenant.0;
    let side = |own: Column, other: Column| Condition::all().add(own.eq(tenant)).add(other.eq(country));
    let either =
        Condition::any().add(side(Column::TenantA, Column::CountryB)).add(side(Column::TenantB, Column::CountryA));
    paged(store, Entity::find().filter(either), after, size).await
}

/// A page of the agreements of a city that are not over.
///
/// # Errors
/// Where the database is away.
pub async fn standing_of(store: &Store, city: RecordId, after: Option<&[String]>, size: u64) -> Result<Found, Refusal> {
    let over = [S::Ended, S::Declined, S::Withdrawn, S::Superseded].map(|state| state as i32);
    let of = Condition::any().add(Column::CityA.eq(city.0)).add(Column::CityB.eq(city.0));
    paged(store, Entity::find().filter(of).filter(Column::State.is_not_in(over)), after, size).await
}

async fn paged(store: &Store, query: Select<Entity>, after: Option<&[String]>, size: u64) -> Result<Found, Refusal> {
    keyset(store.reader(), query, (Column::SortKey, Column::Record), after, size).await
}

fn visible(caller: &Caller) -> Condition {
    let tenant = caller.tenant.0;
    Condition::any()
        .add(Column::Public.eq(true))
        .add(Column::TenantA.eq(tenant))
        .add(Column::TenantB.eq(tenant))
        .add(Column::Owner.eq(tenant))
}

/// The city on one side, the country on the other; where one of them is not asked for, on either.
fn parties(asked: &ListAgreementsRequest) -> Result<Option<Condition>, Refusal> {
    let city = Some(asked.city.as_str()).filter(|city| !city.is_empty());
    let city: Option<RecordId> =
        city.map(|city| RecordName::parse(city, "cities", "city")).transpose()?.map(|name| name.id);
    if city.is_none() && asked.country.is_empty() {
        return Ok(None);
    }
    let side = |own: Column, other: Column| {
        let mut all = Condition::all();
        if let Some(city) = city {
            all = all.add(own.eq(city.0));
        }
        if !asked.country.is_empty() {
            all = all.add(other.eq(asked.country.as_str()));
        }
        all
    };
    let either = Condition::any().add(side(Column::CityA, Column::CountryB)).add(side(Column::CityB, Column::CountryA));
    Ok(Some(either))
}
