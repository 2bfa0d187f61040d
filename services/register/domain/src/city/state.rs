//! The state of a city, and its fold (CT-1, CT-2, CT-4, CT-10, CT-11, CT-13).
//!
//! A register has many imported cities, so the stored state is small: a field with an unknown value takes almost no
//! space.

use super::{
    fields,
    values::{Fact, FormerName, Succession, Term, latest, put},
};
use crate::{
    date::{folded, folded_if_any},
    names,
    size::{self, Designation},
};
use chrono::NaiveDate;
use hansa_kernel::{
    Audience, Caller, FoldError, IntoResource, Record, RecordId, RecordName, Refusal, Refused, Stamp, TenantId, time,
};
use hansa_proto::register::{
    self as proto, CityJoined, CityRenamed, CityTier, CityUpdated, IdentifierScheme, MayorTermRecorded, TermEndReason,
    city_change::Change,
};
use serde::{Deserialize, Serialize};

/// Maximum number of terms in a city's state. Older terms remain in its history.
const TERMS: usize = 50;

/// The state of a city. Code outside this crate cannot write its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct City {
    pub(crate) steward: TenantId,
    pub(crate) tenant: Option<(TenantId, NaiveDate)>,
    pub(crate) display_name: String,
    pub(crate) country: String,
    pub(crate) subdivision_code: String,
    pub(crate) tier: CityTier,
    pub(crate) parent: Option<RecordId>,
    pub(crate) constituents: Vec<RecordId>,
    pub(crate) population: Option<u32>,
    pub(crate) agglomeration: Option<u32>,
    pub(crate) global: Option<Designation>,
    /// Latitude and longitude in hundred-thousandths of a degree.
    pub(crate) location: Option<(i32, i32)>,
    pub(crate) time_zone: String,
    pub(crate) identifiers: Vec<(IdentifierScheme, String)>,
    pub(crate) alternative_names: Vec<String>,
    pub(crate) former_names: Vec<FormerName>,
    pub(crate) terms: Vec<Term>,
    pub(crate) next_election: Option<NaiveDate>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) successions: Vec<Succession>,
    pub(crate) founded: Option<NaiveDate>,
    pub(crate) registered: bool,
    pub(crate) source: String,
    /// The fields that were written by hand, one bit each. Imports do not overwrite them.
    pub(super) own: u32,
}

impl City {
    pub(crate) fn blank(steward: TenantId) -> Self {
        Self {
            steward,
            tenant: None,
            display_name: String::new(),
            country: String::new(),
            subdivision_code: String::new(),
            tier: CityTier::Municipality,
            parent: None,
            constituents: Vec::new(),
            population: None,
            agglomeration: None,
            global: None,
            location: None,
            time_zone: String::new(),
            identifiers: Vec::new(),
            alternative_names: Vec::new(),
            former_names: Vec::new(),
            terms: Vec::new(),
            next_election: None,
            facts: Vec::new(),
            successions: Vec::new(),
            founded: None,
            registered: true,
            source: String::new(),
            own: 0,
        }
    }

    /// Returns the present name.
    #[must_use]
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// Returns the country code (ISO 3166-1 alpha-2).
    #[must_use]
    pub fn country(&self) -> &str {
        &self.country
    }

    /// Returns the tier of government.
    #[must_use]
    pub fn tier(&self) -> CityTier {
        self.tier
    }

    /// Returns the city's own tenant; `None` until the city joins.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant.map(|(tenant, _)| tenant)
    }

    /// Returns the number of residents within the boundary, if it is known.
    #[must_use]
    pub fn population(&self) -> Option<u32> {
        self.population
    }

    /// Returns false if the city is only known by name, as one end of an imported tie.
    #[must_use]
    pub fn registered(&self) -> bool {
        self.registered
    }

    /// Returns the city as it was on a day; `None` if it was founded later (CT-11).
    #[must_use]
    pub fn as_of(&self, day: NaiveDate) -> Option<Self> {
        if self.founded.is_some_and(|founded| day < founded) {
            return None;
        }
        let mut then = self.clone();
        if let Some(former) = self.former_names.iter().find(|former| day < former.until) {
            then.display_name.clone_from(&former.name);
        }
        then.former_names.retain(|former| former.until <= day);
        then.terms.retain(|term| term.start <= day);
        then.facts.retain(|fact| fact.as_of <= day);
        then.successions.retain(|succession| succession.date <= day);
        then.tenant = self.tenant.filter(|(_, joined)| *joined <= day);
        then.global = self.global.clone().filter(|global| global.date() <= day);
        Some(then)
    }

    /// Returns the API message of the city.
    #[must_use]
    pub fn resource(&self, name: &RecordName, etag: &str) -> proto::City {
        proto::City {
            name: name.to_string(),
            etag: etag.to_owned(),
            display_name: self.display_name.clone(),
            country_code: self.country.clone(),
            subdivision_code: self.subdivision_code.clone(),
            tier: self.tier as i32,
            parent_city: self.parent.map(names::city_name).unwrap_or_default(),
            constituent_cities: self.constituents.iter().map(|id| names::city_name(*id)).collect(),
            population: self.population.map(u32::cast_signed),
            agglomeration_population: self.agglomeration.map(u32::cast_signed),
            size_class: size::class(self.population) as i32,
            megacity: size::megacity(self.agglomeration),
            global_designation: self.global.as_ref().map(Designation::to_proto),
            location: self.location.map(fields::degrees),
            time_zone: self.time_zone.clone(),
            identifiers: fields::identifiers(&self.identifiers),
            former_names: self.former_names.iter().map(FormerName::to_proto).collect(),
            alternative_names: self.alternative_names.clone(),
            mayor_terms: self.terms.iter().map(Term::to_proto).collect(),
            next_election_date: self.next_election.map(time::date),
            facts: self.facts.iter().map(Fact::to_proto).collect(),
            successions: self.successions.iter().map(Succession::to_proto).collect(),
            registered: self.registered,
            tenant: self.tenant().map(TenantId::name).unwrap_or_default(),
            join_date: self.tenant.map(|(_, joined)| time::date(joined)),
            source: self.source.clone(),
            founding_date: self.founded.map(time::date),
            office: names::office_name(name.id),
            create_time: None,
            update_time: None,
        }
    }

    fn renamed(&mut self, renamed: &CityRenamed) -> Result<(), FoldError> {
        let before = std::mem::replace(&mut self.display_name, renamed.display_name.clone());
        if let Some(until) = folded_if_any(renamed.effective_date.as_ref())? {
            self.former_names.push(FormerName { name: before, until });
        }
        self.own |= fields::NAME;
        Ok(())
    }

    fn created(&mut self, city: &proto::City) -> Result<(), FoldError> {
        self.display_name.clone_from(&city.display_name);
        self.source.clone_from(&city.source);
        self.own |= fields::NAME;
        for field in fields::WRITABLE {
            let before = self.clone();
            self.apply(field, city).map_err(|refusal| FoldError(refusal.message))?;
            if *self != before {
                self.own |= fields::bit(field);
            }
        }
        Ok(())
    }

    fn updated(&mut self, updated: &CityUpdated) -> Result<(), FoldError> {
        let city = updated.city.clone().unwrap_or_default();
        for path in updated.update_mask.iter().flat_map(|mask| &mask.paths) {
            self.apply(path, &city).map_err(|refusal| FoldError(refusal.message))?;
            self.own |= fields::bit(path);
        }
        Ok(())
    }

    fn joined(&mut self, joined: &CityJoined, stamp: &Stamp) -> Result<(), FoldError> {
        let tenant = TenantId::parse(&joined.tenant, "tenant").map_err(|refusal| FoldError(refusal.message))?;
        if self.tenant.is_some() {
            return Err(FoldError("the city has already joined".into()));
        }
        self.tenant = Some((tenant, stamp.at.date_naive()));
        Ok(())
    }
}

impl City {
    /// Copies a field from `from` and checks it on its own; rules that span several fields are checked elsewhere.
    pub(super) fn apply(&mut self, path: &str, from: &proto::City) -> Refused<()> {
        match path {
            "country_code" => self.country = fields::country(&from.country_code)?,
            "subdivision_code" => {
                self.subdivision_code = fields::short("city.subdivision_code", &from.subdivision_code, 20)?;
            }
            "tier" => self.tier = fields::tier(from.tier)?,
            "parent_city" if from.parent_city.is_empty() => self.parent = None,
            "parent_city" => self.parent = Some(names::city_id("city.parent_city", &from.parent_city)?),
            "constituent_cities" => {
                self.constituents = fields::names("city.constituent_cities", &from.constituent_cities)?;
            }
            "population" => self.population = size::population("city.population", from.population)?,
            "agglomeration_population" => {
                self.agglomeration = size::population("city.agglomeration_population", from.agglomeration_population)?;
            }
            "global_designation" => self.global = fields::global(from)?,
            "location" => self.location = from.location.as_ref().map(fields::location).transpose()?,
            "time_zone" => self.time_zone = fields::time_zone(&from.time_zone)?,
            "identifiers" => self.identifiers = fields::checked_identifiers(&from.identifiers)?,
            "alternative_names" => self.alternative_names = fields::alternative_names(&from.alternative_names)?,
            "next_election_date" => {
                self.next_election = time::day_if_any("city.next_election_date", from.next_election_date.as_ref())?;
            }
            "founding_date" => self.founded = time::day_if_any("city.founding_date", from.founding_date.as_ref())?,
            _ => return Err(Refusal::field(path, "is not a writable field")),
        }
        Ok(())
    }

    /// Returns the fact with the key that holds on a day.
    #[must_use]
    pub fn fact(&self, key: &str, day: NaiveDate) -> Option<&Fact> {
        latest(&self.facts, key, day)
    }

    pub(crate) fn set(&mut self, fact: Fact) {
        put(&mut self.facts, fact);
    }

    /// Returns the mayor's term that is running on a day.
    #[must_use]
    pub fn term_on(&self, day: NaiveDate) -> Option<&Term> {
        self.terms.iter().rev().find(|term| term.runs_on(day))
    }

    pub(crate) fn term_recorded(&mut self, recorded: &MayorTermRecorded) -> Result<(), FoldError> {
        let term = Term::fold(&recorded.term.clone().unwrap_or_default())?;
        match self.terms.last_mut() {
            Some(last) if term.start < last.start => return Err(FoldError("the term starts before the last".into())),
            Some(last) if last.start == term.start => last.correct(term),
            last => {
                if let Some(last) = last {
                    last.end = Some(last.end.map_or(term.start, |end| end.min(term.start)));
                }
                self.terms.push(term);
            }
        }
        if self.terms.len() > TERMS {
            self.terms.remove(0);
        }
        if let Some(next) = folded_if_any(recorded.next_election_date.as_ref())? {
            self.next_election = Some(next);
        }
        Ok(())
    }

    pub(crate) fn term_ended(&mut self, reason: TermEndReason, date: NaiveDate) -> Result<(), FoldError> {
        let term = self.terms.last_mut().ok_or_else(|| FoldError("the city has no term".into()))?;
        (term.end, term.reason) = (Some(date), reason);
        Ok(())
    }

    /// Returns the succession that ended the city, if the city has ended by the day.
    #[must_use]
    pub fn ended(&self, day: NaiveDate) -> Option<&Succession> {
        self.end().filter(|end| end.date <= day)
    }

    /// Returns the succession that ends the city, even if its date is in the future.
    #[must_use]
    pub fn end(&self) -> Option<&Succession> {
        self.successions.iter().find(|succession| succession.heir.is_some())
    }
}

impl IntoResource for City {
    type Resource = proto::City;

    fn to_resource(&self, name: &RecordName, etag: &str, _: &Caller) -> proto::City {
        self.resource(name, etag)
    }

    fn basic(city: proto::City) -> proto::City {
        proto::City {
            constituent_cities: Vec::new(),
            identifiers: Vec::new(),
            former_names: Vec::new(),
            alternative_names: Vec::new(),
            mayor_terms: Vec::new(),
            facts: Vec::new(),
            successions: Vec::new(),
            ..city
        }
    }
}

impl Record for City {
    const COLLECTION: &'static str = names::CITIES;
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, FoldError> {
        let first = before.is_none();
        let mut city = match before {
            Some(city) => city,
            None => Self::blank(first_owner(stamp)?),
        };
        if first != (stamp.version == 1) || (first && !matches!(change, Change::Imported(_) | Change::Created(_))) {
            return Err(FoldError("the first change of a city must be an import or a creation".into()));
        }
        match change {
            Change::Imported(imported) => city.imported(imported, first)?,
            Change::Created(_) if !first => return Err(FoldError("the city already exists".into())),
            Change::Created(created) => city.created(&created.city.clone().unwrap_or_default())?,
            Change::Updated(updated) => city.updated(updated)?,
            Change::Renamed(renamed) => city.renamed(renamed)?,
            Change::Merged(merged) => city.successions.push(Succession::merged(merged)?),
            Change::Split(split) => city.successions.push(Succession::split(split)?),
            Change::Succeeded(succeeded) => city.successions.push(Succession::succeeded(succeeded)?),
            Change::Joined(joined) => city.joined(joined, stamp)?,
            Change::MayorTermRecorded(recorded) => city.term_recorded(recorded)?,
            Change::MayorTermEnded(ended) => city.term_ended(ended.end_reason(), folded(ended.end_date.as_ref())?)?,
            Change::FactSet(set) => city.set(Fact::fold(&set.fact.clone().unwrap_or_default())?),
        }
        Ok(city)
    }

    fn owner(&self) -> TenantId {
        self.tenant().unwrap_or(self.steward)
    }

    fn audience(&self) -> Audience {
        Audience::default().and_public(true)
    }
}

/// Returns the tenant that owns a new record: the party of the stamp or else the tenant of the actor.
pub(crate) fn first_owner(stamp: &Stamp) -> Result<TenantId, FoldError> {
    match stamp.party {
        Some(party) => Ok(party),
        None => TenantId::parse(&stamp.actor.tenant, "actor.tenant").map_err(|refusal| FoldError(refusal.message)),
    }
}
