//! Mergers and splits of cities (CT-11). The entry of a city that ends names the city that takes over its records. The
//! entry stays in the register.

pub use crate::city::values::{FormerName, Succession};
use crate::{city::City, names, rights};
use chrono::NaiveDate;
use hansa_kernel::{
    Caller, Decision, Emitted, Moment, RecordId, Refusal, Refused, limits::LIST_ENTRIES, record::emit, time,
};
use hansa_proto::register::{
    CityMerged, CitySplit, CitySucceeded, MergeCitiesRequest, SplitCityRequest, city_change::Change,
};
use std::collections::BTreeMap;

/// The changes that one command makes to several cities. They are applied together or not at all.
pub type Across = Result<Vec<(RecordId, Vec<Emitted<Change>>)>, Refusal>;

impl City {
    /// Checks that the city has not ended. Refused under CT-11 otherwise.
    pub(crate) fn must_be_there(&self, at: Moment) -> Refused<()> {
        self.ended(at.today()).map_or(Ok(()), |end| Err(gone(end)))
    }
}

fn gone(end: &Succession) -> Refusal {
    let heir = end.heir.map(names::city_name).unwrap_or_default();
    Refusal::rule("CT-11", "CITY_ENDED", format!("the city ended on {}", end.date))
        .missing(heir.clone(), "is its successor")
        .help(format!("Send the command for {heir} instead."))
}

/// Merges several cities into a successor. A predecessor that already records this merger does not change, so the
/// command can be sent again. The successor's entry records the merger too if the caller may change that entry.
///
/// # Errors
/// Refused under CT-10, naming each predecessor that the caller may not change; under CT-11 if a predecessor has
/// ended in another way or the successor has ended. `NOT_FOUND` if a predecessor is not in the register.
pub fn merge(
    successor: (RecordId, &City),
    predecessors: &BTreeMap<RecordId, City>,
    command: &MergeCitiesRequest,
    caller: &Caller,
) -> Across {
    let date = time::day("effective_date", command.effective_date.as_ref())?;
    let named = named("predecessors", &command.predecessors, 1)?;
    if let Some(end) = successor.1.end() {
        return Err(gone(end));
    }
    permitted(&named, predecessors, caller)?;
    let mut out = Vec::with_capacity(named.len() + 1);
    for id in &named {
        let city = &predecessors[id];
        out.push((*id, merged_into(city, *id, successor.0, date)?));
    }
    let new = CitySucceeded { predecessors: command.predecessors.clone(), effective_date: Some(time::date(date)) };
    let known = successor.1.successions.contains(&folded_back(&new)?);
    if !known && rights::change(successor.1, caller).is_ok() {
        out.push((successor.0, vec![Emitted::new(new)]));
    }
    Ok(out)
}

/// Returns the changes that end one city by a merger.
fn merged_into(city: &City, id: RecordId, successor: RecordId, date: NaiveDate) -> Decision<Change> {
    if id == successor {
        return Err(Refusal::field("predecessors", "names the successor itself").under("CT-11"));
    }
    match city.end() {
        Some(end) if end.heir == Some(successor) && end.date == date => Ok(Vec::new()),
        Some(end) => Err(gone(end)),
        None => {
            let effective_date = Some(time::date(date));
            emit(CityMerged { successor: names::city_name(successor), effective_date })
        }
    }
}

/// Splits a city into parts. If the command names an heir, the city ends; otherwise it only gives parts off. `parts`
/// are the register's entries of the cities that the command names.
///
/// # Errors
/// Refused under CT-10 if the caller may not change the city; under CT-11 if the city has ended, a part is missing or
/// has ended, or the heir is not one of the parts.
pub fn split(
    city: (RecordId, &City),
    parts: &BTreeMap<RecordId, City>,
    command: &SplitCityRequest,
    caller: &Caller,
) -> Across {
    rights::change(city.1, caller)?;
    let date = time::day("effective_date", command.effective_date.as_ref())?;
    let ends = !command.continuing_city.is_empty();
    let named = named("successors", &command.successors, if ends { 2 } else { 1 })?;
    if ends && !command.successors.contains(&command.continuing_city) {
        return Err(Refusal::field("continuing_city", "must be one of the successors").under("CT-11"));
    }
    let change = CitySplit {
        successors: command.successors.clone(),
        continuing_city: command.continuing_city.clone(),
        effective_date: Some(time::date(date)),
    };
    let asked = Succession::split(&change).map_err(|fold_error| Refusal::field("successors", fold_error.0))?;
    let known = city.1.successions.contains(&asked);
    let mut out = Vec::with_capacity(named.len() + 1);
    if !known {
        if let Some(end) = city.1.end() {
            return Err(gone(end));
        }
        standing(city.0, &named, parts)?;
        out.push((city.0, vec![Emitted::new(change)]));
    }
    // This also runs if the city already records the split: a retry changes the parts that do not record it yet.
    let from = CitySucceeded { predecessors: vec![names::city_name(city.0)], effective_date: Some(time::date(date)) };
    let folded = folded_back(&from)?;
    for id in named {
        let mine = |part: &&City| rights::change(part, caller).is_ok() && !part.successions.contains(&folded);
        if parts.get(&id).filter(mine).is_some() {
            out.push((id, vec![Emitted::new(from.clone())]));
        }
    }
    Ok(out)
}

/// Returns the changes to one of the cities. The journal decides each record separately, so the whole rule runs once
/// per record, with that record's present state.
///
/// # Errors
/// Returns the refusal of the whole rule.
pub fn part(all: Across, id: RecordId) -> Decision<Change> {
    Ok(all?.into_iter().filter(|(of, _)| *of == id).flat_map(|(_, changes)| changes).collect())
}

fn folded_back(change: &CitySucceeded) -> Refused<Succession> {
    Succession::succeeded(change).map_err(|fold_error| Refusal::field("predecessors", fold_error.0))
}

/// Parses the list of cities in a command. Refused under CT-11 if the list is too short or too long or repeats a city.
fn named(field: &str, names: &[String], least: usize) -> Refused<Vec<RecordId>> {
    let ids = names.iter().map(|name| names::city_id(field, name)).collect::<Refused<Vec<_>>>()?;
    let twice = ids.iter().enumerate().any(|(i, id)| ids[..i].contains(id));
    if ids.len() < least || ids.len() > LIST_ENTRIES || twice {
        let what = format!("must name {least} to {LIST_ENTRIES} cities, each once");
        return Err(Refusal::field(field, what).under("CT-11"));
    }
    Ok(ids)
}

fn permitted(named: &[RecordId], cities: &BTreeMap<RecordId, City>, caller: &Caller) -> Refused<()> {
    let mut refusal: Option<Refusal> = None;
    for id in named {
        let city = cities.get(id).ok_or_else(|| Refusal::not_found(names::city_name(*id)))?;
        if let Err(no) = rights::change(city, caller) {
            let no = refusal.take().unwrap_or(Refusal { missing: Vec::new(), ..no });
            refusal = Some(no.missing(names::city_name(*id), "may not be changed by the caller"));
        }
    }
    refusal.map_or(Ok(()), Err)
}

fn standing(own: RecordId, named: &[RecordId], parts: &BTreeMap<RecordId, City>) -> Refused<()> {
    let mut refusal =
        Refusal::rule("CT-11", "PARTS_NOT_REGISTERED", "a city can only be split into other cities of the register")
            .help("Enter the new cities first.");
    for id in named {
        let what = match parts.get(id) {
            _ if *id == own => "is the city itself",
            None => "is not in the register",
            Some(part) if part.end().is_some() => "has ended",
            Some(_) => continue,
        };
        refusal = refusal.missing(names::city_name(*id), what);
    }
    if refusal.missing.is_empty() { Ok(()) } else { Err(refusal) }
}
