//! Who holds office in a city, from when to when (CT-4). Other services act on a new term and on a lost mandate.

use crate::{
    city::City,
    date::{folded, folded_if_any, past},
    rights,
};
use chrono::NaiveDate;
use hansa_kernel::{Caller, Decision, Misfit, Moment, Refusal, record::happened, text, time};
use hansa_proto::{
    register::{
        self as proto, Accession, EndTermRequest, RecordTermRequest, TermEnd, TermEnded, TermRecorded,
        city_change::Change,
    },
    types::LocalizedText,
};
use serde::{Deserialize, Serialize};

/// How many terms a city's state keeps; older ones stay in its history.
const TERMS: usize = 50;

/// A mayor's term. The name stands as a seal alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    name: Vec<LocalizedText>,
    accession: Accession,
    /// First day in office.
    pub start: NaiveDate,
    /// The day on which it ends, where that is known.
    pub end: Option<NaiveDate>,
    /// Why it ended.
    pub reason: TermEnd,
}

// The seals of a text are bytes: equality is total.
impl Eq for Term {}

impl Term {
    fn fold(term: &proto::MayorTerm) -> Result<Self, Misfit> {
        Ok(Self {
            name: term.person_name.clone(),
            accession: term.accession(),
            start: folded(term.start_date.as_ref())?,
            end: folded_if_any(term.end_date.as_ref())?,
            reason: TermEnd::Unspecified,
        })
    }

    pub(crate) fn to_proto(&self) -> proto::MayorTerm {
        proto::MayorTerm {
            person_name: self.name.clone(),
            accession: self.accession as i32,
            start_date: Some(time::date(self.start)),
            end_date: self.end.map(time::date),
            end: self.reason as i32,
        }
    }

    /// Takes another record of the same term. An end that it does not name, or names too, stays with its reason.
    fn correct(&mut self, by: Self) {
        let kept = by.end.is_none() || by.end == self.end;
        let (end, reason) = if kept { (self.end, self.reason) } else { (by.end, TermEnd::Unspecified) };
        *self = Self { end, reason, ..by };
    }

    fn runs_on(&self, day: NaiveDate) -> bool {
        self.start <= day && self.reason == TermEnd::Unspecified && self.end.is_none_or(|end| day <= end)
    }
}

impl City {
    /// The term that runs on a day.
    #[must_use]
    pub fn term_on(&self, day: NaiveDate) -> Option<&Term> {
        self.terms.iter().rev().find(|term| term.runs_on(day))
    }

    pub(crate) fn term_recorded(&mut self, recorded: &TermRecorded) -> Result<(), Misfit> {
        let term = Term::fold(&recorded.term.clone().unwrap_or_default())?;
        match self.terms.last_mut() {
            Some(last) if term.start < last.start => return Err(Misfit("the term is older than the last".into())),
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

    pub(crate) fn term_ended(&mut self, reason: TermEnd, date: NaiveDate) -> Result<(), Misfit> {
        let term = self.terms.last_mut().ok_or_else(|| Misfit("no term has begun".into()))?;
        (term.end, term.reason) = (Some(date), reason);
        Ok(())
    }
}

/// Records a term, or corrects the last one where it begins on the same day.
///
/// # Errors
/// CT-10; CT-11 where the city is no more; CT-4 where it is older than the last one or ends before it begins; PL-4.
pub fn record(state: &City, command: &RecordTermRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    let asked = command.term.clone().unwrap_or_default();
    text::optional("term.person_name", &asked.person_name)?;
    let start = time::day("term.start_date", asked.start_date.as_ref())?;
    let end = time::day_if_any("term.end_date", asked.end_date.as_ref())?;
    let next = time::day_if_any("next_election_date", command.next_election_date.as_ref())?;
    if Accession::try_from(asked.accession).is_err() {
        return Err(Refusal::field("term.accession", "is not known").under("CT-4"));
    }
    if end.is_some_and(|end| end < start) {
        return Err(Refusal::field("term.end_date", "is before the term begins").under("CT-4"));
    }
    if let Some(last) = state.terms.last().filter(|last| start < last.start) {
        return Err(Refusal::out_of_order("CT-4", format!("a later term, from {}, is recorded", last.start))
            .missing("term.start_date", format!("must not be before {}", last.start))
            .help("Record terms from old to new; the last one is corrected under its own first day."));
    }
    let term = proto::MayorTerm { end: 0, ..asked };
    let recorded = TermRecorded { term: Some(term), next_election_date: next.map(time::date) };
    let mut after = state.clone();
    after.term_recorded(&recorded).map_err(|misfit| Refusal::field("term", misfit.0))?;
    if after == *state { Ok(Vec::new()) } else { happened(recorded) }
}

/// Ends the running term.
///
/// # Errors
/// CT-10; CT-4 where none runs on that day, or it lies ahead; PL-4.
pub fn end(state: &City, command: &EndTermRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    let reason = TermEnd::try_from(command.end).unwrap_or_default();
    if reason == TermEnd::Unspecified {
        return Err(Refusal::field("end", "is required").under("CT-4"));
    }
    let date = past("end_date", command.end_date.as_ref(), at, "CT-4")?;
    match state.terms.last() {
        Some(last) if last.end == Some(date) && last.reason == reason => Ok(Vec::new()),
        Some(last) if last.runs_on(date) => {
            happened(TermEnded { end: reason as i32, end_date: Some(time::date(date)) })
        }
        _ => Err(Refusal::out_of_order("CT-4", format!("no term runs on {date}"))
            .missing("term", "must be recorded, and not have ended")
            .help("Record the term first.")),
    }
}
