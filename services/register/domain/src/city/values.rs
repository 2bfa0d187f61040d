//! Parts of a city's state: facts, terms, former names and successions. Each is folded from an API message and converts
//! back to it.

use crate::{
    date::{folded, folded_if_any},
    names,
};
use chrono::NaiveDate;
use hansa_kernel::{FoldError, RecordId, time};
use hansa_proto::{
    register::{self as proto, Accession, CityMerged, CitySplit, CitySucceeded, SuccessionKind, TermEndReason},
    types::LocalizedText,
};
use serde::{Deserialize, Serialize};

/// A dated and sourced fact of a city (CT-13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The subject of the fact.
    pub key: String,
    /// The value; empty if it is unknown as of that day.
    pub value: String,
    /// The source.
    pub source: String,
    /// The day as of which the fact is true.
    pub as_of: NaiveDate,
}

impl Fact {
    pub(crate) fn fold(fact: &proto::Fact) -> Result<Self, FoldError> {
        let as_of = folded(fact.as_of_date.as_ref())?;
        Ok(Self { key: fact.key.clone(), value: fact.value.clone(), source: fact.source.clone(), as_of })
    }

    pub(crate) fn to_proto(&self) -> proto::Fact {
        let as_of_date = Some(time::date(self.as_of));
        proto::Fact { key: self.key.clone(), value: self.value.clone(), source: self.source.clone(), as_of_date }
    }
}

/// Returns the fact with the key that holds on a day: the latest that is not after the day. Returns `None` if there
/// is none or if its value is unknown.
#[must_use]
pub fn latest<'a>(facts: &'a [Fact], key: &str, day: NaiveDate) -> Option<&'a Fact> {
    let of_key = facts.iter().filter(|fact| fact.key == key && fact.as_of <= day);
    of_key.max_by_key(|fact| fact.as_of).filter(|fact| !fact.value.is_empty())
}

/// Inserts a fact in order. It replaces a fact with the same key and day.
pub(crate) fn put(facts: &mut Vec<Fact>, fact: Fact) {
    match facts.binary_search_by(|f| (f.key.as_str(), f.as_of).cmp(&(fact.key.as_str(), fact.as_of))) {
        Ok(at) => facts[at] = fact,
        Err(at) => facts.insert(at, fact),
    }
}

/// A mayor's term. The state contains the person's name only as a seal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    name: Vec<LocalizedText>,
    accession: Accession,
    /// The first day in office.
    pub start: NaiveDate,
    /// The day on which the term ends, if known.
    pub end: Option<NaiveDate>,
    /// The reason why the term ended; unspecified until an end is recorded.
    pub reason: TermEndReason,
}

// `LocalizedText` contains no floats, so the derived equality is total.
impl Eq for Term {}

impl Term {
    pub(crate) fn fold(term: &proto::MayorTerm) -> Result<Self, FoldError> {
        Ok(Self {
            name: term.person_name.clone(),
            accession: term.accession(),
            start: folded(term.start_date.as_ref())?,
            end: folded_if_any(term.end_date.as_ref())?,
            reason: TermEndReason::Unspecified,
        })
    }

    pub(crate) fn to_proto(&self) -> proto::MayorTerm {
        proto::MayorTerm {
            person_name: self.name.clone(),
            accession: self.accession as i32,
            start_date: Some(time::date(self.start)),
            end_date: self.end.map(time::date),
            end_reason: self.reason as i32,
        }
    }

    /// Replaces the term by a corrected one. If the correction has no end or the same end, the recorded end and its
    /// reason remain; a different end resets the reason.
    pub(crate) fn correct(&mut self, by: Self) {
        let kept = by.end.is_none() || by.end == self.end;
        let (end, reason) = if kept { (self.end, self.reason) } else { (by.end, TermEndReason::Unspecified) };
        *self = Self { end, reason, ..by };
    }

    pub(crate) fn runs_on(&self, day: NaiveDate) -> bool {
        self.start <= day && self.reason == TermEndReason::Unspecified && self.end.is_none_or(|end| day <= end)
    }
}

/// A former name of a city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerName {
    /// The name.
    pub name: String,
    /// The first day of the name that came next.
    pub until: NaiveDate,
}

impl FormerName {
    pub(crate) fn to_proto(&self) -> proto::FormerName {
        proto::FormerName { display_name: self.name.clone(), end_date: Some(time::date(self.until)) }
    }
}

/// A merger or split in which a city took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The kind of merger or split, from the point of view of this city.
    pub kind: SuccessionKind,
    /// The other cities.
    pub cities: Vec<RecordId>,
    /// The city that takes over the records; `None` if this city continues to exist.
    pub heir: Option<RecordId>,
    /// The first day on which the merger or split is effective.
    pub date: NaiveDate,
}

impl Succession {
    pub(crate) fn merged(merged: &CityMerged) -> Result<Self, FoldError> {
        let heir = id(&merged.successor)?;
        let date = folded(merged.effective_date.as_ref())?;
        Ok(Self { kind: SuccessionKind::MergedInto, cities: vec![heir], heir: Some(heir), date })
    }

    pub(crate) fn split(split: &CitySplit) -> Result<Self, FoldError> {
        let heir = match split.continuing_city.as_str() {
            "" => None,
            name => Some(id(name)?),
        };
        let kind = if heir.is_some() { SuccessionKind::SplitInto } else { SuccessionKind::GaveOff };
        Ok(Self { kind, cities: ids(&split.successors)?, heir, date: folded(split.effective_date.as_ref())? })
    }

    pub(crate) fn succeeded(succeeded: &CitySucceeded) -> Result<Self, FoldError> {
        let date = folded(succeeded.effective_date.as_ref())?;
        Ok(Self { kind: SuccessionKind::Succeeded, cities: ids(&succeeded.predecessors)?, heir: None, date })
    }

    pub(crate) fn to_proto(&self) -> proto::Succession {
        proto::Succession {
            kind: self.kind as i32,
            cities: self.cities.iter().map(|id| names::city_name(*id)).collect(),
            continuing_city: self.heir.map(names::city_name).unwrap_or_default(),
            effective_date: Some(time::date(self.date)),
        }
    }
}

fn id(name: &str) -> Result<RecordId, FoldError> {
    names::city_id("city", name).map_err(|refusal| FoldError(refusal.message))
}

fn ids(names: &[String]) -> Result<Vec<RecordId>, FoldError> {
    names.iter().map(|name| id(name)).collect()
}
