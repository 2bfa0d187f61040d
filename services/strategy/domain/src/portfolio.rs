//! The portfolio of a city on a date: the facts that evaluations judge, from the city's own and public records.
//!
//! An unknown fact is `None` or omitted. It never counts as false.

use crate::language;
use chrono::NaiveDate;
pub use hansa_proto::types::AgreementKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state of a tie, as far as evaluations distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TieState {
    /// In preparation: proposed, in dialogue, planned, approved, or not yet signed by both sides.
    Preparing,
    /// In force.
    Active,
    /// In force, but suspended by one side.
    Suspended,
    /// Expired, ended, superseded or refused.
    Ended,
}

/// One agreement of the city, from its public record and the city's own copy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TieFact {
    /// The resource name of the agreement.
    pub agreement: String,
    /// The resource name of the partner city.
    pub partner: String,
    /// The display name of the partner.
    pub partner_name: String,
    /// The partner's country, ISO 3166-1 alpha-2 or the register's own code; empty if unknown.
    pub country: String,
    /// The kind; unspecified if the source does not state it.
    pub kind: AgreementKind,
    /// The state of the tie.
    pub state: TieState,
    /// The day on which the tie entered into force.
    pub active_since: Option<NaiveDate>,
    /// The day of the last activity.
    pub last_activity: Option<NaiveDate>,
    /// Whether the agreement's record says that the tie is dormant (AG-7).
    pub dormant: bool,
    /// Whether guidelines are needed (AG-11), see [`guidelines_needed`]; `None` if a country's regime is unknown.
    pub guidelines_needed: Option<bool>,
    /// Whether guidelines are stated.
    pub guidelines_stated: bool,
    /// Whether the mayor signed without guidelines, with a recorded reason.
    pub guidelines_overridden: bool,
    /// The partner's languages in any form; empty if unknown.
    pub partner_languages: Vec<String>,
}

impl TieFact {
    /// Returns whether the tie is in force, suspended or not.
    #[must_use]
    pub fn in_force(&self) -> bool {
        matches!(self.state, TieState::Active | TieState::Suspended)
    }
}

/// Returns whether guidelines are needed, given whether each side's country is democratic (CT-3, AG-11).
#[must_use]
pub fn guidelines_needed(own: Option<bool>, partner: Option<bool>) -> Option<bool> {
    match (own, partner) {
        (Some(true), Some(false)) => Some(true),
        (Some(false), _) | (_, Some(true)) => Some(false),
        _ => None,
    }
}

/// The facts of the international relations office (CT-5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfficeFact {
    /// Whether the city has an office; `None` if the city has not stated it.
    pub exists: Option<bool>,
    /// The working languages of the office in any form; `None` if the city has not stated them.
    pub languages: Option<Vec<String>>,
}

/// The facts of the evaluated city.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CityFact {
    /// The resource name of the city.
    pub city: String,
    /// The country, as the register names it.
    pub country: String,
    /// Whether the country is democratic (CT-3); `None` if unknown.
    pub democratic: Option<bool>,
    /// The city's languages in any form; empty if unknown.
    pub languages: Vec<String>,
    /// The next municipal election, if known.
    pub next_election: Option<NaiveDate>,
}

/// The facts of a city that could become a partner (ST-9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerFact {
    /// The resource name of the city.
    pub city: String,
    /// The display name.
    pub name: String,
    /// The country.
    pub country: String,
    /// Whether the country is democratic; `None` if unknown.
    pub democratic: Option<bool>,
    /// The city's languages in any form; empty if unknown.
    pub languages: Vec<String>,
}

/// The city, its office and its ties on a date, in canonical form: equal facts give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portfolio {
    city: CityFact,
    office: OfficeFact,
    ties: BTreeMap<String, TieFact>,
}

impl Portfolio {
    /// Creates a portfolio from facts in any order. Converts languages to canonical form. If two facts describe
    /// the same agreement, the greater fact wins, so that the result does not depend on the order of the facts.
    #[must_use]
    pub fn new(mut city: CityFact, office: OfficeFact, ties: impl IntoIterator<Item = TieFact>) -> Self {
        city.languages = language::primaries(&city.languages);
        let mut portfolio = Self { city, office: canonical(office), ties: BTreeMap::new() };
        for tie in ties {
            portfolio.insert(tie);
        }
        portfolio
    }

    /// The city.
    #[must_use]
    pub fn city(&self) -> &CityFact {
        &self.city
    }

    /// The office.
    #[must_use]
    pub fn office(&self) -> &OfficeFact {
        &self.office
    }

    /// The ties, sorted by the names of the agreements.
    pub fn ties(&self) -> impl Iterator<Item = &TieFact> {
        self.ties.values()
    }

    /// Returns the tie of an agreement.
    #[must_use]
    pub fn tie(&self, agreement: &str) -> Option<&TieFact> {
        self.ties.get(agreement)
    }

    fn insert(&mut self, mut tie: TieFact) {
        tie.partner_languages = language::primaries(&tie.partner_languages);
        match self.ties.get_mut(&tie.agreement) {
            Some(other) if *other >= tie => {}
            Some(other) => *other = tie,
            None => drop(self.ties.insert(tie.agreement.clone(), tie)),
        }
    }

    /// Simulates that the city signs an agreement with the partner on the day `on`. `stated` says whether the agreement
    /// states guidelines.
    pub fn sign(&mut self, agreement: String, kind: AgreementKind, partner: &PartnerFact, stated: bool, on: NaiveDate) {
        self.insert(TieFact {
            agreement,
            partner: partner.city.clone(),
            partner_name: partner.name.clone(),
            country: partner.country.clone(),
            kind,
            state: TieState::Active,
            active_since: Some(on),
            last_activity: Some(on),
            dormant: false,
            guidelines_needed: guidelines_needed(self.city.democratic, partner.democratic),
            guidelines_stated: stated,
            guidelines_overridden: false,
            partner_languages: partner.languages.clone(),
        });
    }

    /// Simulates that the agreement ends. Returns false if the agreement does not exist or has already ended.
    pub fn end(&mut self, agreement: &str) -> bool {
        self.change(agreement, |tie| {
            tie.state = TieState::Ended;
            tie.dormant = false;
        })
    }

    /// Simulates that the agreement is revived on the day `on` (AG-7). Returns false if the agreement does not exist or
    /// has ended.
    pub fn revive(&mut self, agreement: &str, on: NaiveDate) -> bool {
        self.change(agreement, |tie| {
            tie.dormant = false;
            tie.last_activity = Some(on);
        })
    }

    /// Simulates that guidelines are stated (AG-11). Returns false if the agreement does not exist or has ended.
    pub fn state_guidelines(&mut self, agreement: &str) -> bool {
        self.change(agreement, |tie| tie.guidelines_stated = true)
    }

    /// Replaces the facts of the office.
    pub fn set_office(&mut self, office: OfficeFact) {
        self.office = canonical(office);
    }

    /// Applies `with` to the tie of the agreement. Returns false if there is no such tie or the tie has ended.
    fn change(&mut self, agreement: &str, with: impl FnOnce(&mut TieFact)) -> bool {
        self.ties.get_mut(agreement).filter(|tie| tie.state != TieState::Ended).map(with).is_some()
    }
}

fn canonical(office: OfficeFact) -> OfficeFact {
    OfficeFact { exists: office.exists, languages: office.languages.map(language::primaries) }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hansa_kernel::RecordId;

    pub(crate) fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    pub(crate) fn city() -> CityFact {
        CityFact {
            city: format!("cities/{}", RecordId::from_source("test", "home")),
            country: "FR".into(),
            democratic: Some(true),
            languages: vec!["fra".into()],
            next_election: Some(day(2026, 3, 15)),
        }
    }

    pub(crate) fn office() -> OfficeFact {
        OfficeFact { exists: Some(true), languages: Some(vec!["en".into(), "de-AT".into()]) }
    }

    pub(crate) fn tie(n: u32) -> TieFact {
        TieFact {
            agreement: format!("agreements/{}", RecordId::from_source("agreement", &n.to_string())),
            partner: format!("cities/{}", RecordId::from_source("city", &n.to_string())),
            partner_name: format!("City {n}"),
            country: "DE".into(),
            kind: AgreementKind::Twinning,
            state: TieState::Active,
            active_since: Some(day(1990, 5, 1)),
            last_activity: Some(day(2024, 5, 1)),
            dormant: false,
            guidelines_needed: Some(false),
            guidelines_stated: false,
            guidelines_overridden: false,
            partner_languages: vec!["deu".into()],
        }
    }

    #[test]
    fn order_and_repetition_of_facts_do_not_matter() {
        let dormant = TieFact { dormant: true, ..tie(1) };
        let one = Portfolio::new(city(), office(), [tie(1), tie(2), dormant.clone(), tie(3)]);
        let other = Portfolio::new(city(), office(), [tie(3), dormant, tie(2), tie(1)]);
        assert_eq!(postcard::to_stdvec(&one).unwrap(), postcard::to_stdvec(&other).unwrap());
        assert_eq!(one.city().languages, ["fr"]);
        assert_eq!(one.tie(&tie(1).agreement).unwrap().partner_languages, ["de"]);
    }

    #[test]
    fn ag_11_guidelines_are_needed_only_where_both_regimes_are_known() {
        assert_eq!(guidelines_needed(Some(true), Some(false)), Some(true));
        assert_eq!(guidelines_needed(Some(true), Some(true)), Some(false));
        assert_eq!(guidelines_needed(Some(false), None), Some(false));
        assert_eq!(guidelines_needed(Some(true), None), None);
        assert_eq!(guidelines_needed(None, Some(false)), None);
    }

    #[test]
    fn st_9_what_ifs_find_only_what_is_in_use() {
        let mut portfolio = Portfolio::new(city(), office(), [TieFact { dormant: true, ..tie(1) }]);
        let name = tie(1).agreement;
        assert!(portfolio.revive(&name, day(2025, 1, 1)) && !portfolio.tie(&name).unwrap().dormant);
        assert!(portfolio.state_guidelines(&name) && portfolio.end(&name));
        assert!(!portfolio.end(&name) && !portfolio.revive(&name, day(2025, 1, 1)));
        assert!(!portfolio.end("agreements/none"));
    }
}
