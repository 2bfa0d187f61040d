//! The terms of an agreement, and the formalities that it requires before it enters into force (AG-1).

use super::{Facts, Which};
use chrono::{Datelike, NaiveDate};
use hansa_kernel::{Moment, Refusal, Refused, limits::LIST_ENTRIES, text, time};
use hansa_proto::types::AgreementKind;
use hansa_proto::{
    google::r#type::Date,
    partnerships::{AgreementRequirements, AgreementTerms, Sector},
    types::LocalizedText,
};
use serde::{Deserialize, Serialize};

/// Maximum length of a term, in months.
const TERM_MONTHS: i32 = 1_200;
/// Maximum time until the start date, in months.
const START_AHEAD_MONTHS: u32 = 120;

/// A period in force. `start` is unknown only for imports; `end` is `None` if the period has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Period {
    pub start: Option<NaiveDate>,
    pub end: Option<NaiveDate>,
    pub automatic: bool,
}

/// The day of the last signature, as precisely as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SignedOn {
    Unknown,
    Year(i32),
    Day(NaiveDate),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Terms {
    pub kind: AgreementKind,
    pub title: Vec<LocalizedText>,
    pub summary: Vec<LocalizedText>,
    pub sectors: Vec<Sector>,
    pub start: Option<NaiveDate>,
    /// `None` if the agreement has no end.
    pub term: Option<Term>,
    pub economic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Term {
    pub months: u32,
    pub renews: bool,
}

impl Terms {
    /// Parses terms of an import or of a change, without checking that they fit the kind.
    pub fn read(terms: &AgreementTerms) -> Refused<Self> {
        text::optional("terms.title", &terms.title)?;
        text::optional("terms.summary", &terms.summary)?;
        let kind = AgreementKind::try_from(terms.kind).map_err(|_| Refusal::field("terms.kind", "is unknown"))?;
        let sectors = sectors("terms.sectors", &terms.sectors)?;
        Ok(Self {
            kind,
            title: terms.title.clone(),
            summary: terms.summary.clone(),
            economic: terms.economic_component || sectors.contains(&Sector::EconomicDevelopment),
            sectors,
            start: time::day_if_any("terms.start_date", terms.start_date.as_ref())?,
            term: term("terms", terms.term_months, terms.renews_automatically)?,
        })
    }

    /// Parses terms that the parties must agree on, and checks that they fit the kind.
    pub fn agreeable(terms: Option<&AgreementTerms>, at: Moment) -> Refused<Self> {
        let terms = terms.ok_or_else(|| Refusal::field("terms", "is required"))?;
        let read = Self::read(terms)?;
        text::required("terms.title", &terms.title)?;
        read.fit_the_kind()?;
        let latest = time::months_later(at.today(), START_AHEAD_MONTHS);
        if read.start.is_some_and(|start| start > latest) {
            return Err(Refusal::field("terms.start_date", "is more than ten years in the future"));
        }
        Ok(read)
    }

    fn fit_the_kind(&self) -> Refused<()> {
        match self.kind {
            AgreementKind::Unspecified => Err(Refusal::field("terms.kind", "is required").under("AG-1")),
            AgreementKind::Cooperation => {
                let mut refusal = Refusal::rule("AG-1", "TERMS_INCOMPLETE", "A cooperation needs sectors and a term");
                if self.sectors.is_empty() {
                    refusal = refusal.missing("terms.sectors", "at least one sector");
                }
                if self.term.is_none() {
                    refusal = refusal.missing("terms.term_months", "the length of a term");
                }
                if refusal.missing.is_empty() {
                    return Ok(());
                }
                Err(refusal.help("Name sectors and a term, or propose a memorandum or a twinning."))
            }
            AgreementKind::Memorandum | AgreementKind::Twinning => Ok(()),
        }
    }

    pub fn to_proto(&self) -> AgreementTerms {
        AgreementTerms {
            kind: self.kind as i32,
            title: self.title.clone(),
            summary: self.summary.clone(),
            sectors: self.sectors.iter().map(|&sector| sector as i32).collect(),
            start_date: self.start.map(time::date),
            term_months: self.term.map_or(0, |term| term.months.cast_signed()),
            renews_automatically: self.term.is_some_and(|term| term.renews),
            economic_component: self.economic,
        }
    }

    /// Returns whether a sector is outside the terms. Without a list, a memorandum or twinning covers all sectors.
    pub fn outside(&self, sector: Sector) -> bool {
        let open = self.sectors.is_empty() && self.kind != AgreementKind::Cooperation;
        !open && !self.sectors.contains(&sector)
    }
}

/// Checks a term. A term of 0 months means no end, which excludes automatic renewal.
pub(super) fn term(field: &str, months: i32, renews: bool) -> Refused<Option<Term>> {
    if !(0..=TERM_MONTHS).contains(&months) {
        return Err(Refusal::field(format!("{field}.term_months"), "is not between 0 and 1,200"));
    }
    if months == 0 && renews {
        let refusal =
            Refusal::rule("AG-1", "AUTOMATIC_RENEWAL_WITHOUT_TERM", "An agreement without an end cannot be renewed");
        return Err(refusal
            .missing(format!("{field}.term_months"), "the length of a term")
            .help("Give a term, or leave out the automatic renewal."));
    }
    Ok((months > 0).then_some(Term { months: months.cast_unsigned(), renews }))
}

/// Parses a list of sectors: bounded, each known and listed once.
pub(super) fn sectors(field: &str, list: &[i32]) -> Refused<Vec<Sector>> {
    each_once(field, list, |n| Sector::try_from(n).ok().filter(|sector| *sector != Sector::Unspecified))
}

pub(super) fn each_once<T: PartialEq>(field: &str, list: &[i32], read: impl Fn(i32) -> Option<T>) -> Refused<Vec<T>> {
    if list.len() > LIST_ENTRIES {
        return Err(Refusal::field(field, format!("has more than {LIST_ENTRIES} entries")));
    }
    let mut out = Vec::with_capacity(list.len());
    for (i, &number) in list.iter().enumerate() {
        let entry = read(number).ok_or_else(|| Refusal::field(format!("{field}[{i}]"), "is unknown"))?;
        if out.contains(&entry) {
            return Err(Refusal::field(format!("{field}[{i}]"), "is repeated"));
        }
        out.push(entry);
    }
    Ok(out)
}

/// The steps and formalities that must precede the entry into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Requirements {
    pub initiator_vote: bool,
    pub partner_vote: bool,
    pub ceremony: bool,
}

impl Requirements {
    pub fn of(kind: AgreementKind, facts: &Facts) -> Self {
        let default = facts.settings.of(kind);
        let asked = |kinds: &Option<Vec<AgreementKind>>, default| kinds.as_ref().map_or(default, |k| k.contains(&kind));
        let vote = |which| asked(&facts.cities[which].council_vote, default.council_vote);
        let ceremony = |which| asked(&facts.cities[which].ceremony, default.ceremony);
        Self {
            initiator_vote: vote(Which::Initiator),
            partner_vote: vote(Which::Partner),
            // A ceremony needs both sides, so one side's requirement applies to both.
            ceremony: ceremony(Which::Initiator) || ceremony(Which::Partner),
        }
    }

    pub fn vote_of(self, which: Which) -> bool {
        match which {
            Which::Initiator => self.initiator_vote,
            Which::Partner => self.partner_vote,
        }
    }

    pub fn any_vote(self) -> bool {
        self.initiator_vote || self.partner_vote
    }

    pub fn to_proto(self) -> AgreementRequirements {
        AgreementRequirements {
            initiator_council_vote: self.initiator_vote,
            partner_council_vote: self.partner_vote,
            ceremony: self.ceremony,
        }
    }

    pub fn from_proto(requirements: &AgreementRequirements) -> Self {
        Self {
            initiator_vote: requirements.initiator_council_vote,
            partner_vote: requirements.partner_council_vote,
            ceremony: requirements.ceremony,
        }
    }
}

/// Returns the last day of the `count`-th term from `start`. It counts from the first day each time, so that the
/// clamping of short months does not accumulate.
pub(super) fn last_day(start: NaiveDate, months: u32, count: u32) -> NaiveDate {
    let next = time::months_later(start, months.saturating_mul(count));
    next.pred_opt().unwrap_or(next)
}

impl Period {
    pub(super) fn first(start: NaiveDate, term: Option<Term>) -> Self {
        Self { start: Some(start), end: term.map(|term| last_day(start, term.months, 1)), automatic: false }
    }

    /// Returns the automatic renewal after these periods; `None` if there is none.
    pub(super) fn following(periods: &[Self], term: Term) -> Option<Self> {
        let end = periods.last()?.end?;
        let run = periods.iter().rev().take_while(|period| period.automatic).count();
        let anchor = periods[periods.len().checked_sub(run + 1)?].start?;
        let count = u32::try_from(run).ok()?.checked_add(2)?;
        let period =
            Self { start: Some(end.succ_opt()?), end: Some(last_day(anchor, term.months, count)), automatic: true };
        // The calendar ends with the year 9999.
        (period.end > period.start && period.end.is_some_and(|end| end.year() <= 9_999)).then_some(period)
    }
}

impl SignedOn {
    pub(super) fn read(field: &str, date: Option<&Date>) -> Refused<Self> {
        match date {
            None => Ok(Self::Unknown),
            Some(Date { year, month: 0, day: 0 }) if (1..=9_999).contains(year) => Ok(Self::Year(*year)),
            Some(date) => time::day(field, Some(date)).map(Self::Day),
        }
    }

    pub(super) fn to_proto(self) -> Option<Date> {
        match self {
            Self::Unknown => None,
            Self::Year(year) => Some(Date { year, month: 0, day: 0 }),
            Self::Day(day) => Some(time::date(day)),
        }
    }

    /// Returns the anniversary after a number of years. If only the year is known, the anniversary is on 1 January.
    pub(super) fn anniversary(self, years: u32) -> Option<NaiveDate> {
        match self {
            Self::Unknown => None,
            Self::Year(year) => NaiveDate::from_ymd_opt(year.checked_add_unsigned(years)?, 1, 1),
            Self::Day(day) => day.checked_add_months(chrono::Months::new(years.checked_mul(12)?)),
        }
        .filter(|day| day.year() <= 9_999)
    }
}
