//! A city of the register: its state, how changes fold into it, who may change it (CT-1, CT-2, CT-10, CT-11).
//!
//! The state of an imported city is small, for there are many: what is not known takes no room.

mod deletion;
pub(crate) mod fields;
mod import;

use crate::{
    date::{folded, folded_if_any},
    fact::Fact,
    office::{self, Office},
    rights,
    size::{self, Designation},
    succession::{FormerName, Succession},
    term::Term,
    tier::{self, Known, Place},
};
use chrono::NaiveDate;
pub use deletion::delete;
use hansa_kernel::{
    Audience, Caller, Decision, Happened, Misfit, Moment, Reason, Record, RecordId, RecordName, Refusal, Refused,
    Shown, Stamp, TenantId, mask, record::happened, text, time,
};
use hansa_proto::{
    Masked,
    register::{
        self as proto, CityCreated, CityJoined, CityRenamed, CityTier, CityUpdated, CreateCityRequest,
        IdentifierScheme, RenameCityRequest, UpdateCityRequest, city_change::Change,
    },
};
pub use import::{IMPORT_ROWS, check, import, outcome, row_id};
use prost_types::FieldMask;
use serde::{Deserialize, Serialize};

/// Most former names of a city.
const FORMER_NAMES: usize = 50;

/// A city. Its fields cannot be written but by the fold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct City {
    pub(crate) steward: TenantId,
    pub(crate) tenant: Option<(TenantId, NaiveDate)>,
    pub(crate) display_name: String,
    pub(crate) country: String,
    pub(crate) admin1: String,
    pub(crate) tier: CityTier,
    pub(crate) parent: Option<RecordId>,
    pub(crate) constituents: Vec<RecordId>,
    pub(crate) population: u64,
    pub(crate) agglomeration: u64,
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
    pub(crate) linked: bool,
    pub(crate) source: String,
    /// Fields that were written by hand, one bit each: imports leave them alone.
    own: u32,
}

impl City {
    pub(crate) fn blank(steward: TenantId) -> Self {
        Self {
            steward,
            tenant: None,
            display_name: String::new(),
            country: String::new(),
            admin1: String::new(),
            tier: CityTier::Municipality,
            parent: None,
            constituents: Vec::new(),
            population: 0,
            agglomeration: 0,
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
            linked: true,
            source: String::new(),
            own: 0,
        }
    }

    /// Its name now.
    #[must_use]
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// ISO 3166-1 alpha-2.
    #[must_use]
    pub fn country(&self) -> &str {
        &self.country
    }

    /// What kind of government it is.
    #[must_use]
    pub fn tier(&self) -> CityTier {
        self.tier
    }

    /// The city's own tenant, once it has joined.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant.map(|(tenant, _)| tenant)
    }

    /// Residents within the boundary; 0 where not known.
    #[must_use]
    pub fn population(&self) -> u64 {
        self.population
    }

    /// Whether it stands in a register.
    #[must_use]
    pub fn linked(&self) -> bool {
        self.linked
    }

    /// The city as it was on a day; `None` before it came into being (CT-11).
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

    /// As the contract shows it.
    #[must_use]
    pub fn resource(&self, name: &RecordName, etag: &str) -> proto::City {
        proto::City {
            name: name.to_string(),
            etag: etag.to_owned(),
            display_name: self.display_name.clone(),
            country_code: self.country.clone(),
            admin1: self.admin1.clone(),
            tier: self.tier as i32,
            parent: self.parent.map(rights::city_name).unwrap_or_default(),
            constituents: self.constituents.iter().map(|id| rights::city_name(*id)).collect(),
            population: self.population.cast_signed(),
            agglomeration_population: self.agglomeration.cast_signed(),
            size_class: size::class(self.population) as i32,
            megacity: size::megacity(self.agglomeration),
            global_designation: self.global.as_ref().map(Designation::to_proto),
            location: self.location.map(|(latitude_e5, longitude_e5)| proto::Location { latitude_e5, longitude_e5 }),
            time_zone: self.time_zone.clone(),
            identifiers: fields::identifiers(&self.identifiers),
            former_names: self.former_names.iter().map(FormerName::to_proto).collect(),
            alternative_names: self.alternative_names.clone(),
            terms: self.terms.iter().map(Term::to_proto).collect(),
            next_election_date: self.next_election.map(time::date),
            facts: self.facts.iter().map(Fact::to_proto).collect(),
            successions: self.successions.iter().map(Succession::to_proto).collect(),
            linked: self.linked,
            tenant: self.tenant().map(TenantId::name).unwrap_or_default(),
            joined_date: self.tenant.map(|(_, joined)| time::date(joined)),
            source: self.source.clone(),
            founded_date: self.founded.map(time::date),
            office: RecordName::new(Office::COLLECTION, office::id_of(name.id)).to_string(),
        }
    }

    fn renamed(&mut self, renamed: &CityRenamed) -> Result<(), Misfit> {
        let before = std::mem::replace(&mut self.display_name, renamed.display_name.clone());
        if let Some(until) = folded_if_any(renamed.effective_date.as_ref())? {
            self.former_names.push(FormerName { name: before, until });
        }
        self.own |= fields::NAME;
        Ok(())
    }

    fn created(&mut self, city: &proto::City) -> Result<(), Misfit> {
        self.display_name.clone_from(&city.display_name);
        self.source.clone_from(&city.source);
        self.own |= fields::NAME;
        for field in fields::WRITABLE {
            let before = self.clone();
            fields::apply(self, field, city).map_err(|refusal| Misfit(refusal.message))?;
            if *self != before {
                self.own |= fields::bit(field);
            }
        }
        Ok(())
    }

    fn updated(&mut self, updated: &CityUpdated) -> Result<(), Misfit> {
        let city = updated.city.clone().unwrap_or_default();
        for path in updated.update_mask.iter().flat_map(|mask| &mask.paths) {
            fields::apply(self, path, &city).map_err(|refusal| Misfit(refusal.message))?;
            self.own |= fields::bit(path);
        }
        Ok(())
    }

    fn joined(&mut self, joined: &CityJoined, stamp: &Stamp) -> Result<(), Misfit> {
        let tenant = TenantId::parse(&joined.tenant, "tenant").map_err(|refusal| Misfit(refusal.message))?;
        if self.tenant.is_some() {
            return Err(Misfit("the city has joined already".into()));
        }
        self.tenant = Some((tenant, stamp.at.date_naive()));
        Ok(())
    }
}

impl Shown for City {
    type Resource = proto::City;

    fn shown(&self, name: &RecordName, etag: &str, _: &Caller) -> proto::City {
        self.resource(name, etag)
    }
}

impl Record for City {
    const COLLECTION: &'static str = "cities";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, Misfit> {
        let first = before.is_none();
        let mut city = match before {
            Some(city) => city,
            None => Self::blank(first_owner(stamp)?),
        };
        if first != (stamp.version == 1) || (first && !matches!(change, Change::Imported(_) | Change::Created(_))) {
            return Err(Misfit("a city begins by an import or an entry".into()));
        }
        match change {
            Change::Imported(imported) => city.imported(imported, first)?,
            Change::Created(_) if !first => return Err(Misfit("the city was entered before".into())),
            Change::Created(created) => city.created(&created.city.clone().unwrap_or_default())?,
            Change::Updated(updated) => city.updated(updated)?,
            Change::Renamed(renamed) => city.renamed(renamed)?,
            Change::Merged(merged) => city.successions.push(Succession::merged(merged)?),
            Change::Split(split) => city.successions.push(Succession::split(split)?),
            Change::Succeeded(succeeded) => city.successions.push(Succession::succeeded(succeeded)?),
            Change::Joined(joined) => city.joined(joined, stamp)?,
            Change::TermRecorded(recorded) => city.term_recorded(recorded)?,
            Change::TermEnded(ended) => city.term_ended(ended.end(), folded(ended.end_date.as_ref())?)?,
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

/// The tenant for which a record was begun.
pub(crate) fn first_owner(stamp: &Stamp) -> Result<TenantId, Misfit> {
    match stamp.party {
        Some(party) => Ok(party),
        None => TenantId::parse(&stamp.actor.tenant, "actor.tenant").map_err(|refusal| Misfit(refusal.message)),
    }
}

/// The cities that a command names as parent or constituents: what the rules below must know of.
///
/// # Errors
/// INVALID_FIELD where one is no city's name.
pub fn mentioned(city: &proto::City) -> Refused<Vec<RecordId>> {
    let mut ids = fields::names("city.constituents", &city.constituents)?;
    if !city.parent.is_empty() {
        ids.push(rights::city_id("city.parent", &city.parent)?);
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
    known: &Known,
    caller: &Caller,
) -> Decision<Change> {
    rights::steward(caller)?;
    if before.is_some() {
        return Err(Refusal::because(Reason::AlreadyExists, "CT-10", "the city is in the register")
            .missing(rights::city_name(id), "exists")
            .help("Update it."));
    }
    let asked = command.city.clone().unwrap_or_default();
    text::name("city.display_name", &asked.display_name)?;
    text::reference("city.source", &asked.source)?;
    let mut state = City::blank(caller.tenant);
    let mut city = proto::City { display_name: asked.display_name.clone(), ..Default::default() };
    city.source.clone_from(&asked.source);
    for field in fields::WRITABLE {
        fields::apply(&mut state, field, &asked)?;
        city.copy_field(field, &asked);
    }
    placed(&state, id, known)?;
    designated(&state)?;
    happened(CityCreated { city: Some(city) })
}

/// Changes what is known of a city. Fields that say the same are left out; none left means no change.
///
/// # Errors
/// CT-10, CT-11 where the city is no more, CT-1, CT-2 and PL-4 for what does not fit.
pub fn update(
    state: &City,
    id: RecordId,
    command: &UpdateCityRequest,
    known: &Known,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    let asked = command.city.clone().unwrap_or_default();
    let (mut next, mut city, mut paths) = (state.clone(), proto::City::default(), Vec::new());
    for field in mask::fields(command.update_mask.as_ref(), fields::WRITABLE)? {
        let before = next.clone();
        fields::apply(&mut next, field, &asked)?;
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
    happened(CityUpdated { city: Some(city), update_mask: Some(FieldMask { paths }) })
}

/// Whether the city has its place among others (CT-2).
fn placed(city: &City, id: RecordId, known: &Known) -> Refused<()> {
    let constituents = &city.constituents;
    tier::fits(&Place { id, tier: city.tier, country: &city.country, parent: city.parent, constituents }, known)
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
        return happened(CityRenamed { display_name, effective_date: None });
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
    happened(CityRenamed { display_name, effective_date: Some(time::date(day)) })
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
    Ok(vec![Happened::new(CityJoined { tenant: tenant.name() })])
}

#[cfg(test)]
#[path = "city/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "city/tests.rs"]
mod tests;
