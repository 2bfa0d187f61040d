//! The rules for a city's entry: who may create, change and rename it, and how a city joins (CT-1, CT-2, CT-10, CT-11).

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
    Caller, Decision, Emitted, Moment, Reason, RecordId, Refusal, Refused, TenantId, mask, record::emit, text, time,
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

/// Most former names of a city.
const FORMER_NAMES: usize = 50;

/// The cities that a command names as parent or constituents: what the rules below must know of.
///
/// # Errors
/// INVALID_FIELD where one is no city's name.
pub fn mentioned(city: &proto::City) -> Refused<Vec<RecordId>> {
    let mut ids = fields::names("city.constituents", &city.constituents)?;
    if !city.parent.is_empty() {
        ids.push(names::city_id("city.parent", &city.parent)?);
    }
    Ok(ids)
}

/// The id of a city that is entered by hand: from GeoNames where it is known there, `fresh` otherwise.
#[must_use]
pub fn id_of(city: &proto::City, fresh: RecordId) -> RecordId {
    let geonames = city.identifiers.iter().find(|id| id.scheme() == IdentifierScheme::Geonames);
    geonames.map_or(fresh, |id| RecordId::from_source("geonames", &id.value))
}

/// Enters a city by hand. `before` is what the register holds under `id`.
///
/// # Errors
/// CT-10 where the caller is no steward; ALREADY_EXISTS; CT-1, CT-2 and PL-4 for what does not fit.
pub fn create(
    before: Option<&City>,
    id: RecordId,
    command: &CreateCityRequest,
    known: &KnownCities,
    caller: &Caller,
) -> Decision<Change> {
    rights::steward(caller)?;
    if before.is_some() {
        return Err(Refusal::because(Reason::AlreadyExists, "CT-10", "the city is in the register")
            .missing(names::city_name(id), "exists")
            .help("Update it."));
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

/// Changes what is known of a city. Fields that say the same are left out; none left means no change.
///
/// # Errors
/// CT-10, CT-11 where the city is no more, CT-1, CT-2 and PL-4 for what does not fit.
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
    // An import may not tell the parent of a part of a city; that is asked for once the place itself is written.
    if paths.iter().any(|path| ["country_code", "tier", "parent", "constituents"].contains(&path.as_str())) {
        placed(&next, id, known)?;
    }
    designated(&next)?;
    emit(CityUpdated { city: Some(city), update_mask: Some(FieldMask { paths }) })
}

/// Whether the city has its place among others (CT-2).
fn placed(city: &City, id: RecordId, known: &KnownCities) -> Refused<()> {
    let constituents = &city.constituents;
    tier::fits(&Placement { id, tier: city.tier, country: &city.country, parent: city.parent, constituents }, known)
}

/// Whether its designation still has its population (CT-1).
fn designated(city: &City) -> Refused<()> {
    let global = city.global.as_ref().map(Designation::to_proto);
    global.map_or(Ok(()), |global| size::designation(&global, city.population, city.agglomeration))
}

/// Gives the city another name, or corrects its spelling (CT-11).
///
/// # Errors
/// CT-10; CT-11 where the city is no more, or the day lies ahead or before the last renaming; PL-4.
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
        return Err(Refusal::out_of_order("CT-11", format!("the city has borne its name since {last} only"))
            .missing("effective_date", format!("must be after {last}"))
            .help("Name the first day of the new name, or set `correction` where the old one was a mistake."));
    }
    if state.former_names.len() >= FORMER_NAMES {
        return Err(Refusal::because(Reason::Limit, "CT-11", format!("a city keeps {FORMER_NAMES} former names"))
            .help("Set `correction` where the name that it bears was never its own: that one is not kept."));
    }
    emit(CityRenamed { display_name, effective_date: Some(time::date(day)) })
}

/// The city becomes a tenant, which takes its entry over with its history (CT-10). Decided together with the tenant.
///
/// # Errors
/// CT-10 where the caller is not the steward of the entry, ALREADY_EXISTS where it has joined as another, CT-11.
pub fn join(state: &City, tenant: TenantId, caller: &Caller, at: Moment) -> Decision<Change> {
    match state.tenant() {
        Some(own) if own == tenant => return Ok(Vec::new()),
        Some(own) => {
            return Err(Refusal::because(Reason::AlreadyExists, "CT-10", "the city has joined")
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
