//! Instants in UTC and calendar dates: conversion, checks, arithmetic.

use crate::refusal::{Refusal, Refused};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, SubsecRound, Utc};
use hansa_proto::{google::r#type::Date, types::DateRange};
use prost_types::Timestamp;

/// The time of a command. The chassis passes it in, because rules have no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The current time, in whole microseconds.
    pub now: DateTime<Utc>,
}

impl Moment {
    /// Creates a moment, truncated to whole microseconds, the precision of every store.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self { now: now.trunc_subsecs(6) }
    }

    /// Returns the date in UTC.
    #[must_use]
    pub fn today(self) -> NaiveDate {
        self.now.date_naive()
    }
}

/// Returns the instant at which a day has ended everywhere on Earth: noon UTC of the next day. Terms and deadlines
/// given as dates without a time zone end at that instant, so that no party loses part of its last day.
#[must_use]
pub fn over_everywhere(day: NaiveDate) -> DateTime<Utc> {
    let noon = chrono::NaiveTime::from_hms_opt(12, 0, 0).expect("noon is a time");
    day.checked_add_days(Days::new(1)).unwrap_or(NaiveDate::MAX).and_time(noon).and_utc()
}

/// Adds months to a date. The day is clamped to the end of a shorter month, an overflow to the last date.
#[must_use]
pub fn months_later(day: NaiveDate, months: u32) -> NaiveDate {
    day.checked_add_months(Months::new(months)).unwrap_or(NaiveDate::MAX)
}

/// Subtracts months from a date, clamped in the same way.
#[must_use]
pub fn months_earlier(day: NaiveDate, months: u32) -> NaiveDate {
    day.checked_sub_months(Months::new(months)).unwrap_or(NaiveDate::MIN)
}

/// Converts an instant to its message.
#[must_use]
pub fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}

/// Converts a timestamp message to an instant, truncated to microseconds.
///
/// # Errors
/// `INVALID_FIELD` if the timestamp is missing or out of range.
pub fn instant(field: &str, at: Option<&Timestamp>) -> Refused<DateTime<Utc>> {
    let at = at.ok_or_else(|| Refusal::field(field, "is required"))?;
    u32::try_from(at.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
        .filter(|at| (1..=9999).contains(&at.year()))
        .map(|at| at.trunc_subsecs(6))
        .ok_or_else(|| Refusal::field(field, "is not a time between the years 1 and 9999"))
}

/// Converts a date to its message.
#[must_use]
pub fn date(day: NaiveDate) -> Date {
    Date { year: day.year(), month: day.month().cast_signed(), day: day.day().cast_signed() }
}

/// Converts a date message to a date. The message must contain year, month and day.
///
/// # Errors
/// `INVALID_FIELD` if the date is missing, partial or invalid.
pub fn day(field: &str, date: Option<&Date>) -> Refused<NaiveDate> {
    let date = date.ok_or_else(|| Refusal::field(field, "is required"))?;
    let (month, of_month) = (u32::try_from(date.month).unwrap_or(0), u32::try_from(date.day).unwrap_or(0));
    NaiveDate::from_ymd_opt(date.year, month, of_month)
        .filter(|day| (1..=9999).contains(&day.year()))
        .ok_or_else(|| Refusal::field(field, "is not a whole date (year, month and day)"))
}

/// Converts an optional date message to a date.
///
/// # Errors
/// `INVALID_FIELD` if the date is present and partial or invalid.
pub fn day_if_any(field: &str, date: Option<&Date>) -> Refused<Option<NaiveDate>> {
    date.map(|d| day(field, Some(d))).transpose()
}

/// Parses a day that is not in the future. It accepts tomorrow in UTC, which has begun already in some time zones.
///
/// # Errors
/// `FIELD_INVALID` if the date is missing, partial, invalid or in the future.
pub fn past_day(field: &str, date: Option<&Date>, at: Moment) -> Refused<NaiveDate> {
    let day = day(field, date)?;
    let latest = at.today().succ_opt().unwrap_or(NaiveDate::MAX);
    if day > latest { Err(Refusal::field(field, "is in the future")) } else { Ok(day) }
}

/// Converts days to a range.
#[must_use]
pub fn range(first: Option<NaiveDate>, last: Option<NaiveDate>) -> DateRange {
    DateRange { first_date: first.map(date), last_date: last.map(date) }
}

/// Converts a range to its first and last day. A missing range has neither.
///
/// # Errors
/// `FIELD_INVALID` if a day is partial or invalid.
pub fn days(field: &str, range: Option<&DateRange>) -> Refused<(Option<NaiveDate>, Option<NaiveDate>)> {
    let range = range.copied().unwrap_or_default();
    let first = day_if_any(&format!("{field}.first_date"), range.first_date.as_ref())?;
    Ok((first, day_if_any(&format!("{field}.last_date"), range.last_date.as_ref())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ymd(y: i32, m: u32, d: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(y, m, d).unwrap()
    }

    #[test]
    fn dates_survive_the_contract_and_bad_ones_do_not_enter() {
        assert_eq!(day("d", Some(&date(ymd(2024, 2, 29)))), Ok(ymd(2024, 2, 29)));
        for (year, month, day_of) in
            [(2023, 2, 29), (2024, 0, 1), (2024, 13, 1), (0, 1, 1), (10_000, 1, 1), (2024, 1, -1)]
        {
            assert!(day("d", Some(&Date { year, month, day: day_of })).is_err());
        }
        assert!(day("d", None).is_err());
        assert_eq!(day_if_any("d", None), Ok(None));
    }

    #[test]
    fn months_are_cut_to_the_end_of_the_month() {
        assert_eq!(months_later(ymd(2024, 1, 31), 1), ymd(2024, 2, 29));
        assert_eq!(months_earlier(ymd(2024, 3, 31), 1), ymd(2024, 2, 29));
        assert_eq!(months_later(NaiveDate::MAX, 1), NaiveDate::MAX);
    }

    #[test]
    fn a_day_is_over_at_noon_utc_of_the_next() {
        assert_eq!(over_everywhere(ymd(2024, 12, 31)).to_rfc3339(), "2025-01-01T12:00:00+00:00");
    }

    #[test]
    fn instants_are_checked_and_cut() {
        let at = DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap();
        assert_eq!(instant("t", Some(&timestamp(at))).unwrap().timestamp_subsec_nanos(), 123_456_000);
        assert!(instant("t", None).is_err());
        assert!(instant("t", Some(&Timestamp { seconds: i64::MAX, nanos: 0 })).is_err());
        assert!(instant("t", Some(&Timestamp { seconds: 0, nanos: -1 })).is_err());
    }
}
