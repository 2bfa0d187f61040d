//! The fields of a city that are written by name: by an entry, an update, an import.

use super::City;
use crate::{
    rights,
    size::{self, Designation},
    tier::CONSTITUENTS,
};
use hansa_kernel::{RecordId, Refusal, Refused, limits::NAME_CHARS, text, time};
use hansa_proto::register::{self as proto, CityTier, Identifier, IdentifierScheme};
use prost_types::FieldMask;

/// Most identifiers of a city.
const IDENTIFIERS: usize = 20;
/// Most other names of a city.
const ALTERNATIVE_NAMES: usize = 24;

/// A field that can be written by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Country,
    Admin1,
    Tier,
    Parent,
    Constituents,
    Population,
    Agglomeration,
    Global,
    Location,
    TimeZone,
    Identifiers,
    AlternativeNames,
    NextElection,
    Founded,
}

impl Field {
    /// The bit of the name, which only a renaming writes.
    pub const NAME: u32 = 1 << 31;
    pub const ALL: [Self; 14] = [
        Self::Country,
        Self::Admin1,
        Self::Tier,
        Self::Parent,
        Self::Constituents,
        Self::Population,
        Self::Agglomeration,
        Self::Global,
        Self::Location,
        Self::TimeZone,
        Self::Identifiers,
        Self::AlternativeNames,
        Self::NextElection,
        Self::Founded,
    ];

    pub fn bit(self) -> u32 {
        1 << self as u32
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::Country => "country_code",
            Self::Admin1 => "admin1",
            Self::Tier => "tier",
            Self::Parent => "parent",
            Self::Constituents => "constituents",
            Self::Population => "population",
            Self::Agglomeration => "agglomeration_population",
            Self::Global => "global_designation",
            Self::Location => "location",
            Self::TimeZone => "time_zone",
            Self::Identifiers => "identifiers",
            Self::AlternativeNames => "alternative_names",
            Self::NextElection => "next_election_date",
            Self::Founded => "founded_date",
        }
    }

    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.path() == path)
    }

    /// The fields of a mask; `*` is all.
    pub fn masked(mask: Option<&FieldMask>) -> Refused<Vec<Self>> {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() {
            return Err(Refusal::field("update_mask", "is required"));
        }
        if paths == ["*"] {
            return Ok(Self::ALL.to_vec());
        }
        paths.iter().map(|path| Self::of(path).ok_or_else(|| not_writable(path))).collect()
    }

    /// Writes the field as `from` has it, checked by itself.
    pub fn apply(self, city: &mut City, from: &proto::City) -> Refused<()> {
        match self {
            Self::Country => city.country = country(&from.country_code)?,
            Self::Admin1 => city.admin1 = short("city.admin1", &from.admin1, 20)?,
            Self::Tier => city.tier = tier(from.tier)?,
            Self::Parent if from.parent.is_empty() => city.parent = None,
            Self::Parent => city.parent = Some(rights::city_id("city.parent", &from.parent)?),
            Self::Constituents => city.constituents = names("city.constituents", &from.constituents)?,
            Self::Population => city.population = size::population("city.population", from.population)?,
            Self::Agglomeration => {
                city.agglomeration = size::population("city.agglomeration_population", from.agglomeration_population)?;
            }
            Self::Global => city.global = global(from)?,
            Self::Location => city.location = from.location.as_ref().map(location).transpose()?,
            Self::TimeZone => city.time_zone = time_zone(&from.time_zone)?,
            Self::Identifiers => city.identifiers = checked_identifiers(&from.identifiers)?,
            Self::AlternativeNames => city.alternative_names = alternative_names(&from.alternative_names)?,
            Self::NextElection => {
                city.next_election = time::day_if_any("city.next_election_date", from.next_election_date.as_ref())?;
            }
            Self::Founded => city.founded = time::day_if_any("city.founded_date", from.founded_date.as_ref())?,
        }
        Ok(())
    }

    /// Copies the field alone, so that a change holds what changed and no more.
    pub fn copy(self, from: &proto::City, to: &mut proto::City) {
        match self {
            Self::Country => to.country_code.clone_from(&from.country_code),
            Self::Admin1 => to.admin1.clone_from(&from.admin1),
            Self::Tier => to.tier = from.tier,
            Self::Parent => to.parent.clone_from(&from.parent),
            Self::Constituents => to.constituents.clone_from(&from.constituents),
            Self::Population => to.population = from.population,
            Self::Agglomeration => to.agglomeration_population = from.agglomeration_population,
            Self::Global => to.global_designation.clone_from(&from.global_designation),
            Self::Location => to.location = from.location,
            Self::TimeZone => to.time_zone.clone_from(&from.time_zone),
            Self::Identifiers => to.identifiers.clone_from(&from.identifiers),
            Self::AlternativeNames => to.alternative_names.clone_from(&from.alternative_names),
            Self::NextElection => to.next_election_date = from.next_election_date,
            Self::Founded => to.founded_date = from.founded_date,
        }
    }
}

fn not_writable(path: &str) -> Refusal {
    let refusal = Refusal::field("update_mask", format!("`{}` cannot be updated", text::excerpt(path)));
    match path {
        "display_name" => refusal.help("Rename the city."),
        "terms" => refusal.help("Record the term."),
        "facts" => refusal.help("Set the fact."),
        _ => refusal.help("See UpdateCityRequest for the fields."),
    }
}

fn global(from: &proto::City) -> Refused<Option<Designation>> {
    let Some(global) = &from.global_designation else { return Ok(None) };
    // The population is judged once all fields are written.
    size::designation(global, 0, 0)?;
    Designation::fold(global).map(Some).map_err(|misfit| Refusal::field("city.global_designation", misfit.0))
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

pub(super) fn tier(tier: i32) -> Refused<CityTier> {
    CityTier::try_from(tier).ok().filter(|tier| *tier != CityTier::Unspecified).ok_or_else(|| {
        Refusal::field("city.tier", "is required, and one of those that the contract names").under("CT-2")
    })
}

pub(super) fn location(location: &proto::Location) -> Refused<(i32, i32)> {
    let (latitude, longitude) = (location.latitude_e5, location.longitude_e5);
    if latitude.unsigned_abs() > 9_000_000 || longitude.unsigned_abs() > 18_000_000 {
        return Err(Refusal::field("city.location", "is not on Earth"));
    }
    Ok((latitude, longitude))
}

fn time_zone(zone: &str) -> Refused<String> {
    let known = zone.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
    if known {
        short("city.time_zone", zone, 64)
    } else {
        Err(Refusal::field("city.time_zone", "is no IANA time zone"))
    }
}

fn checked_identifiers(identifiers: &[Identifier]) -> Refused<Vec<(IdentifierScheme, String)>> {
    let bad = |what: &str| Refusal::field("city.identifiers", what).under("CT-11");
    if identifiers.len() > IDENTIFIERS {
        return Err(bad("has more than 20 entries"));
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

fn alternative_names(names: &[String]) -> Refused<Vec<String>> {
    if names.len() > ALTERNATIVE_NAMES || names.iter().any(|name| name.chars().count() > NAME_CHARS) {
        return Err(Refusal::field("city.alternative_names", "has more than 24 entries, or one that is too long"));
    }
    names.iter().try_for_each(|name| text::name("city.alternative_names", name))?;
    Ok(names.to_vec())
}

pub(super) fn names(field: &str, names: &[String]) -> Refused<Vec<RecordId>> {
    if names.len() > CONSTITUENTS {
        return Err(Refusal::field(field, format!("has more than {CONSTITUENTS} entries")));
    }
    names.iter().map(|name| rights::city_id(field, name)).collect()
}
