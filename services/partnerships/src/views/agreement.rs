//! The view of agreements, and the lists over it.

use hansa_chassis::Page;
use hansa_journal::{FilterExt, JournalError, PageOfIds, Store, View, keyset, view_entity};
use hansa_kernel::{Caller, Record, RecordId, RecordName, Refusal};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::partnerships::{AgreementState as S, ListAgreementsRequest};
use sea_orm::{Condition, QueryFilter, Select, entity::prelude::*};

/// One agreement, with the columns that lists filter by.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agreements")]
pub struct Model {
    /// The record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The id as text. Ids of proposals sort by time; ids of imports are derived from their source.
    pub sort_key: String,
    /// `AgreementState`.
    pub state: i32,
    /// `AgreementKind`.
    pub kind: i32,
    /// The initiator.
    pub city_a: Uuid,
    /// The partner.
    pub city_b: Uuid,
    /// The country, ISO 3166-1 alpha-2.
    pub country_a: String,
    /// The country, ISO 3166-1 alpha-2.
    pub country_b: String,
    /// The tenant of the initiator.
    pub tenant_a: Option<Uuid>,
    /// The tenant of the partner.
    pub tenant_b: Option<Uuid>,
    /// The owner of the record.
    pub owner: Uuid,
    /// Whether the record is public.
    pub public: bool,
}

view_entity!();

impl View for Entity {
    type State = Agreement;

    fn rows(record: Uuid, agreement: &Agreement) -> Vec<Model> {
        vec![Model {
            record,
            sort_key: record.to_string(),
            state: agreement.state() as i32,
            kind: agreement.kind() as i32,
            city_a: agreement.cities().initiator.0,
            city_b: agreement.cities().partner.0,
            country_a: agreement.countries().initiator.to_owned(),
            country_b: agreement.countries().partner.to_owned(),
            tenant_a: agreement.tenants().initiator.map(|tenant| tenant.0),
            tenant_b: agreement.tenants().partner.map(|tenant| tenant.0),
            owner: agreement.owner().0,
            public: agreement.audience().public,
        }]
    }
}

/// Returns a page of the agreements that the caller may see.
///
/// # Errors
/// `INVALID_FIELD` if the city is malformed; `UNAVAILABLE` if the database is unavailable.
pub async fn list(
    store: &Store,
    caller: &Caller,
    request: &ListAgreementsRequest,
    page: &Page,
) -> Result<PageOfIds, JournalError> {
    let mut query = Entity::find()
        .filter(visible(caller))
        .filter_enum(Column::State, request.state)
        .filter_enum(Column::Kind, request.kind);
    if let Some(parties) = parties(request)? {
        query = query.filter(parties);
    }
    paged(store, query, page.after.as_deref(), page.size).await
}

/// Returns a page of the agreements of the caller's tenant with cities of a country.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn own_with(
    store: &Store,
    caller: &Caller,
    country: &str,
    after: Option<&[String]>,
    size: u64,
) -> Result<PageOfIds, JournalError> {
    let tenant = caller.tenant.0;
    let side = |own: Column, other: Column| Condition::all().add(own.eq(tenant)).add(other.eq(country));
    let either =
        Condition::any().add(side(Column::TenantA, Column::CountryB)).add(side(Column::TenantB, Column::CountryA));
    paged(store, Entity::find().filter(either), after, size).await
}

/// Returns a page of the agreements of a city that have not ended.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn standing_of(
    store: &Store,
    city: RecordId,
    after: Option<&[String]>,
    size: u64,
) -> Result<PageOfIds, JournalError> {
    let over = [S::Ended, S::Declined, S::Withdrawn, S::Superseded].map(|state| state as i32);
    let of = Condition::any().add(Column::CityA.eq(city.0)).add(Column::CityB.eq(city.0));
    paged(store, Entity::find().filter(of).filter(Column::State.is_not_in(over)), after, size).await
}

async fn paged(
    store: &Store,
    query: Select<Entity>,
    after: Option<&[String]>,
    size: u64,
) -> Result<PageOfIds, JournalError> {
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

/// Returns the filter by city and country: the city must be on one side, the country on the other. A missing value
/// matches every side.
fn parties(request: &ListAgreementsRequest) -> Result<Option<Condition>, Refusal> {
    let city = Some(request.city.as_str()).filter(|city| !city.is_empty());
    let city: Option<RecordId> =
        city.map(|city| RecordName::parse(city, "cities", "city")).transpose()?.map(|name| name.id);
    if city.is_none() && request.country_code.is_empty() {
        return Ok(None);
    }
    let side = |own: Column, other: Column| {
        let mut all = Condition::all();
        if let Some(city) = city {
            all = all.add(own.eq(city.0));
        }
        if !request.country_code.is_empty() {
            all = all.add(other.eq(request.country_code.as_str()));
        }
        all
    };
    let either = Condition::any().add(side(Column::CityA, Column::CountryB)).add(side(Column::CityB, Column::CountryA));
    Ok(Some(either))
}
