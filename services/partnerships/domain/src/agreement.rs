//! A bilateral agreement: its state, from the proposal to the end (AG-1 to AG-14).
//!
//! The phase of an agreement is computed from the steps taken, so that no stored value can contradict them. The
//! modules below contain the rules, one subject per module. A rule takes the state, a command, the caller, facts and
//! the time.

mod activity;
mod attestation;
mod deletion;
mod disclosure;
mod facts;
mod fold;
mod importing;
mod inheriting;
mod life;
mod planning;
mod proposing;
mod record;
mod resource;
mod rules;
mod sides;
mod signing;
mod terms;
mod timers;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_attested;
#[cfg(test)]
mod tests_disclosure;
#[cfg(test)]
mod tests_in_force;

pub use activity::{create_activity, set_committee};
pub use attestation::{attest_step, confirm_attestation, dispute_attestation};
pub use deletion::delete;
pub use facts::{CityFacts, Clock, Facts, KindSettings, Settings, Tier};
pub use importing::{IMPORT_ROWS, import, import_again, import_id, import_new, outcome};
pub use inheriting::inherit;
pub use life::{
    confirm_renewal, confirm_revitalization, end, end_each, lift_suspension, renew, revitalize, supersede, suspend,
    suspend_each,
};
pub use planning::{
    confirm_plan, confirm_rationale, override_guidelines, propose_plan, propose_rationale, record_council_vote,
    state_guidelines,
};
pub use proposing::{claim, decline, open_dialogue, propose, revise_terms, withdraw};
pub use sides::{Both, Which};
pub use signing::{exportable, sign};

use chrono::{DateTime, NaiveDate, Utc};
use hansa_kernel::{RecordId, TenantId};
use hansa_proto::{
    partnerships::{Activity, AgreementOrigin, AgreementState, AgreementStep, AttestationState, JointText},
    types::{AgreementKind, Attachment, LocalizedText},
};
use serde::{Deserialize, Serialize};
use sides::{Side, Taken};
use terms::{Period, Requirements, SignedOn, Terms};

/// The changes of an agreement.
pub type Change = hansa_proto::partnerships::agreement_change::Change;

/// The collection of agreements in resource names.
pub const COLLECTION: &str = "agreements";
/// Maximum number of activities per agreement.
pub const ACTIVITIES: usize = 1_000;

/// An agreement of two cities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    owner: TenantId,
    /// Every tenant that was ever owner or party. An audience must not shrink.
    readers: Vec<TenantId>,
    public: bool,
    sides: Both<Side>,
    terms: Terms,
    requirements: Requirements,
    clock: Clock,
    supersedes: Option<RecordId>,
    origin: Option<AgreementOrigin>,
    /// The number of the current wording.
    revision: i32,
    dialogue: Option<Taken>,
    rationale: Option<JointText>,
    plan: Option<JointText>,
    revitalization: Option<JointText>,
    renewal: Option<JointText>,
    attestations: Vec<Attested>,
    life: Life,
    periods: Vec<Period>,
    signed_on: SignedOn,
    anniversary: Option<Told>,
    activities: Vec<Recorded>,
    last_activity: Option<NaiveDate>,
    created: DateTime<Utc>,
}

/// The main phases. The finer states are computed from the sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Life {
    /// Until the agreement enters into force: on the last signature or, if later, on the start date.
    Preparing,
    InForce(InForce),
    /// The last day of the term that ran out.
    Expired(NaiveDate),
    Over(Ending),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct InForce {
    /// The day since which the agreement has been dormant.
    dormant: Option<NaiveDate>,
    /// The day from which the dormancy period counts.
    quiet_since: NaiveDate,
    /// Earlier anniversaries are skipped, because the agreement was then suspended or not in force.
    anniversaries_from: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ending {
    how: Close,
    date: NaiveDate,
    by: Option<Which>,
    reason: Vec<LocalizedText>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Close {
    Ended,
    Declined,
    Withdrawn,
    Superseded(RecordId),
}

/// The last anniversary that was announced, in years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    years: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recorded {
    version: u64,
    activity: Activity,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Attested {
    /// The side that the step is attested for. `None` for an import, which both sides may answer.
    side: Option<Which>,
    step: AgreementStep,
    document: Option<Attachment>,
    source: String,
    taken: Taken,
    state: AttestationState,
    reason: Vec<LocalizedText>,
}

impl Agreement {
    /// Computes the state.
    #[must_use]
    pub fn state(&self) -> AgreementState {
        match &self.life {
            Life::Preparing => self.phase(),
            Life::InForce(_) if self.suspended() => AgreementState::Suspended,
            Life::InForce(InForce { dormant: Some(_), .. }) => AgreementState::Dormant,
            Life::InForce(_) => AgreementState::Active,
            Life::Expired(_) => AgreementState::Expired,
            Life::Over(ending) => match ending.how {
                Close::Ended => AgreementState::Ended,
                Close::Declined => AgreementState::Declined,
                Close::Withdrawn => AgreementState::Withdrawn,
                Close::Superseded(_) => AgreementState::Superseded,
            },
        }
    }

    fn phase(&self) -> AgreementState {
        if self.sides.any(|side| side.signature.is_some()) {
            AgreementState::Signed
        } else if self.dialogue.is_none() {
            AgreementState::Proposed
        } else if !self.planned() {
            AgreementState::InDialogue
        } else if !self.voted() {
            AgreementState::Planned
        } else {
            AgreementState::Approved
        }
    }

    fn planned(&self) -> bool {
        self.rationale_confirmed() && self.sides.all(|side| side.plan.is_some())
    }

    fn rationale_confirmed(&self) -> bool {
        self.sides.all(|side| side.rationale.is_some())
    }

    fn voted(&self) -> bool {
        Which::ALL.iter().all(|&which| !self.requirements.vote_of(which) || self.sides[which].vote.is_some())
    }

    fn signed_by_both(&self) -> bool {
        self.sides.all(|side| side.signature.is_some())
    }

    fn suspended(&self) -> bool {
        self.sides.any(|side| side.suspension.is_some())
    }

    /// Returns the kind; unspecified if an import does not name one.
    #[must_use]
    pub fn kind(&self) -> AgreementKind {
        self.terms.kind
    }

    /// Returns whether the agreement is in force: active, dormant or suspended.
    #[must_use]
    pub fn in_force(&self) -> bool {
        matches!(self.life, Life::InForce(_))
    }

    /// Returns the weaker agreement that this one supersedes when it enters into force (see [`supersede`]).
    #[must_use]
    pub fn supersedes(&self) -> Option<RecordId> {
        self.supersedes
    }

    /// Returns the two cities.
    #[must_use]
    pub fn cities(&self) -> Both<RecordId> {
        Both { initiator: self.sides.initiator.city, partner: self.sides.partner.city }
    }

    /// Returns the countries of the two cities as ISO 3166-1 alpha-2 codes.
    #[must_use]
    pub fn countries(&self) -> Both<&str> {
        Both { initiator: &self.sides.initiator.country, partner: &self.sides.partner.country }
    }

    /// Returns the tenants that have taken over their sides.
    #[must_use]
    pub fn tenants(&self) -> Both<Option<TenantId>> {
        Both { initiator: self.sides.initiator.tenant, partner: self.sides.partner.tenant }
    }

    /// Returns the side of a tenant.
    #[must_use]
    pub fn side_of(&self, tenant: TenantId) -> Option<Which> {
        Which::ALL.into_iter().find(|&which| self.sides[which].tenant == Some(tenant))
    }

    /// Returns whether a decision of this tenant on all its agreements with a country includes this agreement. The
    /// agreement must be in a state from which it can end (AG-10).
    #[must_use]
    pub fn reached_by(&self, tenant: TenantId, country: &str) -> bool {
        let open = matches!(self.life, Life::InForce(_)) || self.state() == AgreementState::Signed;
        open && self.side_of(tenant).is_some_and(|which| self.sides[which.other()].country == country)
    }

    fn current_period(&self) -> Option<&Period> {
        self.periods.last()
    }

    fn at_home(&self) -> bool {
        self.sides.any(|side| side.tenant.is_some())
    }
}
