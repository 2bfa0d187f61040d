//! The state that other services mirror of an agreement: enough to find dormant ties, ties without guidelines, and
//! the countries of a city's partners. It folds from the agreement's changes alone.

use crate::agreement::{Both, COLLECTION, Change, Which};
use chrono::NaiveDate;
use hansa_kernel::{FoldError, RecordId, RecordName, Reference, Refusal, Stamp, time};
use hansa_proto::types::{AgreementKind, VoteResult};
use hansa_proto::{
    google::r#type::Date,
    partnerships::{AgreementStep, AgreementTerms, GuidelinesNeed, PartyEntry, Sector, StepAttested},
};
use serde::{Deserialize, Serialize};

/// The state of a tie, as far as other services need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Proposed, but not in force.
    Preparing,
    /// In force.
    Active,
    /// In force, without activity for the configured time.
    Dormant,
    /// In force, but suspended by at least one side.
    Suspended,
    /// The term ran out.
    Expired,
    /// The agreement ended, or never entered into force.
    Over,
}

/// One side of a tie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The city's record.
    pub city: RecordId,
    /// ISO 3166-1 alpha-2 code of the country.
    pub country: String,
    /// Whether the city needs guidelines (AG-11).
    pub guidelines_need: GuidelinesNeed,
    /// Whether the city has stated guidelines.
    pub guidelines_stated: bool,
    /// Whether the mayor decided to go on without guidelines.
    pub guidelines_overridden: bool,
    suspended: bool,
}

impl End {
    /// Whether guidelines are needed, and neither stated nor overridden.
    #[must_use]
    pub fn lacks_guidelines(&self) -> bool {
        self.guidelines_need == GuidelinesNeed::Required && !self.guidelines_stated && !self.guidelines_overridden
    }
}

/// A tie of two cities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tie {
    /// The two cities.
    pub ends: Both<End>,
    /// The kind; unspecified if an import does not name one.
    pub kind: AgreementKind,
    /// The sectors; an empty list means all.
    pub sectors: Vec<Sector>,
    /// The first day in force, or the day of the import; `None` until then.
    pub active_since: Option<NaiveDate>,
    /// The last day of the most recent activity.
    pub last_activity: Option<NaiveDate>,
    /// Whether the terms or an activity have an economic component.
    pub economic: bool,
    /// Whether the tie is dormant. A tie that is suspended while dormant is both.
    pub dormant: bool,
    in_force: bool,
    expired: bool,
    over: bool,
}

impl Reference for Tie {
    const COLLECTION: &'static str = COLLECTION;
    const REVISION: u32 = 2;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        let Some(mut tie) = before else { return Self::begin(change) };
        tie.apply(change)?;
        Ok(tie)
    }
}

impl Tie {
    /// Computes the state.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.over {
            Standing::Over
        } else if self.expired {
            Standing::Expired
        } else if !self.in_force {
            Standing::Preparing
        } else if self.ends.any(|end| end.suspended) {
            Standing::Suspended
        } else if self.dormant {
            Standing::Dormant
        } else {
            Standing::Active
        }
    }

    /// Returns the side of a city.
    #[must_use]
    pub fn of(&self, city: RecordId) -> Option<Which> {
        Which::ALL.into_iter().find(|&which| self.ends[which].city == city)
    }

    /// Returns the partner of a city.
    #[must_use]
    pub fn partner_of(&self, city: RecordId) -> Option<&End> {
        self.of(city).map(|which| &self.ends[which.other()])
    }

    fn begin(change: &Change) -> Result<Self, FoldError> {
        let (initiator, partner, terms, since) = match change {
            Change::Proposed(c) => (&c.initiator, &c.partner, &c.terms, None),
            Change::Imported(c) => {
                let start = c.terms.as_ref().and_then(|terms| terms.start_date).or(c.import_date);
                (&c.initiator, &c.partner, &c.terms, Some(day(start.as_ref())?))
            }
            _ => return Err(FoldError("a tie begins with a proposal or an import".into())),
        };
        let mut tie = Self {
            ends: Both { initiator: end(initiator.as_ref())?, partner: end(partner.as_ref())? },
            kind: AgreementKind::Unspecified,
            sectors: Vec::new(),
            active_since: since,
            last_activity: None,
            economic: false,
            dormant: false,
            in_force: since.is_some(),
            expired: false,
            over: false,
        };
        tie.take_terms(terms.as_ref());
        Ok(tie)
    }

    fn take_terms(&mut self, terms: Option<&AgreementTerms>) {
        let terms = terms.cloned().unwrap_or_default();
        self.kind = terms.kind();
        self.sectors = terms.sectors().collect();
        self.economic = terms.economic_component;
    }

    fn apply(&mut self, change: &Change) -> Result<(), FoldError> {
        match change {
            Change::Proposed(_) | Change::Imported(_) => return Err(FoldError("a tie can begin only once".into())),
            Change::TermsRevised(c) => self.take_terms(c.terms.as_ref()),
            Change::CouncilVoted(c) => self.over |= rejected(c.vote.as_ref().map(|vote| vote.result())),
            Change::StepAttested(c) => self.over |= rejected(attested_vote(c)),
            Change::GuidelinesStated(c) => self.end(&c.city)?.guidelines_stated = true,
            Change::GuidelinesOverridden(c) => self.end(&c.city)?.guidelines_overridden = true,
            Change::Signed(c) => self.end(&c.city)?.guidelines_need = c.guidelines_need(),
            Change::EnteredIntoForce(c) => {
                self.active_since = Some(day(c.term.unwrap_or_default().first_date.as_ref())?);
                self.in_force = true;
            }
            Change::ActivityCreated(c) => {
                let activity = c.activity.clone().unwrap_or_default();
                self.last_activity =
                    self.last_activity.max(Some(day(activity.dates.unwrap_or_default().last_date.as_ref())?));
                self.economic |= activity.economic_component;
            }
            Change::BecameDormant(_) => self.dormant = true,
            Change::Revitalized(c) => {
                self.dormant = false;
                self.sectors = c.sectors().collect();
            }
            Change::PartySucceeded(c) => {
                let successor = end(c.successor.as_ref())?;
                let one = self.end(&c.city)?;
                (one.city, one.country) = (successor.city, successor.country);
            }
            Change::Suspended(c) => self.end(&c.city)?.suspended = true,
            Change::SuspensionLifted(c) => self.end(&c.city)?.suspended = false,
            Change::Renewed(_) => {
                // A renewal after the term ended clears dormancy. An earlier renewal leaves a dormant tie dormant.
                self.dormant &= !self.expired;
                self.expired = false;
            }
            Change::Expired(_) => {
                self.expired = true;
                for which in Which::ALL {
                    self.ends[which].suspended = false;
                }
            }
            Change::Declined(_) | Change::Withdrawn(_) | Change::Ended(_) | Change::Superseded(_) => self.over = true,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, city: &str) -> Result<&mut End, FoldError> {
        let which = Which::ALL.into_iter().find(|&which| format!("cities/{}", self.ends[which].city) == city);
        which.map(|which| &mut self.ends[which]).ok_or_else(|| FoldError("the city is not a party".into()))
    }
}

fn unreadable(refusal: Refusal) -> FoldError {
    FoldError(refusal.message)
}

fn day(date: Option<&Date>) -> Result<NaiveDate, FoldError> {
    time::day("date", date).map_err(unreadable)
}

fn end(entry: Option<&PartyEntry>) -> Result<End, FoldError> {
    let entry = entry.ok_or_else(|| FoldError("a side is missing".into()))?;
    Ok(End {
        city: RecordName::parse(&entry.city, "cities", "city").map_err(unreadable)?.id,
        country: entry.country_code.clone(),
        guidelines_need: entry.guidelines_need(),
        guidelines_stated: false,
        guidelines_overridden: false,
        suspended: false,
    })
}

fn attested_vote(change: &StepAttested) -> Option<VoteResult> {
    (change.step() == AgreementStep::CouncilVote).then(|| change.vote.as_ref().map(|vote| vote.result())).flatten()
}

fn rejected(result: Option<VoteResult>) -> bool {
    result == Some(VoteResult::Rejected)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::agreement::testing::{A, B, World, city, officer, visit, ymd};

    #[test]
    fn a_tie_tells_partners_countries_sectors_and_dates() {
        let mut world = World::active(AgreementKind::Cooperation, 12, false);
        world.record(&officer(B), visit(ymd(2024, 1, 5))).unwrap();
        let tie = world.tie.unwrap();
        assert_eq!(tie.partner_of(city(A)).unwrap().country, "PT");
        assert_eq!(tie.of(city(B)), Some(Which::Partner));
        assert!(tie.of(RecordId::from_source("a", "b")).is_none());
        assert_eq!((tie.kind, tie.standing()), (AgreementKind::Cooperation, Standing::Active));
        assert_eq!(tie.sectors, [Sector::Culture]);
        assert_eq!(tie.active_since, NaiveDate::from_ymd_opt(2024, 1, 10));
        assert_eq!(tie.last_activity, NaiveDate::from_ymd_opt(2024, 1, 5));
    }

    // AG-7, AG-14.
    #[test]
    fn ag_7_ag_14_a_dormant_tie_that_is_suspended_stays_dormant() {
        let mut world = World::active(AgreementKind::Twinning, 0, false);
        world.pass(1_000);
        world.suspend(A).unwrap();
        let tie = world.tie.as_ref().unwrap();
        assert!(tie.dormant && tie.standing() == Standing::Suspended);
        world.lift(A).unwrap();
        assert_eq!(world.tie.unwrap().standing(), Standing::Dormant);
    }

    #[test]
    fn a_tie_begins_with_its_first_change() {
        let world = World::propose(AgreementKind::Memorandum, 0, false);
        let (change, stamp) = world.history.first().unwrap();
        assert!(Tie::fold(world.tie.clone(), change, stamp).is_err());
        let declined = hansa_proto::partnerships::AgreementDeclined::default().into();
        assert!(Tie::fold(None, &declined, stamp).is_err());
    }
}
