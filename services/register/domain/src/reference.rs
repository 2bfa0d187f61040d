//! The mirrors that other services keep of the register's records, so that no service calls another one to decide. A
//! mirror is stored under the id of its record.

use crate::{
    City,
    city::values::{Fact, Succession, latest, put},
    country::{Formalities, kind_of},
    date::{folded, folded_if_any},
    names,
    office::Offices,
};
use chrono::{Datelike, NaiveDate};
use hansa_kernel::plain::PlainType;
use hansa_kernel::{FoldError, ReasonClass, RecordId, RecordName, Reference, Refusal, Stamp, TenantId};
use hansa_proto::register::{
    self as proto, CityRow, CityTier, CityUpdated, OfficeExistence, OfficeSeat, RegimeClass, RegimeScheme,
    SourceRegister, city_change, country_change, country_row, office_change,
};
use hansa_proto::types::AgreementKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The mirror of a city.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CityReference {
    /// The present name.
    pub name: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// The tier of government.
    pub tier: CityTier,
    /// The city that a sub-municipal body is part of.
    pub parent: Option<RecordId>,
    /// The municipalities of a metropolis.
    pub constituents: Vec<RecordId>,
    /// The number of residents, if known.
    pub population: Option<u32>,
    /// The city's own tenant, after the city has joined.
    pub tenant: Option<TenantId>,
    /// Whether the city comes from a list of twin towns and is in no published register.
    pub unregistered: bool,
    /// The city that takes over the records of this city, and the day from which it does.
    pub successor: Option<(RecordId, NaiveDate)>,
    /// The day of the next election.
    pub next_election: Option<NaiveDate>,
    /// The first day of the last recorded term.
    pub term_since: Option<NaiveDate>,
    /// The day on which the last recorded term ends or ended.
    pub term_until: Option<NaiveDate>,
    /// The dated facts, which criteria use.
    pub facts: Vec<Fact>,
    /// The fields that were written by hand. Imports do not change them.
    pub(crate) own: Vec<String>,
}

impl From<&City> for CityReference {
    /// Returns the fields that the rules of the register need of another city.
    fn from(city: &City) -> Self {
        Self {
            name: city.display_name().to_owned(),
            country: city.country().to_owned(),
            tier: city.tier(),
            tenant: city.tenant(),
            population: city.population(),
            unregistered: !city.registered(),
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
            Change::MayorTermRecorded(recorded) => {
                let term = recorded.term.clone().unwrap_or_default();
                let (since, until) = (folded(term.start_date.as_ref())?, folded_if_any(term.end_date.as_ref())?);
                let same = city.term_since == Some(since);
                city.term_until = until.or(city.term_until.filter(|_| same));
                city.term_since = Some(since);
                if recorded.next_election_date.is_some() {
                    city.next_election = folded_if_any(recorded.next_election_date.as_ref())?;
                }
            }
            Change::MayorTermEnded(ended) => city.term_until = Some(folded(ended.end_date.as_ref())?),
            Change::FactSet(set) => put(&mut city.facts, Fact::fold(&set.fact.clone().unwrap_or_default())?),
        }
        Ok(city)
    }
}

impl CityReference {
    /// Returns the city's languages on a day, from its fact `languages`; `None` if unknown.
    #[must_use]
    pub fn languages(&self, day: NaiveDate) -> Option<Vec<&str>> {
        let languages = latest(&self.facts, "languages", day)?;
        Some(languages.value.split(',').map(str::trim).filter(|language| !language.is_empty()).collect())
    }

    /// Returns the kinds of agreement that a fact of the city lists (AG-1). The keys are `council_vote_kinds` and
    /// `ceremony_kinds`; a value is `twinning, cooperation`, for example, and the value `none` gives an empty list.
    /// Returns `None` if the city has no such fact.
    #[must_use]
    pub fn kinds(&self, key: &str, day: NaiveDate) -> Option<Vec<AgreementKind>> {
        let listed = &latest(&self.facts, key, day)?.value;
        Some(listed.split(',').filter_map(|kind| kind_of(kind.trim())).collect())
    }

    /// Returns the fact that is valid for a key on a day; `None` if unknown.
    #[must_use]
    pub fn fact(&self, key: &str, day: NaiveDate) -> Option<&Fact> {
        latest(&self.facts, key, day)
    }

    /// Returns the city that has taken over the records of this city by a day.
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
        if !self.is_own("population") && row.population.is_some() {
            self.population = row.population.map(i32::unsigned_abs);
        }
        if first {
            self.unregistered = row.source_register() == SourceRegister::Ties;
        }
    }

    fn created(&mut self, city: &proto::City) -> Result<(), FoldError> {
        self.name.clone_from(&city.display_name);
        self.owns("display_name");
        for path in ["country_code", "tier", "parent_city", "constituent_cities", "population", "next_election_date"] {
            self.write(path, city)?;
        }
        // As in `City`: imports may still write the fields that the entry leaves at their default.
        self.owns("country_code");
        if self.tier != CityTier::Municipality {
            self.owns("tier");
        }
        if self.population.is_some() {
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
            "parent_city" => {
                self.parent = Some(&city.parent_city).filter(|name| !name.is_empty()).map(id).transpose()?
            }
            "constituent_cities" => {
                self.constituents = city.constituent_cities.iter().map(id).collect::<Result<_, _>>()?
            }
            "population" => self.population = city.population.map(i32::unsigned_abs),
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

/// Returns the refusal for a city that is missing from the mirrors of the deciding service (CT-1).
#[must_use]
pub fn unknown(city: RecordId) -> Refusal {
    let name = RecordName::new("cities", city);
    Refusal::because(ReasonClass::NotFound, "CT-1", "CITY_UNKNOWN", format!("{name} is not known to this service"))
        .missing(name.as_str(), "is not in any register that this service follows")
        .help("Check the name. If the city was entered a moment ago, try again in a few seconds.")
}

/// The mirror of a country.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountryReference {
    /// ISO 3166-1 alpha-2.
    pub iso2: String,
    /// ISO 3166-1 alpha-3; empty if unknown.
    pub iso3: String,
    /// The name in English; empty if unknown.
    pub name: String,
    /// The classes of Regimes of the World, by year.
    pub regimes: BTreeMap<i32, RegimeClass>,
    /// The languages, ISO 639-3.
    pub languages: Vec<String>,
    /// The requirements of the country's law on agreements of its cities (AG-1), by the first year in which they apply.
    pub formalities: BTreeMap<i32, Formalities>,
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
                country_row::Fact::AgreementFormalities(fact) => {
                    drop(country.formalities.insert(fact.year, Formalities::from(fact)))
                }
                _ => {}
            }
        }
        Ok(country)
    }
}

impl CountryReference {
    /// Returns the requirements of the country's law on agreements on a day; `None` if no recorded year covers the day.
    #[must_use]
    pub fn formalities_on(&self, day: NaiveDate) -> Option<&Formalities> {
        self.formalities.range(..=day.year()).next_back().map(|(_, formalities)| formalities)
    }

    /// Returns whether the country counts as democratic on a day (CT-3); `None` if no recorded year covers the day.
    #[must_use]
    pub fn democratic_at(&self, day: NaiveDate) -> Option<bool> {
        let year = self.regimes.range(..=day.year()).next_back();
        year.map(|(_, class)| *class >= crate::country::DEMOCRATIC_FROM)
    }
}

/// The mirror of an office. Services use it only for the owner of the office (PL-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfficeReference {
    /// The city whose office it is.
    pub city: RecordId,
    /// Whether the office exists; `None` if unknown.
    pub exists: Option<bool>,
    /// The seat of the office in the administration.
    pub seat: OfficeSeat,
    /// The number of permanent staff, if known.
    pub staff_count: Option<i32>,
    /// The working languages of the staff, BCP 47.
    pub languages: Vec<String>,
}

impl Reference for OfficeReference {
    const COLLECTION: &'static str = "offices";
    const REVISION: u32 = 1;
    type Change = office_change::Change;

    fn fold(before: Option<Self>, change: &Self::Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        let (office, mask) = Offices::written(change).ok_or_else(|| FoldError("the change writes nothing".into()))?;
        let from = office.clone();
        let city = names::city_id("city", &from.city).map_err(|refusal| FoldError(refusal.message))?;
        let mut office = before.unwrap_or(Self {
            city,
            exists: None,
            seat: OfficeSeat::Unspecified,
            staff_count: None,
            languages: Vec::new(),
        });
        let written =
            mask.map_or_else(|| Offices::WRITABLE.to_vec(), |mask| mask.paths.iter().map(String::as_str).collect());
        for path in written {
            match path {
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
