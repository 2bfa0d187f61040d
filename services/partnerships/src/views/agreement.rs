//! Agreements by city, country, state and kind, and by who may see them.

use hansa_chassis::page::Page;
use hansa_journal::{Asked, Found, Store, keyset, view};
use hansa_kernel::{Caller, Record, RecordId, RecordName, Refusal};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::partnerships::{AgreementState as S, ListAgreementsRequest};
use sea_orm::{Condition, QueryFilter, Select, entity::prelude::*};

view! {
    /// Agreements by city, country, state and kind, and by who may see them.
    "agreements" Agreements of Agreement as |record, agreement| {
        /// Its id as text: by time where it was proposed here, steady for imports.
        sort_key: String = record.to_string(),
        /// `AgreementState`.
        state: i32 = agreement.state() as i32,
        /// `AgreementKind`.
        kind: i32 = agreement.kind() as i32,
        /// The initiator.
        city_a: Uuid = agreement.cities().initiator.0,
        /// The partner.
        city_b: Uuid = agreement.cities().partner.0,
        /// ISO 3166-1 alpha-2.
        country_a: String = agreement.countries().initiator.to_owned(),
        /// ISO 3166-1 alpha-2.
        country_b: String = agreement.countries().partner.to_owned(),
        /// The tenant that has taken the initiator's side.
        tenant_a: Option<Uuid> = agreement.tenants().initiator.map(|tenant| tenant.0),
        /// The tenant that has taken the partner's side.
        tenant_b: Option<Uuid> = agreement.tenants().partner.map(|tenant| tenant.0),
        /// Whose record it is.
        owner: Uuid = agreement.owner().0,
        /// Whether everyone sees that it is there.
        public: bool = agreement.audience().public,
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
    let mut query = Entity::find()
        .filter(visible(caller))
        .where_stated(Column::State, asked.state)
        .where_stated(Column::Kind, asked.kind);
    if let Some(parties) = parties(asked)? {
        query = query.filter(parties);
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
