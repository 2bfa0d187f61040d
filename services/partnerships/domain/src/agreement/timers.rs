//! Changes that time causes: start, end and renewal of terms, dormancy, anniversaries (AG-7, AG-8, AG-14).

use super::{Agreement, Change, InForce, Life, Period};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use hansa_kernel::{AssuranceLevel, Emitted, Record, Stamp, time};
use hansa_proto::{
    partnerships::{
        AgreementBecameDormant, AgreementEnteredIntoForce, AgreementExpired, AgreementRenewed, Anniversary,
        AnniversaryApproached,
    },
    types::Actor,
};

/// A timer that is due. If several are due at the same instant, they fire in this order: the end of a term comes
/// before an anniversary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    Start(NaiveDate),
    TermOver(NaiveDate),
    Quiet(NaiveDate),
    Anniversary(u32),
}

/// Maximum number of changes that one instant can cause. It guards against a loop that never ends.
const AT_ONCE: usize = 100;

pub(super) fn on_due(agreement: &Agreement, due: DateTime<Utc>) -> Vec<Emitted<Change>> {
    let mut state = agreement.clone();
    let mut out = Vec::new();
    while let Some((at, alarm)) = state.next_alarm()
        && at <= due
        && out.len() < AT_ONCE
    {
        let change = state.sound(alarm);
        let stamp = Stamp { version: 0, at: due, actor: Actor::default(), party: None, level: AssuranceLevel::Host };
        match Agreement::fold(Some(state), &change, &stamp) {
            Ok(next) => state = next,
            Err(_) => break,
        }
        out.push(Emitted::new(change));
    }
    out
}

fn morning(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

impl Agreement {
    pub(super) fn next_alarm(&self) -> Option<(DateTime<Utc>, Alarm)> {
        match &self.life {
            Life::Preparing if self.signed_by_both() => {
                let start = self.first_day();
                Some((morning(start), Alarm::Start(start)))
            }
            Life::InForce(force) => {
                let end = self.term_over();
                // During a suspension only the term continues (AG-14).
                let others = [self.quiet(force), self.next_anniversary(force)];
                let others = others.into_iter().flatten().filter(|_| !self.suspended());
                end.into_iter().chain(others).min()
            }
            _ => None,
        }
    }

    /// Returns the first day in force: the agreed start or the day of the last signature, whichever is later.
    pub(super) fn first_day(&self) -> NaiveDate {
        let signed = self.sides.initiator.signature.iter().chain(&self.sides.partner.signature).map(|s| s.date);
        signed.chain(self.terms.start).max().unwrap_or(self.created.date_naive())
    }

    fn term_over(&self) -> Option<(DateTime<Utc>, Alarm)> {
        let end = self.periods.last()?.end?;
        Some((time::over_everywhere(end), Alarm::TermOver(end)))
    }

    fn quiet(&self, force: &InForce) -> Option<(DateTime<Utc>, Alarm)> {
        if force.dormant.is_some() || self.clock.dormancy_months == 0 {
            return None;
        }
        let day = time::months_later(force.quiet_since, self.clock.dormancy_months);
        (day.year() <= 9_999).then(|| (time::over_everywhere(day), Alarm::Quiet(day)))
    }

    fn next_anniversary(&self, force: &InForce) -> Option<(DateTime<Utc>, Alarm)> {
        let told = self.anniversary.map_or(0, |told| told.years);
        let first = force.anniversaries_from.date_naive();
        let mut years = self.clock.next_years(told)?;
        let mut date = self.signed_on.anniversary(years)?;
        while date < first {
            years = self.clock.next_years(years)?;
            date = self.signed_on.anniversary(years)?;
        }
        let notice = morning(time::months_earlier(date, self.clock.anniversary_notice_months));
        Some((notice.max(force.anniversaries_from), Alarm::Anniversary(years)))
    }

    fn sound(&self, alarm: Alarm) -> Change {
        match alarm {
            Alarm::Start(start) => self.entry(start).into(),
            Alarm::TermOver(end) => self.term_end(end),
            Alarm::Quiet(day) => AgreementBecameDormant { last_date: Some(time::date(day)) }.into(),
            Alarm::Anniversary(years) => AnniversaryApproached { anniversary: Some(self.anniversary_of(years)) }.into(),
        }
    }

    pub(super) fn entry(&self, start: NaiveDate) -> AgreementEnteredIntoForce {
        let period = Period::first(start, self.terms.term);
        AgreementEnteredIntoForce { term: Some(time::range(Some(start), period.end)) }
    }

    fn term_end(&self, end: NaiveDate) -> Change {
        let term = self.terms.term.filter(|term| term.renews && !self.suspended());
        let Some((term, period)) = term.and_then(|term| Some((term, Period::following(&self.periods, term)?))) else {
            return AgreementExpired { last_date: Some(time::date(end)) }.into();
        };
        AgreementRenewed {
            city: String::new(),
            term: Some(time::range(period.start, period.end)),
            automatic: true,
            term_months: term.months.cast_signed(),
            renews_automatically: true,
        }
        .into()
    }

    pub(super) fn anniversary_of(&self, years: u32) -> Anniversary {
        let date = match self.signed_on {
            super::SignedOn::Year(year) => super::SignedOn::Year(year.saturating_add_unsigned(years)).to_proto(),
            _ => self.signed_on.anniversary(years).map(time::date),
        };
        Anniversary { years: years.cast_signed(), anniversary_date: date }
    }
}

impl super::Clock {
    /// Returns the first anniversary later than `after` years.
    fn next_years(&self, after: u32) -> Option<u32> {
        if let Some(&listed) = self.anniversary_years.iter().filter(|&&years| years > after).min() {
            return Some(listed);
        }
        let (last, every) = (self.anniversary_years.iter().copied().max().unwrap_or(0), self.anniversary_every_years);
        let steps = after.checked_sub(last)?.checked_div(every)? + 1;
        last.checked_add(steps.checked_mul(every)?)
    }
}
