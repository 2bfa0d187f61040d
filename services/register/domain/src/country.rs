//! Countries and their facts by year (CT-3). The facts are reference data from published files. Each fact has a source,
//! and a newer value for the same year is recorded as a change.

use crate::{city::fields, rights};
use chrono::{Datelike, NaiveDate};
use hansa_kernel::{
    Audience, Caller, Decision, FoldError, IntoResource, ReasonClass, Record, RecordId, RecordName, Refusal, Refused,
    Stamp, TenantId, record::emit, text,
};
use hansa_proto::register::{
    self as proto, AgreementFormalitiesFact, Certainty, CountryFactsImported, CountryProfile, CountryRow, FreedomFact,
    IncomeFact, IncomeGroup, LegalFreedom, OrganizationFact, OrganizationStatus, RegimeClass, RegimeFact, RegimeScheme,
    StateStructure, StructureFact, country_change::Change, country_row::Fact,
};
use hansa_proto::types::AgreementKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum number of rows of one import.
pub const IMPORT_ROWS: usize = 2_000;
/// The lowest class of Regimes of the World that counts as democratic. This is a default and not a legal definition.
pub const DEMOCRATIC_FROM: RegimeClass = RegimeClass::ElectoralDemocracy;
/// The kinds of agreement (AG-1), as spelled in facts.
pub const AGREEMENT_KINDS: [(&str, AgreementKind); 3] = [
    ("twinning", AgreementKind::Twinning),
    ("cooperation", AgreementKind::Cooperation),
    ("memorandum", AgreementKind::Memorandum),
];
/// Returns the kind of agreement that a fact names.
#[must_use]
pub fn kind_of(name: &str) -> Option<AgreementKind> {
    AGREEMENT_KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// Maximum number of facts of a country.
const FACTS: usize = 2_000;

/// The state of a country. Code outside this module cannot write its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Country {
    steward: TenantId,
    iso2: String,
    profile: Option<Profile>,
    regimes: BTreeMap<(RegimeScheme, i32), Sourced<(RegimeClass, String)>>,
    incomes: BTreeMap<i32, Sourced<IncomeGroup>>,
    structures: BTreeMap<i32, Sourced<(StateStructure, Certainty)>>,
    organizations: BTreeMap<(String, i32), Sourced<(i32, OrganizationStatus)>>,
    freedoms: BTreeMap<i32, Sourced<(LegalFreedom, LegalFreedom)>>,
    formalities: BTreeMap<i32, Sourced<Formalities>>,
    /// The sources, each once. A fact refers to its source by index.
    sources: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sourced<T> {
    value: T,
    source: usize,
}

/// The kinds of agreement that need a council vote, and those that need a ceremony (AG-1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formalities {
    /// The kinds that need a vote of the council.
    pub council_vote: Vec<AgreementKind>,
    /// The kinds that are signed in a ceremony.
    pub ceremony: Vec<AgreementKind>,
}

impl From<&AgreementFormalitiesFact> for Formalities {
    fn from(fact: &AgreementFormalitiesFact) -> Self {
        Self { council_vote: fact.council_vote_kinds().collect(), ceremony: fact.ceremony_kinds().collect() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Profile {
    iso3: String,
    display_name: String,
    official_name: String,
    region: String,
    subregion: String,
    un_member_year: i32,
    languages: Vec<String>,
    source: usize,
}

/// Returns the id of a country, derived from its code (ISO 3166-1 alpha-2).
#[must_use]
pub fn id_of(iso2: &str) -> RecordId {
    RecordId::from_source("iso3166", iso2)
}

impl Country {
    fn blank(steward: TenantId, iso2: &str) -> Self {
        Self {
            steward,
            iso2: iso2.to_owned(),
            profile: None,
            regimes: BTreeMap::new(),
            incomes: BTreeMap::new(),
            structures: BTreeMap::new(),
            organizations: BTreeMap::new(),
            freedoms: BTreeMap::new(),
            formalities: BTreeMap::new(),
            sources: Vec::new(),
        }
    }

    /// Returns the country code (ISO 3166-1 alpha-2).
    #[must_use]
    pub fn iso2(&self) -> &str {
        &self.iso2
    }

    /// Returns whether the country counts as democratic on a day, by the latest class up to its year. Returns `None` if
    /// there is no class; callers answer this with a caution and never with a refusal.
    #[must_use]
    pub fn democratic_at(&self, day: NaiveDate) -> Option<bool> {
        let years = (RegimeScheme::Row, i32::MIN)..=(RegimeScheme::Row, day.year());
        self.regimes.range(years).next_back().map(|(_, regime)| regime.value.0 >= DEMOCRATIC_FROM)
    }

    /// Returns the number of facts, without the profile.
    #[must_use]
    pub fn facts(&self) -> usize {
        let of_regimes = self.regimes.len() + self.incomes.len() + self.structures.len();
        of_regimes + self.organizations.len() + self.freedoms.len() + self.formalities.len()
    }

    /// Returns the API message of the country.
    #[must_use]
    pub fn resource(&self, name: &RecordName, etag: &str) -> proto::Country {
        proto::Country {
            name: name.to_string(),
            etag: etag.to_owned(),
            country_code: self.iso2.clone(),
            profile: self.profile.as_ref().map(|profile| self.profile(profile)),
            regimes: self.regimes.iter().map(|(at, regime)| self.regime(*at, regime)).collect(),
            incomes: self.incomes.iter().map(|(year, income)| self.income(*year, income)).collect(),
            structures: self.structures.iter().map(|(year, structure)| self.structure(*year, structure)).collect(),
            organizations: self.organizations.iter().map(|(at, tie)| self.organization(at, tie)).collect(),
            freedoms: self.freedoms.iter().map(|(year, freedom)| self.freedom(*year, freedom)).collect(),
            agreement_formalities: self.formalities.iter().map(|(year, fact)| self.formalities(*year, fact)).collect(),
            create_time: None,
            update_time: None,
        }
    }

    fn source(&self, at: usize) -> String {
        self.sources.get(at).cloned().unwrap_or_default()
    }

    fn profile(&self, profile: &Profile) -> CountryProfile {
        CountryProfile {
            alpha3_code: profile.iso3.clone(),
            display_name: profile.display_name.clone(),
            official_name: profile.official_name.clone(),
            region: profile.region.clone(),
            subregion: profile.subregion.clone(),
            un_member_year: profile.un_member_year,
            languages: profile.languages.clone(),
            source: self.source(profile.source),
        }
    }

    fn regime(&self, (scheme, year): (RegimeScheme, i32), fact: &Sourced<(RegimeClass, String)>) -> RegimeFact {
        let (class, value) = &fact.value;
        let (scheme, regime_class) = (scheme as i32, *class as i32);
        RegimeFact { scheme, year, regime_class, value: value.clone(), source: self.source(fact.source) }
    }

    fn income(&self, fiscal_year: i32, fact: &Sourced<IncomeGroup>) -> IncomeFact {
        IncomeFact { fiscal_year, income_group: fact.value as i32, source: self.source(fact.source) }
    }

    fn structure(&self, year: i32, fact: &Sourced<(StateStructure, Certainty)>) -> StructureFact {
        let (structure, certainty) = &fact.value;
        StructureFact {
            year,
            structure: *structure as i32,
            certainty: *certainty as i32,
            source: self.source(fact.source),
        }
    }

    fn organization(&self, at: &(String, i32), fact: &Sourced<(i32, OrganizationStatus)>) -> OrganizationFact {
        OrganizationFact {
            organization: at.0.clone(),
            join_year: at.1,
            leave_year: fact.value.0,
            status: fact.value.1 as i32,
            source: self.source(fact.source),
        }
    }

    fn freedom(&self, year: i32, fact: &Sourced<(LegalFreedom, LegalFreedom)>) -> FreedomFact {
        let (de_jure, de_facto) = (fact.value.0 as i32, fact.value.1 as i32);
        FreedomFact { year, de_jure, de_facto, source: self.source(fact.source) }
    }

    fn formalities(&self, year: i32, fact: &Sourced<Formalities>) -> AgreementFormalitiesFact {
        let numbers = |kinds: &[AgreementKind]| kinds.iter().map(|kind| *kind as i32).collect();
        AgreementFormalitiesFact {
            year,
            council_vote_kinds: numbers(&fact.value.council_vote),
            ceremony_kinds: numbers(&fact.value.ceremony),
            source: self.source(fact.source),
        }
    }

    fn place(&mut self, source: &str) -> usize {
        self.sources.iter().position(|known| known == source).unwrap_or_else(|| {
            self.sources.push(source.to_owned());
            self.sources.len() - 1
        })
    }

    /// Inserts a fact. It replaces a fact of the same kind and year.
    fn put(&mut self, fact: &Fact) {
        match fact {
            Fact::Profile(p) => self.put_profile(p),
            Fact::Regime(f) => {
                let of = Sourced { value: (f.regime_class(), f.value.clone()), source: self.place(&f.source) };
                self.regimes.insert((f.scheme(), f.year), of);
            }
            Fact::Income(f) => {
                let of = Sourced { value: f.income_group(), source: self.place(&f.source) };
                self.incomes.insert(f.fiscal_year, of);
            }
            Fact::Structure(f) => {
                let of = Sourced { value: (f.structure(), f.certainty()), source: self.place(&f.source) };
                self.structures.insert(f.year, of);
            }
            Fact::Organization(f) => {
                let of = Sourced { value: (f.leave_year, f.status()), source: self.place(&f.source) };
                self.organizations.insert((f.organization.clone(), f.join_year), of);
            }
            Fact::Freedom(f) => {
                let of = Sourced { value: (f.de_jure(), f.de_facto()), source: self.place(&f.source) };
                self.freedoms.insert(f.year, of);
            }
            Fact::AgreementFormalities(f) => {
                let of = Sourced { value: Formalities::from(f), source: self.place(&f.source) };
                self.formalities.insert(f.year, of);
            }
        }
    }

    fn put_profile(&mut self, profile: &CountryProfile) {
        let source = self.place(&profile.source);
        self.profile = Some(Profile {
            iso3: profile.alpha3_code.clone(),
            display_name: profile.display_name.clone(),
            official_name: profile.official_name.clone(),
            region: profile.region.clone(),
            subregion: profile.subregion.clone(),
            un_member_year: profile.un_member_year,
            languages: profile.languages.clone(),
            source,
        });
    }
}

impl IntoResource for Country {
    type Resource = proto::Country;

    fn to_resource(&self, name: &RecordName, etag: &str, _: &Caller) -> proto::Country {
        self.resource(name, etag)
    }

    fn basic(country: proto::Country) -> proto::Country {
        let proto::Country { name, etag, country_code, profile, create_time, update_time, .. } = country;
        proto::Country { name, etag, country_code, profile, create_time, update_time, ..proto::Country::default() }
    }
}

impl Record for Country {
    const COLLECTION: &'static str = "countries";
    const REVISION: u32 = 2;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, FoldError> {
        let Change::FactsImported(imported) = change;
        let mut country = match before {
            Some(country) => country,
            None => Self::blank(crate::city::first_owner(stamp)?, &imported.country_code),
        };
        if country.iso2 != imported.country_code {
            return Err(FoldError(format!("the facts are about country {}", imported.country_code)));
        }
        imported.rows.iter().filter_map(|row| row.fact.as_ref()).for_each(|fact| country.put(fact));
        Ok(country)
    }

    fn owner(&self) -> TenantId {
        self.steward
    }

    fn audience(&self) -> Audience {
        Audience::default().and_public(true)
    }
}

/// Imports facts of the country `iso2`. The change contains only the rows with new facts; if there is none, nothing is
/// recorded.
///
/// # Errors
/// Refused under CT-10 if the caller is not the steward of the entry, under CT-3 if a row is invalid or about another
/// country or if the country has too many facts, and under PL-4 if `iso2` is not a country code.
pub fn import(before: Option<&Country>, iso2: &str, rows: &[CountryRow], caller: &Caller) -> Decision<Change> {
    rights::steward(caller)?;
    fields::country(iso2)?;
    if let Some(country) = before.filter(|country| country.owner() != caller.tenant) {
        return Err(Refusal::because(
            ReasonClass::NotPermitted,
            "CT-10",
            "NOT_COUNTRY_KEEPER",
            "another steward keeps this country",
        )
        .missing(country.owner().name(), "must make the change")
        .help("Ask that steward."));
    }
    let mut next = before.cloned().unwrap_or_else(|| Country::blank(caller.tenant, iso2));
    let mut new = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let fact = checked(iso2, row).map_err(|refusal| {
            let message = format!("row {i}: {}", refusal.message);
            Refusal { message, ..refusal }.under("CT-3")
        })?;
        let so_far = next.clone();
        next.put(fact);
        if next != so_far {
            new.push(row.clone());
        }
    }
    if next.facts() > FACTS {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "CT-3",
            "TOO_MANY_COUNTRY_FACTS",
            format!("a country has at most {FACTS} facts"),
        )
        .help("Import fewer years. A fact replaces an earlier fact of the same kind and year."));
    }
    if new.is_empty() { Ok(Vec::new()) } else { emit(CountryFactsImported { country_code: iso2.into(), rows: new }) }
}

/// Groups rows by country, in the order in which the countries first appear.
#[must_use]
pub fn by_country(rows: Vec<CountryRow>) -> Vec<(String, Vec<CountryRow>)> {
    let mut places = BTreeMap::new();
    let mut out: Vec<(String, Vec<CountryRow>)> = Vec::new();
    for row in rows {
        let at = *places.entry(row.country_code.clone()).or_insert(out.len());
        if at == out.len() {
            out.push((row.country_code.clone(), Vec::new()));
        }
        out[at].1.push(row);
    }
    out
}

fn checked<'a>(iso2: &str, row: &'a CountryRow) -> Refused<&'a Fact> {
    if row.country_code != iso2 {
        return Err(Refusal::field("country_code", format!("is not {iso2}")));
    }
    let fact = row.fact.as_ref().ok_or_else(|| Refusal::field("fact", "is required"))?;
    match fact {
        Fact::Profile(p) => profile(p)?,
        Fact::Regime(f) => {
            stated("regime.scheme", f.scheme() != RegimeScheme::Unspecified)?;
            stated("regime.regime_class", fits(f.scheme(), f.regime_class()))?;
            fields::short("regime.value", &f.value, 20)?;
            dated("regime.year", f.year, &f.source)?;
        }
        Fact::Income(f) => {
            stated("income.income_group", f.income_group() != IncomeGroup::Unspecified)?;
            dated("income.fiscal_year", f.fiscal_year, &f.source)?;
        }
        Fact::Structure(f) => {
            stated("structure.structure", f.structure() != StateStructure::Unspecified)?;
            stated("structure.certainty", Certainty::try_from(f.certainty).is_ok())?;
            dated("structure.year", f.year, &f.source)?;
        }
        Fact::Organization(f) => organization(f)?,
        Fact::Freedom(f) => {
            let known = LegalFreedom::try_from(f.de_jure).is_ok() && LegalFreedom::try_from(f.de_facto).is_ok();
            stated("freedom", known)?;
            dated("freedom.year", f.year, &f.source)?;
        }
        Fact::AgreementFormalities(f) => {
            stated("agreement_formalities.council_vote_kinds", kinds(&f.council_vote_kinds))?;
            stated("agreement_formalities.ceremony_kinds", kinds(&f.ceremony_kinds))?;
            dated("agreement_formalities.year", f.year, &f.source)?;
        }
    }
    Ok(fact)
}

/// Returns whether all are known kinds of agreement, each listed once.
fn kinds(named: &[i32]) -> bool {
    let known = |kind: &i32| AgreementKind::try_from(*kind).is_ok_and(|kind| kind != AgreementKind::Unspecified);
    named.iter().all(known) && named.iter().enumerate().all(|(i, kind)| !named[..i].contains(kind))
}

/// Returns whether a class belongs to the scheme.
fn fits(scheme: RegimeScheme, class: RegimeClass) -> bool {
    match scheme {
        RegimeScheme::Row => (RegimeClass::ClosedAutocracy..=RegimeClass::LiberalDemocracy).contains(&class),
        RegimeScheme::FreedomHouse => (RegimeClass::Free..=RegimeClass::NotFree).contains(&class),
        RegimeScheme::VdemLibdem | RegimeScheme::Unspecified => class == RegimeClass::Unspecified,
    }
}

fn profile(profile: &CountryProfile) -> Refused<()> {
    let iso3 = &profile.alpha3_code;
    stated("profile.alpha3_code", iso3.len() == 3 && iso3.chars().all(|c| c.is_ascii_uppercase()))?;
    text::name("profile.display_name", &profile.display_name)?;
    fields::short("profile.official_name", &profile.official_name, 200)?;
    fields::short("profile.region", &profile.region, 100)?;
    fields::short("profile.subregion", &profile.subregion, 100)?;
    let languages = &profile.languages;
    let codes = languages.iter().all(|code| code.len() == 3 && code.chars().all(|c| c.is_ascii_lowercase()));
    stated("profile.languages", languages.len() <= 50 && codes && languages.is_sorted())?;
    text::name("profile.source", &profile.source)
}

fn organization(fact: &OrganizationFact) -> Refused<()> {
    stated("organization.organization", !fact.organization.is_empty())?;
    fields::short("organization.organization", &fact.organization, 20)?;
    stated("organization.status", fact.status() != OrganizationStatus::Unspecified)?;
    for year in [fact.join_year, fact.leave_year].into_iter().filter(|year| *year != 0) {
        dated("organization.year", year, &fact.source)?;
    }
    stated("organization.leave_year", fact.leave_year == 0 || fact.leave_year >= fact.join_year)?;
    text::name("organization.source", &fact.source)
}

fn stated(field: &str, holds: bool) -> Refused<()> {
    if holds { Ok(()) } else { Err(Refusal::field(field, "is missing, unknown or malformed")) }
}

fn dated(field: &str, year: i32, source: &str) -> Refused<()> {
    stated(field, (1800..=2200).contains(&year))?;
    text::name("source", source)
}

#[cfg(test)]
#[path = "country/tests.rs"]
mod tests;
