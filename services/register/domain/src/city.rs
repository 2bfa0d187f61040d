//! The rules for the entry of a city: creating, updating and renaming it, and joining as a tenant (CT-1, CT-2, CT-10,
//! CT-11).

mod deletion;
pub(crate) mod fields;
mod import;
mod state;
pub(crate) mod values;

use crate::{
    names, rights,
    size::{self, Designation},
    tier::{self, KnownCities, Placement},
};
pub use deletion::delete;
use hansa_kernel::{
    Caller, Decision, Emitted, Moment, ReasonClass, RecordId, Refusal, Refused, TenantId, mask, record::emit, text,
    time,
};
use hansa_proto::{
    Masked,
    register::{
        self as proto, CityCreated, CityJoined, CityRenamed, CityUpdated, CreateCityRequest, IdentifierScheme,
        RenameCityRequest, UpdateCityRequest, city_change::Change,
    },
};
pub use import::{IMPORT_ROWS, check, import, outcome, row_id};
use prost_types::FieldMask;
pub use state::City;
pub(crate) use state::first_owner;

/// Maximum number of former names of a city.
const FORMER_NAMES: usize = 50;

/// Returns the ids of the cities that the message names as parent or constituents. The caller of [`create`] and
/// [`update`] loads these cities first.
///
/// # Errors
/// `INVALID_FIELD` if a name is not the name of a city.
pub fn mentioned(city: &proto::City) -> Refused<Vec<RecordId>> {
    let mut ids = fields::names("city.constituent_cities", &city.constituent_cities)?;
    if !city.parent_city.is_empty() {
        ids.push(names::city_id("city.parent_city", &city.parent_city)?);
    }
    Ok(ids)
}

/// Returns the id of a city that is entered by hand. A city with a GeoNames identifier gets the id that an import would
/// give it; any other city gets `fresh`.
#[must_use]
pub fn id_of(city: &proto::City, fresh: RecordId) -> RecordId {
    let geonames = city.identifiers.iter().find(|id| id.scheme() == IdentifierScheme::Geonames);
    geonames.map_or(fresh, |id| RecordId::from_source("geonames", &id.value))
}

/// Enters a city by hand. `before` is the city that the register holds under `id`, if any.
///
/// # Errors
/// Refused under CT-10 if the caller is not a steward, with `ALREADY_EXISTS` if the register has the city, and under
/// CT-1, CT-2 or PL-4 if a field is invalid.
pub fn create(
    before: Option<&City>,
    id: RecordId,
    command: &CreateCityRequest,
    known: &KnownCities,
    caller: &Caller,
) -> Decision<Change> {
    rights::steward(caller)?;
    if before.is_some() {
        return Err(Refusal::because(
            ReasonClass::AlreadyExists,
            "CT-10",
            "CITY_EXISTS",
            "the city is already in the register",
        )
        .missing(names::city_name(id), "exists")
        .help("Update the existing city."));
    }
    let asked = command.city.clone().unwrap_or_default();
    text::name("city.display_name", &asked.display_name)?;
    text::reference("city.source", &asked.source)?;
    let mut state = City::blank(caller.tenant);
    let mut city = proto::City { display_name: asked.display_name.clone(), ..Default::default() };
    city.source.clone_from(&asked.source);
    for field in fields::WRITABLE {
        state.apply(field, &asked)?;
        city.copy_field(field, &asked);
    }
    placed(&state, id, known)?;
    designated(&state)?;
    emit(CityCreated { city: Some(city) })
}

/// Updates fields of a city. The change contains only the fields whose value differs; if none differs, nothing is
/// recorded.
///
/// # Errors
/// Refused under CT-10 if the caller may not change the city, under CT-11 if the city has ended, and under CT-1,
/// CT-2 or PL-4 if a field is invalid.
pub fn update(
    state: &City,
    id: RecordId,
    command: &UpdateCityRequest,
    known: &KnownCities,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    let asked = command.city.clone().unwrap_or_default();
    let (mut next, mut city, mut paths) = (state.clone(), proto::City::default(), Vec::new());
    for field in mask::fields(command.update_mask.as_ref(), fields::WRITABLE)? {
        let before = next.clone();
        next.apply(field, &asked)?;
        if next != before {
            city.copy_field(field, &asked);
            paths.push(field.to_owned());
        }
    }
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    // An import can leave a sub-municipal body without a parent. CT-2 is therefore checked only if a field that
    // the rule covers changes.
    if paths.iter().any(|path| ["country_code", "tier", "parent_city", "constituent_cities"].contains(&path.as_str())) {
        placed(&next, id, known)?;
    }
    designated(&next)?;
    emit(CityUpdated { city: Some(city), update_mask: Some(FieldMask { paths }) })
}

/// Checks tier, parent and constituents of the city (CT-2).
fn placed(city: &City, id: RecordId, known: &KnownCities) -> Refused<()> {
    let constituents = &city.constituents;
    tier::fits(&Placement { id, tier: city.tier, country: &city.country, parent: city.parent, constituents }, known)
}

/// Checks that the population still allows the city's global designation (CT-1).
fn designated(city: &City) -> Refused<()> {
    let global = city.global.as_ref().map(Designation::to_proto);
    global.map_or(Ok(()), |global| size::designation(&global, city.population, city.agglomeration))
}

/// Gives the city another name, or corrects its spelling (CT-11).
///
/// # Errors
/// Refused under CT-10 if the caller may not change the city, under CT-11 if the city has ended or if the day is in the
/// future or not after the last renaming, and under PL-4 if the name is invalid.
pub fn rename(state: &City, command: &RenameCityRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    text::name("display_name", &command.display_name)?;
    if command.display_name == state.display_name {
        return Ok(Vec::new());
    }
    let display_name = command.display_name.clone();
    if command.correction {
        return emit(CityRenamed { display_name, effective_date: None });
    }
    let day = crate::date::past("effective_date", command.effective_date.as_ref(), at, "CT-11")?;
    let last = state.former_names.last().map(|former| former.until).max(state.founded);
    if let Some(last) = last.filter(|last| day <= *last) {
        return Err(Refusal::out_of_order("CT-11", "NAME_TOO_RECENT", format!("the present name dates from {last}"))
            .missing("effective_date", format!("must be after {last}"))
            .help("Set the first day of the new name, or set `correction` if the old name was a mistake."));
    }
    if state.former_names.len() >= FORMER_NAMES {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "CT-11",
            "TOO_MANY_FORMER_NAMES",
            format!("a city has at most {FORMER_NAMES} former names"),
        )
        .help("Set `correction` if the present name was a mistake. It then does not become a former name."));
    }
    emit(CityRenamed { display_name, effective_date: Some(time::date(day)) })
}

/// Lets the city join: its new tenant takes over the entry and its history (CT-10). The same command creates the
/// tenant.
///
/// # Errors
/// Refused under CT-10 if the caller is not the steward of the entry, with `ALREADY_EXISTS` if the city has joined as
/// another tenant, and under CT-11 if the city has ended.
pub fn join(state: &City, tenant: TenantId, caller: &Caller, at: Moment) -> Decision<Change> {
    match state.tenant() {
        Some(own) if own == tenant => return Ok(Vec::new()),
        Some(own) => {
            return Err(Refusal::because(
                ReasonClass::AlreadyExists,
                "CT-10",
                "CITY_HAS_JOINED",
                "the city has already joined",
            )
            .missing(own.name(), "is its tenant")
            .help("Act as that tenant."));
        }
        None => rights::change(state, caller)?,
    }
    state.must_be_there(at)?;
    Ok(vec![Emitted::new(CityJoined { tenant: tenant.name() })])
}

#[cfg(test)]
#[path = "city/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "city/tests.rs"]
mod tests;
