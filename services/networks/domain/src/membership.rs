//! Memberships of cities in networks (NW-2, NW-3): lifecycle records whose state is the API resource.

use chrono::{DateTime, Utc};
use hansa_kernel::{
    Audience, Caller, Decision, Disclosed, Emitted, FoldError, IntoResource, Moment, Record, RecordId, RecordName,
    Refusal, Refused, Stamp, TenantId,
    record::emit,
    serde_proto, text,
    time::{self, over_everywhere},
};
use hansa_proto::{
    ApplyTo,
    networks::{
        self as proto, ApplyForMembershipRequest, ApproveMembershipRequest, CriterionOutcome, CriterionResult,
        DeclineMembershipRequest, ExpelMembershipRequest, MembershipState as S, ReinstateMembershipRequest,
        SuspendMembershipRequest, membership_change::Change,
    },
    register::CityTier,
    types::LocalizedText,
};
use serde::{Deserialize, Serialize};

/// A membership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    #[serde(with = "serde_proto")]
    resource: proto::Membership,
    secretariat: TenantId,
    member: TenantId,
    /// Whether the membership was ever active. Member lists are public (PL-1).
    public: bool,
}

/// The facts that decide an application.
#[derive(Clone, Debug)]
pub struct ApplicationFacts {
    /// The network and the tenant of its secretariat.
    pub network: (RecordName, TenantId),
    /// The city's tenant; `None` if the city has not joined.
    pub city: Option<TenantId>,
    /// The tier of the city.
    pub tier: CityTier,
    /// The city that succeeds this one, if this one no longer exists.
    pub successor: Option<RecordId>,
    /// The results of the network's criteria.
    pub eligibility: Vec<CriterionResult>,
}

impl ApplicationFacts {
    /// Checks that the city belongs to the caller. Handlers call this before they look for an application, because only
    /// the city and the secretariat may learn that there is one (PL-1).
    ///
    /// # Errors
    /// `NOT_PERMITTED` under NW-3 if the city is not the caller's.
    pub fn is_own(&self, caller: &Caller) -> Refused<()> {
        if self.city == Some(caller.tenant) {
            return Ok(());
        }
        let refusal = Refusal::not_permitted("NOT_OWN_CITY", "this is not your city").under("NW-3");
        Err(refusal.help("A city applies for itself. Join as that city first."))
    }

    /// Checks that the city can be a member: its tier allows it, and the city still exists.
    fn may_be_a_member(&self) -> Refused<()> {
        if self.tier == CityTier::SubMunicipal {
            let refusal =
                Refusal::rule("CT-2", "SUB_MUNICIPAL_MEMBER", "a part of a city cannot be a member of a network");
            return Err(refusal.missing("city", "a city, metropolis or region").help("Apply for the whole city."));
        }
        if let Some(heir) = self.successor {
            let heir = RecordName::new("cities", heir).to_string();
            let refusal = Refusal::rule("CT-11", "CITY_ENDED", "the city no longer exists").missing("city", &heir);
            return Err(refusal.help(format!("Apply for its successor, {heir}.")));
        }
        Ok(())
    }
}

/// Returns the id of a city's membership in a network. Each pair of city and network has one membership.
#[must_use]
pub fn id_of(network: RecordId, city: RecordId) -> RecordId {
    network.of(&city.0.to_string())
}

/// Applies for membership of a city (NW-2, NW-3).
///
/// # Errors
/// Refused under NW-3 if the city is not the caller's, or already has an application or a membership; under CT-2 or
/// CT-11 if it cannot be a member; under NW-2 if it does not meet a criterion.
pub fn apply(
    before: Option<&Membership>,
    asked: &ApplyForMembershipRequest,
    facts: &ApplicationFacts,
    caller: &Caller,
) -> Decision<Change> {
    facts.is_own(caller)?;
    facts.may_be_a_member()?;
    if let Some(membership) = before {
        membership.require_state("apply again", &[S::Declined, S::Left])?;
    }
    text::optional("motivation", &asked.motivation)?;
    let unmet = facts.eligibility.iter().filter(|one| one.outcome() == CriterionOutcome::NotMet);
    let refusal = Refusal::rule(
        "NW-2",
        "CRITERION_NOT_MET",
        format!("the city does not meet the criteria of {}", facts.network.0),
    );
    let refusal = unmet.fold(refusal, |so_far, one| so_far.missing(&one.criterion_id, read(one)));
    if !refusal.missing.is_empty() {
        return Err(
            refusal.help("If a value is out of date, correct the city's entry with its source, and apply again.")
        );
    }
    emit(proto::MembershipApplied {
        network: facts.network.0.to_string(),
        city: asked.city.clone(),
        secretariat: facts.network.1.name(),
        applicant: caller.tenant.name(),
        motivation: asked.motivation.clone(),
        eligibility: facts.eligibility.clone(),
    })
}

/// Approves an application (NW-3).
///
/// # Errors
/// Refused under NW-3 if the membership is not in the state `APPLIED`.
pub fn approve(at: &Membership, _: &ApproveMembershipRequest, _: &Caller, now: Moment) -> Decision<Change> {
    at.require_state("be approved", &[S::Applied])?;
    emit(proto::MembershipApproved { start_date: Some(time::date(now.today())) })
}

/// Declines an application (NW-3).
///
/// # Errors
/// Refused under NW-3 if the membership is not in the state `APPLIED`, or the request has no reason.
pub fn decline(at: &Membership, asked: &DeclineMembershipRequest, _: &Caller) -> Decision<Change> {
    at.require_state("be declined", &[S::Applied])?;
    emit(proto::MembershipDeclined { reason: reason(&asked.reason)? })
}

/// Suspends a member's rights (NW-3).
///
/// # Errors
/// Refused under NW-3 if the membership is not active, or the request has no reason.
pub fn suspend(at: &Membership, asked: &SuspendMembershipRequest, _: &Caller) -> Decision<Change> {
    at.require_state("be suspended", &[S::Active])?;
    emit(proto::MembershipSuspended { reason: reason(&asked.reason)? })
}

/// Reinstates a suspended or expelled member (NW-3).
///
/// # Errors
/// Refused under NW-3 if the membership is neither suspended nor expelled.
pub fn reinstate(at: &Membership, _: &ReinstateMembershipRequest, _: &Caller) -> Decision<Change> {
    at.require_state("be reinstated", &[S::Suspended, S::Expelled])?;
    emit(proto::MembershipReinstated {})
}

/// Gives notice, or withdraws an application (NW-3). `notice_months` is the notice period of the network.
///
/// # Errors
/// Refused under NW-3 if the caller's tenant is not the city, or the city is neither applicant nor member.
pub fn leave(at: &Membership, notice_months: i32, caller: &Caller, now: Moment) -> Decision<Change> {
    if caller.tenant != at.member {
        let refusal = Refusal::not_permitted("NOT_OWN_CITY", "only the member itself can leave").under("NW-3");
        return Err(refusal.help("The secretariat can expel the member, with a reason."));
    }
    at.require_state("leave", &[S::Applied, S::Active, S::Suspended])?;
    let today = now.today();
    if at.resource.state() == S::Applied || notice_months == 0 {
        return emit(proto::MembershipLeft { end_date: Some(time::date(today)) });
    }
    let end = time::months_later(today, notice_months.unsigned_abs());
    emit(proto::MembershipNoticeGiven { end_date: Some(time::date(end)) })
}

/// Expels a member (NW-3).
///
/// # Errors
/// Refused under NW-3 if the city is not a member, or the request has no reason.
pub fn expel(at: &Membership, asked: &ExpelMembershipRequest, _: &Caller, now: Moment) -> Decision<Change> {
    at.require_state("be expelled", &[S::Active, S::Suspended, S::NoticeGiven])?;
    emit(proto::MembershipExpelled { reason: reason(&asked.reason)?, end_date: Some(time::date(now.today())) })
}

/// Returns the values that a criterion read, as in `population = 522250`; `?` stands for an unknown value.
fn read(result: &proto::CriterionResult) -> String {
    let input = |one: &proto::CriterionInput| format!("{} = {}", one.variable, one.value.as_deref().unwrap_or("?"));
    result.inputs.iter().map(input).collect::<Vec<_>>().join(", ")
}

fn reason(given: &[LocalizedText]) -> Refused<Vec<LocalizedText>> {
    text::required("reason", given).map_err(|refusal| refusal.under("NW-3").help("Say why. The member reads it."))?;
    Ok(given.to_vec())
}

impl Membership {
    /// The network.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.resource.network
    }

    /// The city.
    #[must_use]
    pub fn city(&self) -> &str {
        &self.resource.city
    }

    /// The city's tenant.
    #[must_use]
    pub fn member(&self) -> TenantId {
        self.member
    }

    /// The state of the membership.
    #[must_use]
    pub fn state(&self) -> S {
        self.resource.state()
    }

    fn require_state(&self, what: &str, states: &[S]) -> Refused<()> {
        if states.contains(&self.state()) {
            return Ok(());
        }
        let name = |state: &S| state.as_str_name().trim_start_matches("MEMBERSHIP_STATE_").to_owned();
        let (is, must) = (name(&self.state()), states.iter().map(name).collect::<Vec<_>>().join(" or "));
        Err(Refusal::out_of_order("NW-3", "NOT_IN_STATE", format!("a membership that is {is} cannot {what}"))
            .missing("state", must)
            .help("Read the membership and its history to see what led to this state."))
    }
}

impl IntoResource for Membership {
    type Resource = proto::Membership;

    /// Hides the motivation, the eligibility and the reason from callers other than the two parties. If a former member
    /// has applied again, other callers see the state `LEFT`.
    fn to_resource(&self, name: &RecordName, etag: &str, caller: &Caller) -> proto::Membership {
        let mut shown = self.resource.clone();
        if ![self.secretariat, self.member].contains(&caller.tenant) {
            (shown.motivation, shown.eligibility, shown.reason) = Default::default();
            if matches!(self.state(), S::Applied | S::Declined) {
                shown.set_state(S::Left);
            }
        }
        proto::Membership { name: name.to_string(), etag: etag.to_owned(), ..shown }
    }

    fn basic(membership: proto::Membership) -> proto::Membership {
        proto::Membership { motivation: Vec::new(), eligibility: Vec::new(), reason: Vec::new(), ..membership }
    }
}

impl Record for Membership {
    const COLLECTION: &'static str = "memberships";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _: &Stamp) -> Result<Self, FoldError> {
        let tenant = |name: &str| TenantId::parse(name, "tenant").map_err(|refusal| FoldError(refusal.message));
        let mut after = match (before, change) {
            (Some(before), _) => before,
            (None, Change::Applied(first)) => Self {
                resource: proto::Membership::default(),
                secretariat: tenant(&first.secretariat)?,
                member: tenant(&first.applicant)?,
                public: false,
            },
            (None, _) => return Err(FoldError("a membership begins with an application".into())),
        };
        let of = &mut after.resource;
        let state = match change {
            Change::Applied(_) => S::Applied,
            Change::Approved(_) | Change::Reinstated(_) => S::Active,
            Change::Declined(_) => S::Declined,
            Change::Suspended(_) => S::Suspended,
            Change::NoticeGiven(_) => S::NoticeGiven,
            Change::Left(_) => S::Left,
            Change::Expelled(_) => S::Expelled,
        };
        if matches!(change, Change::Applied(_) | Change::Reinstated(_)) {
            of.reason.clear();
        }
        if state == S::Active {
            (of.end_date, after.public) = (None, true);
        }
        change.apply_to(of);
        of.set_state(state);
        Ok(after)
    }

    fn owner(&self) -> TenantId {
        self.secretariat
    }

    fn audience(&self) -> Audience {
        Audience::of([self.secretariat, self.member]).and_public(self.public)
    }

    fn disclosed(change: &Change) -> Disclosed<Change> {
        match change {
            Change::Applied(_) | Change::Declined(_) => Disclosed::Hidden,
            Change::Suspended(_) => Disclosed::Part(proto::MembershipSuspended::default().into()),
            Change::Expelled(expelled) => {
                Disclosed::Part(proto::MembershipExpelled { reason: Vec::new(), ..expelled.clone() }.into())
            }
            _ => Disclosed::Whole,
        }
    }

    fn due(&self) -> Option<DateTime<Utc>> {
        let end = time::day("end_date", self.resource.end_date.as_ref()).ok();
        end.filter(|_| self.state() == S::NoticeGiven).map(over_everywhere)
    }

    fn on_due(&self, _: DateTime<Utc>) -> Vec<Emitted<Change>> {
        let left = proto::MembershipLeft { end_date: self.resource.end_date };
        vec![Emitted { party: Some(self.member), ..Emitted::new(left) }]
    }
}

#[cfg(test)]
mod tests;
