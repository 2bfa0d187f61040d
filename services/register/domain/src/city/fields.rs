//! The fields of a city that a creation, an update or an import writes by name, with the checks of each.

use crate::{
    limits::CONSTITUENTS,
    size::{self, Designation},
};
use hansa_kernel::{RecordId, Refusal, Refused, limits::NAME_CHARS, text};
use hansa_proto::{
    google::r#type::LatLng,
    register::{self as proto, CityTier, Identifier, IdentifierScheme},
};

/// Maximum number of identifiers of a city.
const IDENTIFIERS: usize = 20;
/// Maximum number of alternative names of a city.
const ALTERNATIVE_NAMES: usize = 24;

/// The fields that can be written by name. A stored city refers to a field by its index in this list (see [`bit`]), so
/// append new fields at the end.
pub(super) const WRITABLE: &[&str] = &[
    "country_code",
    "subdivision_code",
    "tier",
    "parent_city",
    "constituent_cities",
    "population",
    "agglomeration_population",
    "global_designation",
    "location",
    "time_zone",
    "identifiers",
    "alternative_names",
    "next_election_date",
    "founding_date",
];
/// The bit of the display name, which an update cannot write; a creation and a renaming set it.
pub(super) const NAME: u32 = 1 << 31;

/// Returns the bit of a field; 0 if the field cannot be written by name.
pub(super) fn bit(path: &str) -> u32 {
    WRITABLE.iter().position(|field| *field == path).map_or(0, |place| 1 << place)
}

pub(crate) fn global(from: &proto::City) -> Refused<Option<Designation>> {
    let Some(global) = &from.global_designation else { return Ok(None) };
    // The caller checks the population after it has written all fields, so none is passed here.
    size::designation(global, None, None)?;
    Designation::fold(global).map(Some).map_err(|fold_error| Refusal::field("city.global_designation", fold_error.0))
}

/// Checks a country code: two capital letters.
pub(crate) fn country(code: &str) -> Refused<String> {
    if code.len() == 2 && code.chars().all(|c| c.is_ascii_uppercase()) {
        return Ok(code.to_owned());
    }
    Err(Refusal::field("country_code", format!("`{}` is not two capital letters (ISO 3166-1)", text::excerpt(code))))
}

/// Checks a short code or name, which may be empty: at most `most` characters and no control characters.
pub(crate) fn short(field: &str, value: &str, most: usize) -> Refused<String> {
    if value.chars().count() > most || value.chars().any(char::is_control) {
        return Err(Refusal::field(field, format!("is longer than {most} characters or contains control characters")));
    }
    Ok(value.to_owned())
}

pub(crate) fn tier(tier: i32) -> Refused<CityTier> {
    CityTier::try_from(tier)
        .ok()
        .filter(|tier| *tier != CityTier::Unspecified)
        .ok_or_else(|| Refusal::field("city.tier", "is required and must be a known tier").under("CT-2"))
}

/// Hundred-thousandths per degree: about one meter.
const PER_DEGREE: f64 = 100_000.0;

/// Converts degrees to whole hundred-thousandths.
pub(crate) fn location(location: &LatLng) -> Refused<(i32, i32)> {
    let LatLng { latitude, longitude } = *location;
    if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
        return Err(Refusal::field("city.location", "must be within 90 degrees of latitude and 180 of longitude"));
    }
    #[allow(clippy::cast_possible_truncation, reason = "at most 18,000,000")]
    let whole = |degrees: f64| (degrees * PER_DEGREE).round() as i32;
    Ok((whole(latitude), whole(longitude)))
}

/// Converts whole hundred-thousandths to degrees.
pub(crate) fn degrees((latitude, longitude): (i32, i32)) -> LatLng {
    LatLng { latitude: f64::from(latitude) / PER_DEGREE, longitude: f64::from(longitude) / PER_DEGREE }
}

pub(crate) fn time_zone(zone: &str) -> Refused<String> {
    let known = zone.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
    if known {
        short("city.time_zone", zone, 64)
    } else {
        Err(Refusal::field("city.time_zone", "is not an IANA time zone"))
    }
}

pub(crate) fn checked_identifiers(identifiers: &[Identifier]) -> Refused<Vec<(IdentifierScheme, String)>> {
    let bad = |what: &str| Refusal::field("city.identifiers", what).under("CT-11");
    if identifiers.len() > IDENTIFIERS {
        return Err(bad(&format!("has more than {IDENTIFIERS} entries")));
    }
    let mut out: Vec<(IdentifierScheme, String)> = Vec::with_capacity(identifiers.len());
    for identifier in identifiers {
        let entry = (identifier.scheme(), short("city.identifiers.value", &identifier.value, 64)?);
        if entry.0 == IdentifierScheme::Unspecified || entry.1.is_empty() {
            return Err(bad("must have a scheme and a value in each entry"));
        }
        if out.contains(&entry) {
            return Err(bad("contains an entry twice"));
        }
        out.push(entry);
    }
    Ok(out)
}

pub(super) fn identifiers(identifiers: &[(IdentifierScheme, String)]) -> Vec<Identifier> {
    identifiers.iter().map(|(scheme, value)| Identifier { scheme: *scheme as i32, value: value.clone() }).collect()
}

pub(crate) fn alternative_names(names: &[String]) -> Refused<Vec<String>> {
    if names.len() > ALTERNATIVE_NAMES || names.iter().any(|name| name.chars().count() > NAME_CHARS) {
        let what = format!("has more than {ALTERNATIVE_NAMES} entries, or an entry that is too long");
        return Err(Refusal::field("city.alternative_names", what));
    }
    names.iter().try_for_each(|name| text::name("city.alternative_names", name))?;
    Ok(names.to_vec())
}

pub(crate) fn names(field: &str, names: &[String]) -> Refused<Vec<RecordId>> {
    if names.len() > CONSTITUENTS {
        return Err(Refusal::field(field, format!("has more than {CONSTITUENTS} entries")));
    }
    names.iter().map(|name| crate::names::city_id(field, name)).collect()
}
