//! The terms of a city's mayors (CT-4). Other services react to a new term and to a lost mandate.

pub use crate::city::values::Term;
use crate::{city::City, date::past, rights};
use hansa_kernel::{Caller, Decision, Moment, Refusal, record::emit, text, time};
use hansa_proto::register::{
    self as proto, Accession, EndMayorTermRequest, MayorTermEnded, MayorTermRecorded, RecordMayorTermRequest,
    TermEndReason, city_change::Change,
};

/// Records a term, or corrects the last term if both begin on the same day.
///
/// # Errors
/// Refused under CT-10 if the caller may not change the city; under CT-11 if the city has ended; under CT-4 if the term
/// begins before the last recorded one or ends before it begins; under PL-4 if a field is invalid.
pub fn record(state: &City, command: &RecordMayorTermRequest, caller: &Caller, at: Moment) -> Decision<Change> {
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
        return Err(Refusal::field("term.end_date", "must not be before the term begins").under("CT-4"));
    }
    if let Some(last) = state.terms.last().filter(|last| start < last.start) {
        return Err(Refusal::out_of_order(
            "CT-4",
            "LATER_TERM_RECORDED",
            format!("a later term, from {}, is recorded", last.start),
        )
        .missing("term.start_date", format!("must not be before {}", last.start))
        .help("Record terms from old to new. To correct the last term, send its own start date."));
    }
    let term = proto::MayorTerm { end_reason: 0, ..asked };
    let recorded = MayorTermRecorded { term: Some(term), next_election_date: next.map(time::date) };
    let mut after = state.clone();
    after.term_recorded(&recorded).map_err(|fold_error| Refusal::field("term", fold_error.0))?;
    if after == *state { Ok(Vec::new()) } else { emit(recorded) }
}

/// Ends the running term.
///
/// # Errors
/// Refused under CT-10 if the caller may not change the city; under CT-11 if the city has ended; under CT-4 if no
/// term runs on that day or the day is in the future; under PL-4 if a field is invalid.
pub fn end(state: &City, command: &EndMayorTermRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    let reason = TermEndReason::try_from(command.end_reason).unwrap_or_default();
    if reason == TermEndReason::Unspecified {
        return Err(Refusal::field("end_reason", "is required").under("CT-4"));
    }
    let date = past("end_date", command.end_date.as_ref(), at, "CT-4")?;
    match state.terms.last() {
        Some(last) if last.end == Some(date) && last.reason == reason => Ok(Vec::new()),
        Some(last) if last.runs_on(date) => {
            emit(MayorTermEnded { end_reason: reason as i32, end_date: Some(time::date(date)) })
        }
        _ => Err(Refusal::out_of_order("CT-4", "NO_TERM_RUNNING", format!("no term runs on {date}"))
            .missing("term", "must be recorded, and not have ended")
            .help("Record the term first.")),
    }
}
