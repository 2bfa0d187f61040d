//! Tiers of government, and how cities of different tiers are part of each other (CT-2).

use crate::{limits::CONSTITUENTS, reference::CityReference};
use hansa_kernel::{RecordId, Refusal, Refused};
use hansa_proto::register::CityTier;
use std::collections::BTreeMap;

/// The register's entries of the cities that a command names, by id. A city that is missing from this map does not
/// exist.
pub type KnownCities = BTreeMap<RecordId, CityReference>;

/// Returns whether a body of this tier may by default be a party to an agreement, a member or a bidder in its own name.
#[must_use]
pub fn may_be_party(tier: CityTier) -> bool {
    !matches!(tier, CityTier::SubMunicipal | CityTier::Unspecified)
}

/// The tier, parent and constituents that a city would have after a command.
pub(crate) struct Placement<'a> {
    pub id: RecordId,
    pub tier: CityTier,
    pub country: &'a str,
    pub parent: Option<RecordId>,
    pub constituents: &'a [RecordId],
}

/// Checks that tier, parent and constituents fit together. Refused under CT-2 otherwise.
pub(crate) fn fits(place: &Placement, known: &KnownCities) -> Refused<()> {
    let no = |message: &str, field: &str, what: &str, help: &str| {
        Err(Refusal::rule("CT-2", "TIER_FIELD_UNFIT", message).missing(field, what).help(help))
    };
    match (place.tier, place.parent) {
        (CityTier::Unspecified, _) => return Err(Refusal::field("city.tier", "is required").under("CT-2")),
        (CityTier::SubMunicipal, None) => {
            return no("a sub-municipal body is part of a city", "city.parent_city", "is required", "Name its city.");
        }
        (CityTier::SubMunicipal, Some(parent)) => self::parent(place, parent, known)?,
        (_, Some(_)) => {
            return no(
                "only a sub-municipal body has a parent city",
                "city.parent_city",
                "must be empty for this tier",
                "Leave the parent out, or list the city among the constituents of its metropolis.",
            );
        }
        (_, None) => {}
    }
    if place.tier != CityTier::Metropolis && !place.constituents.is_empty() {
        return no(
            "only a metropolis has constituent municipalities",
            "city.constituent_cities",
            "must be empty for this tier",
            "Set the tier to METROPOLIS, or leave them out.",
        );
    }
    constituents(place, known)
}

fn parent(place: &Placement, parent: RecordId, known: &KnownCities) -> Refused<()> {
    let no = |what: &str| {
        Err(Refusal::rule("CT-2", "PARENT_UNFIT", "the parent of a sub-municipal body is a city of the same country")
            .missing(crate::names::city_name(parent), what)
            .help("Name the city that the body is part of."))
    };
    match known.get(&parent) {
        _ if parent == place.id => no("is the body itself"),
        None => no("is not in the register"),
        Some(city) if city.tier == CityTier::SubMunicipal => no("is a sub-municipal body itself"),
        Some(city) if city.country != place.country => no("lies in another country"),
        Some(_) => Ok(()),
    }
}

fn constituents(place: &Placement, known: &KnownCities) -> Refused<()> {
    if place.constituents.len() > CONSTITUENTS {
        return Err(
            Refusal::field("city.constituent_cities", format!("has more than {CONSTITUENTS} entries")).under("CT-2")
        );
    }
    let mut refusal =
        Refusal::rule("CT-2", "CONSTITUENTS_UNFIT", "a metropolis is made of municipalities of the register")
            .help("List each municipality once; enter those that are missing first.");
    for (i, id) in place.constituents.iter().enumerate() {
        let what = match known.get(id) {
            _ if place.constituents[..i].contains(id) => "is listed twice",
            None => "is not in the register",
            Some(city) if city.tier != CityTier::Municipality => "is not a municipality",
            Some(_) => continue,
        };
        refusal = refusal.missing(crate::names::city_name(*id), what);
    }
    if refusal.missing.is_empty() { Ok(()) } else { Err(refusal) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(key: &str) -> RecordId {
        RecordId::from_source("test", key)
    }

    fn known() -> KnownCities {
        let of = |tier, country: &str| CityReference { tier, country: country.into(), ..CityReference::default() };
        BTreeMap::from([
            (id("city"), of(CityTier::Municipality, "FR")),
            (id("part"), of(CityTier::SubMunicipal, "FR")),
            (id("abroad"), of(CityTier::Municipality, "DE")),
        ])
    }

    fn check(tier: CityTier, parent: Option<&str>, constituents: &[&str]) -> Refused<()> {
        let constituents: Vec<_> = constituents.iter().map(|c| id(c)).collect();
        let place =
            Placement { id: id("new"), tier, country: "FR", parent: parent.map(id), constituents: &constituents };
        fits(&place, &known())
    }

    #[test]
    fn ct_2_a_sub_municipal_body_has_a_parent_city_and_no_other_tier_has() {
        assert!(check(CityTier::SubMunicipal, Some("city"), &[]).is_ok());
        for parent in [None, Some("part"), Some("abroad"), Some("nowhere"), Some("new")] {
            assert_eq!(check(CityTier::SubMunicipal, parent, &[]).unwrap_err().rule, "CT-2", "{parent:?}");
        }
        assert!(check(CityTier::Municipality, Some("city"), &[]).is_err());
        assert!(check(CityTier::Unspecified, None, &[]).is_err());
        assert!(check(CityTier::Region, None, &[]).is_ok());
    }

    #[test]
    fn ct_2_a_metropolis_is_made_of_municipalities() {
        assert!(check(CityTier::Metropolis, None, &["city", "abroad"]).is_ok());
        let refusal = check(CityTier::Metropolis, None, &["city", "city", "part", "nowhere"]).unwrap_err();
        assert_eq!((refusal.rule, refusal.missing.len()), ("CT-2", 3));
        assert!(check(CityTier::Municipality, None, &["city"]).is_err());
    }

    #[test]
    fn ct_2_a_sub_municipal_body_is_no_party_by_default() {
        assert!(may_be_party(CityTier::Municipality) && may_be_party(CityTier::Metropolis));
        assert!(!may_be_party(CityTier::SubMunicipal));
    }
}
