//! Dates in changes and commands. The rules check the dates of a command, so a fold reports an invalid date as an
//! error: no rule can have emitted it.

use chrono::NaiveDate;
use hansa_kernel::{FoldError, Moment, Refusal, Refused, time};
use hansa_proto::google::r#type::Date;

/// Returns the date of a change, which is required.
pub fn folded(date: Option<&Date>) -> Result<NaiveDate, FoldError> {
    time::day("date", date).map_err(|refusal| FoldError(refusal.message))
}

/// Returns the optional date of a change.
pub fn folded_if_any(date: Option<&Date>) -> Result<Option<NaiveDate>, FoldError> {
    time::day_if_any("date", date).map_err(|refusal| FoldError(refusal.message))
}

/// Returns the date of a command that reports something past; today if the command has none. The day after today
/// (UTC) is accepted, because it may have begun in another time zone. A later day is refused under `rule`.
pub fn past(field: &str, date: Option<&Date>, at: Moment, rule: &'static str) -> Refused<NaiveDate> {
    let day = time::day_if_any(field, date)?.unwrap_or_else(|| at.today());
    if day > at.today().succ_opt().unwrap_or(NaiveDate::MAX) {
        return Err(Refusal::rule(rule, "DAY_IN_FUTURE", format!("{day} is in the future"))
            .missing(field, "must not be in the future")
            .help("Record the event on that day or later."));
    }
    Ok(day)
}
