//! Dates of changes. A rule has checked them, so a fold that meets a bad one has met a change that no rule wrote.

use chrono::NaiveDate;
use hansa_kernel::{FoldError, Moment, Refusal, Refused, time};
use hansa_proto::google::r#type::Date;

/// The date of a change.
pub fn folded(date: Option<&Date>) -> Result<NaiveDate, FoldError> {
    time::day("date", date).map_err(|refusal| FoldError(refusal.message))
}

/// The date of a change, where it has one.
pub fn folded_if_any(date: Option<&Date>) -> Result<Option<NaiveDate>, FoldError> {
    time::day_if_any("date", date).map_err(|refusal| FoldError(refusal.message))
}

/// The date of a command that tells of something past; today where it is left out. A day that has begun somewhere on
/// Earth is not ahead.
pub fn past(field: &str, date: Option<&Date>, at: Moment, rule: &'static str) -> Refused<NaiveDate> {
    let day = time::day_if_any(field, date)?.unwrap_or_else(|| at.today());
    if day > at.today().succ_opt().unwrap_or(NaiveDate::MAX) {
        return Err(Refusal::rule(rule, format!("{day} lies ahead"))
            .missing(field, "must be a day that has come")
            .help("Record it when the day has come."));
    }
    Ok(day)
}
