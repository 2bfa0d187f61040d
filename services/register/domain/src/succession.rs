//! Mergers and splits of cities (CT-11). Each city that ends says itself what its records follow; history keeps it.

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

/// What happens to each of several cities; none of it without all of it.
pub type Across = Result<Vec<(RecordId, Vec<Emitted<Change>>)>, Refusal>;

impl City {
    /// A city that is no more takes no more changes.
    pub(crate) fn must_be_there(&self, at: Moment) -> Refused<()> {
        self.ended(at.today()).map_or(Ok(()), |end| Err(gone(end)))
    }
}

fn gone(end: &Succession) -> Refusal {
    let heir = end.heir.map(names::city_name).unwrap_or_default();
    Refusal::rule("CT-11", format!("the city ended on {}", end.date))
        .missing(heir.clone(), "is its successor")
        .help(format!("Act on {heir}."))
}

/// Several cities become a part of another. Those that say so already are left as they are, so it can be sent again. The
/// successor's own entry mentions it where the caller may change that entry too.
///
/// # Errors
/// CT-10 naming each city that the caller may not change; CT-11 where one has ended otherwise or the successor ends.
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

/// The end of one city by a merger.
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

/// A city is divided, or gives parts off. `parts` are those that the command names, as the register holds them.
///
/// # Errors
/// CT-10; CT-11 where the city has ended, a part is missing or has ended, or the heir is none of the parts.
pub fn split(
    city: (RecordId, &City),
    parts: &BTreeMap<RecordId, City>,
    command: &SplitCityRequest,
    caller: &Caller,
) -> Across {
    rights::change(city.1, caller)?;
    let date = time::day("effective_date", command.effective_date.as_ref())?;
    let ends = !command.heir.is_empty();
    let named = named("successors", &command.successors, if ends { 2 } else { 1 })?;
    if ends && !command.successors.contains(&command.heir) {
        return Err(Refusal::field("heir", "must be one of the successors").under("CT-11"));
    }
    let change = CitySplit {
        successors: command.successors.clone(),
        heir: command.heir.clone(),
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
    // Also where the city says so already: sent again, the command finishes what was cut short.
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

/// What happens to one of the cities: a journal that takes one record at a time runs the whole rule for each, with that
/// record's present state.
///
/// # Errors
/// As the whole.
pub fn part(all: Across, id: RecordId) -> Decision<Change> {
    Ok(all?.into_iter().filter(|(of, _)| *of == id).flat_map(|(_, changes)| changes).collect())
}

fn folded_back(change: &CitySucceeded) -> Refused<Succession> {
    Succession::succeeded(change).map_err(|fold_error| Refusal::field("predecessors", fold_error.0))
}

/// The cities of a command's list, each once.
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
            refusal = Some(no.missing(names::city_name(*id), "is not the caller's to change"));
        }
    }
    refusal.map_or(Ok(()), Err)
}

fn standing(own: RecordId, named: &[RecordId], parts: &BTreeMap<RecordId, City>) -> Refused<()> {
    let mut refusal = Refusal::rule("CT-11", "a city splits into cities that stand in the register")
        .help("Enter the new cities first.");
    for id in named {
        let what = match parts.get(id) {
            _ if *id == own => "is the city itself",
            None => "is not in the register",
            Some(part) if part.end().is_some() => "ends itself",
            Some(_) => continue,
        };
        refusal = refusal.missing(names::city_name(*id), what);
    }
    if refusal.missing.is_empty() { Ok(()) } else { Err(refusal) }
}
