//! What other services keep of an agreement: enough to find dormant ties, ties without guidelines, and the countries of a
//! city's partners. It folds from the agreement's changes alone.

use crate::agreement::{Both, COLLECTION, Change, Which};
use chrono::NaiveDate;
use hansa_kernel::{Misfit, RecordId, RecordName, Reference, Refusal, Stamp, time};
use hansa_proto::{
    google::r#type::Date,
    partnerships::{
        AgreementKind, AgreementStep, AgreementTerms, GuidelinesNeed, PartyEntry, Sector, StepAttested, VoteResult,
    },
};
use serde::{Deserialize, Serialize};

/// Where a tie stands, as far as others need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Proposed, not in force.
    Preparing,
    /// In force.
    Active,
    /// In force, without activity for the set time.
    Dormant,
    /// In force, and suspended by at least one side.
    Suspended,
    /// Its term ran out.
    Expired,
    /// It ended, or never came about.
    Over,
}

/// One side of a tie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The city.
    pub city: RecordId,
    /// ISO 3166-1 alpha-2 code of its country.
    pub country: String,
    /// Whether it needs guidelines (AG-11).
    pub guidelines_need: GuidelinesNeed,
    /// Whether it stated some.
    pub guidelines_stated: bool,
    /// Whether its mayor went on without.
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
    /// Unspecified where an import does not say.
    pub kind: AgreementKind,
    /// Its sectors; empty for all.
    pub sectors: Vec<Sector>,
    /// The first day in force, or the day of the import; `None` before.
    pub active_since: Option<NaiveDate>,
    /// The last day of the latest activity.
    pub last_activity: Option<NaiveDate>,
    /// Whether terms or an activity have an economic component.
    pub economic: bool,
    /// Whether it is dormant; a tie that was suspended while dormant is both.
    pub dormant: bool,
    in_force: bool,
    expired: bool,
    over: bool,
}

impl Reference for Tie {
    const COLLECTION: &'static str = COLLECTION;
    const REVISION: u32 = 2;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, Misfit> {
        let Some(mut tie) = before else { return Self::begin(change) };
        tie.apply(change)?;
        Ok(tie)
    }
}

impl Tie {
    /// Where it stands.
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

    /// The end that a city holds.
    #[must_use]
    pub fn of(&self, city: RecordId) -> Option<Which> {
        Which::ALL.into_iter().find(|&which| self.ends[which].city == city)
    }

    /// The partner of a city.
    #[must_use]
    pub fn partner_of(&self, city: RecordId) -> Option<&End> {
        self.of(city).map(|which| &self.ends[which.other()])
    }

    fn begin(change: &Change) -> Result<Self, Misfit> {
        let (initiator, partner, terms, since) = match change {
            Change::Proposed(c) => (&c.initiator, &c.partner, &c.terms, None),
            Change::Imported(c) => {
                let start = c.terms.as_ref().and_then(|terms| terms.start_date).or(c.import_date);
                (&c.initiator, &c.partner, &c.terms, Some(day(start.as_ref())?))
            }
            _ => return Err(Misfit("a tie begins with a proposal or an import".into())),
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

    fn apply(&mut self, change: &Change) -> Result<(), Misfit> {
        match change {
            Change::Proposed(_) | Change::Imported(_) => return Err(Misfit("a tie begins once".into())),
            Change::TermsRevised(c) => self.take_terms(c.terms.as_ref()),
            Change::CouncilVoted(c) => self.over |= rejected(c.vote.as_ref().map(|vote| vote.result())),
            Change::StepAttested(c) => self.over |= rejected(attested_vote(c)),
            Change::GuidelinesStated(c) => self.end(&c.city)?.guidelines_stated = true,
            Change::GuidelinesOverridden(c) => self.end(&c.city)?.guidelines_overridden = true,
            Change::Signed(c) => self.end(&c.city)?.guidelines_need = c.guidelines_need(),
            Change::EnteredIntoForce(c) => {
                self.active_since = Some(day(c.start_date.as_ref())?);
                self.in_force = true;
            }
            Change::ActivityRecorded(c) => {
                let activity = c.activity.clone().unwrap_or_default();
                self.last_activity = self.last_activity.max(Some(day(activity.end_date.as_ref())?));
                self.economic |= activity.economic;
            }
            Change::BecameDormant(_) => self.dormant = true,
            Change::Revitalised(c) => {
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
                // A renewal after the end is a new beginning; one before it leaves a dormant tie dormant.
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

    fn end(&mut self, city: &str) -> Result<&mut End, Misfit> {
        let which = Which::ALL.into_iter().find(|&which| format!("cities/{}", self.ends[which].city) == city);
        which.map(|which| &mut self.ends[which]).ok_or_else(|| Misfit("the city is no party".into()))
    }
}

fn unreadable(refusal: Refusal) -> Misfit {
    Misfit(refusal.message)
}

fn day(date: Option<&Date>) -> Result<NaiveDate, Misfit> {
    time::day("date", date).map_err(unreadable)
}

fn end(entry: Option<&PartyEntry>) -> Result<End, Misfit> {
    let entry = entry.ok_or_else(|| Misfit("a side is missing".into()))?;
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
