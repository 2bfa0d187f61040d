//! The two sides of an agreement and the steps that each has taken.

use chrono::{DateTime, NaiveDate, Utc};
use hansa_kernel::{AssuranceLevel, RecordId, Stamp, TenantId};
use hansa_proto::{
    partnerships::{Committee, Delegation, Guidelines, GuidelinesNeed},
    types::{Actor, Attachment, CouncilVote, LocalizedText},
};
use serde::{Deserialize, Serialize};
use std::ops::{Index, IndexMut};

/// One side of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Which {
    /// The city that proposed; for an import, the city that was named first.
    Initiator,
    /// The other city.
    Partner,
}

impl Which {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Initiator, Self::Partner];

    /// Returns the other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Partner,
            Self::Partner => Self::Initiator,
        }
    }
}

/// A pair of values, one per side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Both<T> {
    /// The initiator's value.
    pub initiator: T,
    /// The partner's value.
    pub partner: T,
}

impl<T> Both<T> {
    /// Returns whether `test` holds for at least one side.
    pub fn any(&self, test: impl Fn(&T) -> bool) -> bool {
        test(&self.initiator) || test(&self.partner)
    }

    /// Returns whether `test` holds for both sides.
    pub fn all(&self, test: impl Fn(&T) -> bool) -> bool {
        test(&self.initiator) && test(&self.partner)
    }

    /// Applies `act` to both values.
    pub(super) fn each(&mut self, mut act: impl FnMut(&mut T)) {
        act(&mut self.initiator);
        act(&mut self.partner);
    }
}

impl<T> Index<Which> for Both<T> {
    type Output = T;

    fn index(&self, which: Which) -> &T {
        match which {
            Which::Initiator => &self.initiator,
            Which::Partner => &self.partner,
        }
    }
}

impl<T> IndexMut<Which> for Both<T> {
    fn index_mut(&mut self, which: Which) -> &mut T {
        match which {
            Which::Initiator => &mut self.initiator,
            Which::Partner => &mut self.partner,
        }
    }
}

/// A city in an agreement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Side {
    pub city: RecordId,
    pub display_name: String,
    pub country: String,
    /// `None` if the city is not on the platform or has not taken over its side.
    pub tenant: Option<TenantId>,
    pub rationale: Option<Taken>,
    pub plan: Option<Taken>,
    pub vote: Option<Vote>,
    pub signature: Option<Signature>,
    pub need: GuidelinesNeed,
    pub guidelines: Option<(Guidelines, Taken)>,
    pub overridden: Option<Reasoned>,
    pub suspension: Option<Suspension>,
    pub committee: Option<Committee>,
}

impl Side {
    pub fn name(&self) -> String {
        city_name(self.city)
    }
}

/// Returns whether a side may sign as far as guidelines are concerned (AG-11).
pub(super) fn guided(side: &Side, need: GuidelinesNeed) -> bool {
    need != GuidelinesNeed::Required || side.guidelines.is_some() || side.overridden.is_some()
}

pub(super) fn city_name(city: RecordId) -> String {
    format!("cities/{city}")
}

/// The actor, time and assurance level of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub actor: Actor,
    pub at: DateTime<Utc>,
    pub level: AssuranceLevel,
}

impl Taken {
    pub fn of(stamp: &Stamp) -> Self {
        Self { actor: stamp.actor.clone(), at: stamp.at, level: stamp.level }
    }
}

/// A vote in favor of the agreement. A vote against ends it and is stored as its ending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Vote {
    pub vote: CouncilVote,
    pub taken: Taken,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Signature {
    pub date: NaiveDate,
    pub place: Vec<LocalizedText>,
    pub in_ceremony: bool,
    pub scan: Option<Attachment>,
    pub delegation: Option<Delegation>,
    pub taken: Taken,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reasoned {
    pub reason: Vec<LocalizedText>,
    pub taken: Taken,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Suspension {
    pub date: NaiveDate,
    pub reason: Vec<LocalizedText>,
    pub taken: Taken,
}
