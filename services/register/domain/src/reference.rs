//! What other services keep of the register, so that none calls another to decide. Each is stored under the record's id.

use crate::{
    City,
    city::values::{Fact, Succession, latest, put},
    country::{AGREEMENT_KINDS, Conclusion},
    date::{folded, folded_if_any},
    names,
};
use chrono::{Datelike, NaiveDate};
use hansa_kernel::{FoldError, Reason, RecordId, RecordName, Reference, Refusal, Stamp, TenantId};
use hansa_proto::register::{
    self as proto, CityRow, CityTier, CityUpdated, OfficeExistence, OfficeSeat, RegimeClass, RegimeScheme, city_change,
    country_change, country_row, office_change,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a service keeps of a city.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CityReference {
    /// Its name now.
    pub name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// What kind of government it is.
    pub tier: CityTier,
    /// The city that it is a part of.
    pub parent: Option<RecordId>,
    /// The municipalities that it is made of.
    pub constituents: Vec<RecordId>,
    /// Residents; 0 where not known.
    pub population: u64,
    /// Its own tenant, once it has joined.
    pub tenant: Option<TenantId>,
    /// Whether it is the end of a tie that no register knows.
    pub unlinked: bool,
    /// What its records follow, and from when.
    pub successor: Option<(RecordId, NaiveDate)>,
    /// When it elects next.
    pub next_election: Option<NaiveDate>,
    /// First day of the last recorded term.
    pub term_since: Option<NaiveDate>,
    /// The day on which the running term ends or ended.
    pub term_until: Option<NaiveDate>,
    /// Its dated facts, for criteria.
    pub facts: Vec<Fact>,
    /// Fields that were written by hand, which imports leave alone.
    pub(crate) own: Vec<String>,
}

impl From<&City> for CityReference {
    /// What the register itself knows of a neighbour when it decides.
    fn from(city: &City) -> Self {
        Self {
            name: city.display_name().to_owned(),
            country: city.country().to_owned(),
            tier: city.tier(),
            tenant: city.tenant(),
            population: city.population(),
            unlinked: !city.linked(),
            ..Self::default()
        }
    }
}

impl Reference for CityReference {
    const COLLECTION: &'static str = "cities";
    const REVISION: u32 = 2;
    type Change = city_change::Change;

    fn fold(before: Option<Self>, change: &Self::Change, stamp: &Stamp) -> Result<Self, FoldError> {
        use city_change::Change;
        let mut city = before.unwrap_or_default();
        match change {
            Change::Imported(imported) => {
                city.imported(&imported.row.clone().unwrap_or_default(), stamp.version == 1);
            }
            Change::Created(created) => city.created(&created.city.clone().unwrap_or_default())?,
            Change::Updated(updated) => city.updated(updated)?,
            Change::Renamed(renamed) => {
                city.name.clone_from(&renamed.display_name);
                city.owns("display_name");
            }
            Change::Merged(merged) => city.succession(&Succession::merged(merged)?),
            Change::Split(split) => city.succession(&Succession::split(split)?),
            Change::Succeeded(_) => {}
            Change::Joined(joined) => {
                let tenant = TenantId::parse(&joined.tenant, "tenant").map_err(|refusal| FoldError(refusal.message))?;
                city.tenant = Some(tenant);
            }
            Change::TermRecorded(recorded) => {
                let term = recorded.term.clone().unwrap_or_default();
                let (since, until) = (folded(term.start_date.as_ref())?, folded_if_any(term.end_date.as_ref())?);
                let same = city.term_since == Some(since);
                city.term_until = until.or(city.term_until.filter(|_| same));
                city.term_since = Some(since);
                if recorded.next_election_date.is_some() {
                    city.next_election = folded_if_any(recorded.next_election_date.as_ref())?;
                }
            }
            Change::TermEnded(ended) => city.term_until = Some(folded(ended.end_date.as_ref())?),
            Change::FactSet(set) => put(&mut city.facts, Fact::fold(&set.fact.clone().unwrap_or_default())?),
        }
        Ok(city)
    }
}

impl CityReference {
    /// The city's languages on a day, by its fact `languages`, where that is known.
    #[must_use]
    pub fn languages(&self, day: NaiveDate) -> Option<Vec<&str>> {
        let languages = latest(&self.facts, "languages", day)?;
        Some(languages.value.split(',').map(str::trim).filter(|language| !language.is_empty()).collect())
    }

    /// The kinds of agreement that a fact of the city lists (`council_vote_kinds`, `ceremony_kinds`), as in
    /// `twinning, cooperation`; `none` is an empty list (AG-1). `None` where the city has no such fact.
    #[must_use]
    pub fn kinds(&self, key: &str, day: NaiveDate) -> Option<Vec<String>> {
        let listed = &latest(&self.facts, key, day)?.value;
        let known = listed.split(',').map(str::trim).filter(|kind| AGREEMENT_KINDS.contains(kind));
        Some(known.map(str::to_owned).collect())
    }

    /// The fact of a key that holds on a day; `None` is unknown.
    #[must_use]
    pub fn fact(&self, key: &str, day: NaiveDate) -> Option<&Fact> {
        latest(&self.facts, key, day)
    }

    /// What its records follow on a day.
    #[must_use]
    pub fn successor_on(&self, day: NaiveDate) -> Option<RecordId> {
        self.successor.filter(|(_, from)| *from <= day).map(|(heir, _)| heir)
    }

    fn owns(&mut self, path: &str) {
        if !self.own.iter().any(|own| own == path) {
            self.own.push(path.to_owned());
        }
    }

    fn is_own(&self, path: &str) -> bool {
        self.own.iter().any(|own| own == path)
    }

    fn imported(&mut self, row: &CityRow, first: bool) {
        if !self.is_own("display_name") {
            self.name.clone_from(&row.display_name);
        }
        if !self.is_own("country_code") {
            self.country.clone_from(&row.country_code);
        }
        if !self.is_own("tier") {
            self.tier = row.tier();
        }
        if !self.is_own("population") && row.population > 0 {
            self.population = row.population.unsigned_abs();
        }
        if first {
            self.unlinked = row.source_scheme == "ties";
        }
    }

    fn created(&mut self, city: &proto::City) -> Result<(), FoldError> {
        self.name.clone_from(&city.display_name);
        self.owns("display_name");
        for path in ["country_code", "tier", "parent", "constituents", "population", "next_election_date"] {
            self.write(path, city)?;
        }
        // As in the city itself: what the entry leaves at its default stays open to imports.
        self.owns("country_code");
        if self.tier != CityTier::Municipality {
            self.owns("tier");
        }
        if self.population != 0 {
            self.owns("population");
        }
        Ok(())
    }

    fn updated(&mut self, updated: &CityUpdated) -> Result<(), FoldError> {
        let city = updated.city.clone().unwrap_or_default();
        for path in updated.update_mask.iter().flat_map(|mask| &mask.paths) {
            self.write(path, &city)?;
            if ["country_code", "tier", "population"].contains(&path.as_str()) {
                self.owns(path);
            }
        }
        Ok(())
    }

    fn write(&mut self, path: &str, city: &proto::City) -> Result<(), FoldError> {
        let id = |name: &String| names::city_id("city", name).map_err(|refusal| FoldError(refusal.message));
        match path {
            "country_code" => self.country.clone_from(&city.country_code),
            "tier" => self.tier = city.tier(),
            "parent" => self.parent = Some(&city.parent).filter(|name| !name.is_empty()).map(id).transpose()?,
            "constituents" => self.constituents = city.constituents.iter().map(id).collect::<Result<_, _>>()?,
            "population" => self.population = city.population.unsigned_abs(),
            "next_election_date" => self.next_election = folded_if_any(city.next_election_date.as_ref())?,
            _ => {}
        }
        Ok(())
    }

    fn succession(&mut self, succession: &Succession) {
        if let Some(heir) = succession.heir {
            self.successor = Some((heir, succession.date));
        }
    }
}

/// A city of which a service has not heard (CT-1).
#[must_use]
pub fn unknown(city: RecordId) -> Refusal {
    let name = RecordName::new("cities", city);
    Refusal::because(Reason::NotFound, "CT-1", format!("{name} is not known here"))
        .missing(name.as_str(), "is in no register that this service follows")
        .help("Check the name. A city that was entered only a moment ago is known in a moment: try again.")
}

/// What a service keeps of a country.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountryReference {
    /// ISO 3166-1 alpha-2.
    pub iso2: String,
    /// ISO 3166-1 alpha-3; empty where not known.
    pub iso3: String,
    /// Its name in English; empty where not known.
    pub name: String,
    /// Classes of Regimes of the World by year.
    pub regimes: BTreeMap<i32, RegimeClass>,
    /// Languages, ISO 639-3.
    pub languages: Vec<String>,
    /// What its law asks of its cities before an agreement, by the year from which it does (AG-1).
    pub conclusions: BTreeMap<i32, Conclusion>,
}

impl Reference for CountryReference {
    const COLLECTION: &'static str = "countries";
    const REVISION: u32 = 2;
    type Change = country_change::Change;

    fn fold(before: Option<Self>, change: &Self::Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        let country_change::Change::FactsImported(imported) = change;
        let mut country = before.unwrap_or_default();
        country.iso2.clone_from(&imported.country_code);
        for fact in imported.rows.iter().filter_map(|row| row.fact.as_ref()) {
            match fact {
                country_row::Fact::Profile(profile) => {
                    country.iso3.clone_from(&profile.alpha3_code);
                    country.name.clone_from(&profile.display_name);
                    country.languages.clone_from(&profile.languages);
                }
                country_row::Fact::Regime(regime) if regime.scheme() == RegimeScheme::Row => {
                    country.regimes.insert(regime.year, regime.regime_class());
                }
                country_row::Fact::Conclusion(fact) => {
                    drop(country.conclusions.insert(fact.year, Conclusion::from(fact)))
                }
                _ => {}
            }
        }
        Ok(country)
    }
}

impl CountryReference {
    /// What its law asks of its cities on a day before an agreement; `None` where no year tells.
    #[must_use]
    pub fn conclusion_on(&self, day: NaiveDate) -> Option<&Conclusion> {
        self.conclusions.range(..=day.year()).next_back().map(|(_, conclusion)| conclusion)
    }

    /// Whether the country counts as democratic on a day (CT-3); `None` where no year tells.
    #[must_use]
    pub fn democratic_at(&self, day: NaiveDate) -> Option<bool> {
        let year = self.regimes.range(..=day.year()).next_back();
        year.map(|(_, class)| *class >= crate::country::DEMOCRATIC_FROM)
    }
}

/// What a service keeps of an office, for the office's owner alone (PL-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfficeReference {
    /// The city whose office it is.
    pub city: RecordId,
    /// Whether there is one; `None` where not known.
    pub exists: Option<bool>,
    /// Where it sits.
    pub seat: OfficeSeat,
    /// Permanent staff, where known.
    pub staff_count: Option<i32>,
    /// What its staff works in, BCP 47.
    pub languages: Vec<String>,
}

impl Reference for OfficeReference {
    const COLLECTION: &'static str = "offices";
    const REVISION: u32 = 1;
    type Change = office_change::Change;

    fn fold(before: Option<Self>, change: &Self::Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        let office_change::Change::Updated(updated) = change;
        let from = updated.office.clone().unwrap_or_default();
        let city = names::city_id("city", &from.city).map_err(|refusal| FoldError(refusal.message))?;
        let mut office = before.unwrap_or(Self {
            city,
            exists: None,
            seat: OfficeSeat::Unspecified,
            staff_count: None,
            languages: Vec::new(),
        });
        for path in updated.update_mask.iter().flat_map(|mask| &mask.paths) {
            match path.as_str() {
                "existence" => office.exists = exists(from.existence()),
                "seat" => office.seat = from.seat(),
                "staff_count" => office.staff_count = from.staff_count,
                "languages" => office.languages.clone_from(&from.languages),
                _ => {}
            }
        }
        Ok(office)
    }
}

fn exists(existence: OfficeExistence) -> Option<bool> {
    match existence {
        OfficeExistence::Unspecified => None,
        OfficeExistence::Exists => Some(true),
        OfficeExistence::None => Some(false),
    }
}
