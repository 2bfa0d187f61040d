//! The fields of a city that are written by name: by an entry, an update, an import.

use crate::{
    limits::CONSTITUENTS,
    size::{self, Designation},
};
use hansa_kernel::{RecordId, Refusal, Refused, limits::NAME_CHARS, text};
use hansa_proto::register::{self as proto, CityTier, Identifier, IdentifierScheme};

/// Most identifiers of a city.
const IDENTIFIERS: usize = 20;
/// Most other names of a city.
const ALTERNATIVE_NAMES: usize = 24;

/// The fields that can be written by name. A stored city knows by their places here which it was told by hand: new ones come
/// last.
pub(super) const WRITABLE: &[&str] = &[
    "country_code",
    "admin1",
    "tier",
    "parent",
    "constituents",
    "population",
    "agglomeration_population",
    "global_designation",
    "location",
    "time_zone",
    "identifiers",
    "alternative_names",
    "next_election_date",
    "founded_date",
];
/// The bit of the name, which only a renaming writes.
pub(super) const NAME: u32 = 1 << 31;

/// The bit of a field.
pub(super) fn bit(path: &str) -> u32 {
    WRITABLE.iter().position(|field| *field == path).map_or(0, |place| 1 << place)
}

pub(crate) fn global(from: &proto::City) -> Refused<Option<Designation>> {
    let Some(global) = &from.global_designation else { return Ok(None) };
    // The population is judged once all fields are written.
    size::designation(global, 0, 0)?;
    Designation::fold(global).map(Some).map_err(|fold_error| Refusal::field("city.global_designation", fold_error.0))
}

/// Two capitals.
pub(crate) fn country(code: &str) -> Refused<String> {
    if code.len() == 2 && code.chars().all(|c| c.is_ascii_uppercase()) {
        return Ok(code.to_owned());
    }
    Err(Refusal::field("country_code", format!("`{}` is no code of two capitals (ISO 3166-1)", text::excerpt(code))))
}

/// A short code or name; may be empty.
pub(crate) fn short(field: &str, value: &str, most: usize) -> Refused<String> {
    if value.chars().count() > most || value.chars().any(char::is_control) {
        return Err(Refusal::field(field, format!("is longer than {most} characters, or holds control characters")));
    }
    Ok(value.to_owned())
}

pub(crate) fn tier(tier: i32) -> Refused<CityTier> {
    CityTier::try_from(tier).ok().filter(|tier| *tier != CityTier::Unspecified).ok_or_else(|| {
        Refusal::field("city.tier", "is required, and one of those that the contract names").under("CT-2")
    })
}

pub(crate) fn location(location: &proto::Location) -> Refused<(i32, i32)> {
    let (latitude, longitude) = (location.latitude_e5, location.longitude_e5);
    if latitude.unsigned_abs() > 9_000_000 || longitude.unsigned_abs() > 18_000_000 {
        return Err(Refusal::field("city.location", "is not on Earth"));
    }
    Ok((latitude, longitude))
}

pub(crate) fn time_zone(zone: &str) -> Refused<String> {
    let known = zone.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
    if known {
        short("city.time_zone", zone, 64)
    } else {
        Err(Refusal::field("city.time_zone", "is no IANA time zone"))
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
            return Err(bad("needs a scheme and a value for each"));
        }
        if out.contains(&entry) {
            return Err(bad("holds one twice"));
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
        let what = format!("has more than {ALTERNATIVE_NAMES} entries, or one that is too long");
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
