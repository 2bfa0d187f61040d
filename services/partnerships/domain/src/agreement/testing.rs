//! A small test world: two cities, their people, a clock, and an agreement that folds as in the journal.
#![allow(clippy::unwrap_used)]

use super::{Agreement, Both, Change, CityFacts, Facts, Settings, Tier, sides::city_name};
use crate::ties::Tie;
use chrono::{DateTime, Days, NaiveDate, Utc};
use hansa_kernel::{
    Caller, Decision, Emitted, Moment, PersonId, ReasonClass, Record, RecordId, RecordName, Reference, Refusal, Role,
    Stamp, TenantId,
};
use hansa_proto::{
    google::r#type::Date,
    partnerships::{self as p, AgreementState, Sector},
    types::{AgreementKind, CouncilVote, DateRange, LocalizedText, VoteResult},
};
use uuid::Uuid;

pub const A: TenantId = TenantId(Uuid::from_u128(0xa));
pub const B: TenantId = TenantId(Uuid::from_u128(0xb));
pub const STRANGER: TenantId = TenantId(Uuid::from_u128(0xc));
pub const NODE: TenantId = TenantId(Uuid::from_u128(0xd));

pub fn city(tenant: TenantId) -> RecordId {
    RecordId(Uuid::from_u128(0x100 + tenant.0.as_u128()))
}

pub fn caller(tenant: TenantId, roles: &[Role]) -> Caller {
    Caller { tenant, person: PersonId(Uuid::from_u128(9)), roles: roles.to_vec(), scopes: vec!["*".into()] }
}

pub fn mayor(tenant: TenantId) -> Caller {
    caller(tenant, &[Role::Mayor])
}

pub fn officer(tenant: TenantId) -> Caller {
    caller(tenant, &[Role::IrOfficer])
}

pub fn clerk(tenant: TenantId) -> Caller {
    caller(tenant, &[Role::CouncilClerk])
}

pub fn steward() -> Caller {
    caller(NODE, &[Role::Steward])
}

pub fn words(text: &str) -> Vec<LocalizedText> {
    vec![LocalizedText { language_code: "en".into(), text: text.into(), ..LocalizedText::default() }]
}

pub fn ymd(year: i32, month: i32, day: i32) -> Date {
    Date { year, month, day }
}

pub fn naive(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

fn facts_of(tenant: TenantId, country: &str) -> CityFacts {
    CityFacts {
        city: city(tenant),
        display_name: format!("City of {country}"),
        tier: Tier::Municipality,
        country: country.into(),
        tenant: Some(tenant),
        democratic: Some(true),
        unregistered: false,
        successor: None,
        council_vote: None,
        ceremony: None,
    }
}

pub fn facts() -> Facts {
    Facts { cities: Both { initiator: facts_of(A, "FR"), partner: facts_of(B, "PT") }, settings: Settings::default() }
}

pub fn terms(kind: AgreementKind, months: i32, renews: bool) -> p::AgreementTerms {
    p::AgreementTerms {
        kind: kind as i32,
        title: words("Together"),
        sectors: vec![Sector::Culture as i32],
        term_months: months,
        renews_automatically: renews,
        ..p::AgreementTerms::default()
    }
}

pub fn proposal(terms: p::AgreementTerms) -> p::ProposeAgreementRequest {
    p::ProposeAgreementRequest {
        initiator: city_name(city(A)),
        partner: city_name(city(B)),
        terms: Some(terms),
        ..p::ProposeAgreementRequest::default()
    }
}

pub fn importing(terms: Option<p::AgreementTerms>, signed: Option<Date>) -> p::AgreementRow {
    p::AgreementRow {
        initiator: city_name(city(A)),
        partner: city_name(city(B)),
        origin: Some(p::AgreementOrigin {
            source: "wikidata".into(),
            external_id: "Q1-Q2".into(),
            claimed_by: String::new(),
        }),
        terms,
        signed_date: signed,
    }
}

/// A council's approval.
pub fn approval(day: Date) -> CouncilVote {
    CouncilVote {
        result: VoteResult::Approved as i32,
        vote_date: Some(day),
        minutes: Some("doc:minutes".into()),
        tally: None,
    }
}

pub fn guidelines() -> p::Guidelines {
    p::Guidelines {
        document: Some("doc:guidelines".into()),
        grounds: vec![p::GuidelinesGround::Cultural as i32],
        influence_mitigation: words("No money from the state"),
        endorsement_mitigation: words("No pictures"),
        bind_all_actors: true,
    }
}

pub fn visit(start: Date) -> p::Activity {
    p::Activity {
        kind: p::ActivityKind::InstitutionalVisit as i32,
        title: words("Visit"),
        dates: Some(DateRange { first_date: Some(start), last_date: None }),
        sectors: vec![Sector::Culture as i32],
        ..p::Activity::default()
    }
}

pub struct World {
    pub now: DateTime<Utc>,
    pub facts: Facts,
    pub state: Option<Agreement>,
    pub tie: Option<Tie>,
    pub history: Vec<(Change, Stamp)>,
}

impl World {
    pub fn new() -> Self {
        let now = naive(2024, 1, 10).and_hms_opt(9, 0, 0).unwrap().and_utc();
        Self { now, facts: facts(), state: None, tie: None, history: Vec::new() }
    }

    pub fn at(&self) -> Moment {
        Moment::at(self.now)
    }

    pub fn agreement(&self) -> &Agreement {
        self.state.as_ref().unwrap()
    }

    pub fn stands(&self) -> AgreementState {
        self.agreement().state()
    }

    pub fn take(&mut self, actor: Option<&Caller>, emitted: Vec<Emitted<Change>>, at: DateTime<Utc>) {
        for Emitted { change, party, level } in emitted {
            let stamp = Stamp {
                version: self.history.len() as u64 + 1,
                at,
                actor: actor.map(|caller| caller.actor(None)).unwrap_or_default(),
                party: party.or(actor.map(|caller| caller.tenant)),
                level,
            };
            self.state = Some(Agreement::fold(self.state.take(), &change, &stamp).unwrap());
            self.tie = Some(Tie::fold(self.tie.take(), &change, &stamp).unwrap());
            self.history.push((change, stamp));
        }
    }

    pub fn act(&mut self, caller: &Caller, decision: Decision<Change>) -> Result<usize, Refusal> {
        let emitted = decision?;
        let count = emitted.len();
        self.take(Some(caller), emitted, self.now);
        Ok(count)
    }

    /// Advances the clock by days and fires the timers that are due. Returns the changes.
    pub fn pass(&mut self, days: u64) -> Vec<Change> {
        self.now = self.now.checked_add_days(Days::new(days)).unwrap();
        let before = self.history.len();
        for _ in 0..10_000 {
            let Some(due) = self.state.as_ref().and_then(Record::due).filter(|due| *due <= self.now) else {
                return self.history[before..].iter().map(|(change, _)| change.clone()).collect();
            };
            let emitted = self.agreement().on_due(due);
            assert!(!emitted.is_empty(), "a timer must move the next due time on");
            self.take(None, emitted, self.now);
        }
        panic!("timers must stop firing");
    }

    pub fn refold(&self) -> Option<Agreement> {
        self.history.iter().fold(None, |state, (change, stamp)| Some(Agreement::fold(state, change, stamp).unwrap()))
    }

    pub fn propose(kind: AgreementKind, months: i32, renews: bool) -> Self {
        let mut world = Self::new();
        let command = proposal(terms(kind, months, renews));
        let decision = super::propose(&command, &mayor(A), &world.facts, None, world.at());
        world.act(&mayor(A), decision).unwrap();
        world
    }

    pub fn import(terms: Option<p::AgreementTerms>, signed: Option<Date>) -> Self {
        let mut world = Self::new();
        let decision = super::import(&importing(terms, signed), &steward(), &world.facts, world.at());
        world.act(&steward(), decision).unwrap();
        world
    }

    pub fn open(&mut self) {
        let command = p::OpenDialogueRequest::default();
        self.act(&officer(B), super::open_dialogue(self.agreement(), &command, &officer(B))).unwrap();
    }

    pub fn plan(&mut self) {
        self.open();
        let command = p::ProposeRationaleRequest { rationale: words("Why"), ..Default::default() };
        self.act(&officer(A), super::propose_rationale(self.agreement(), &command, &officer(A))).unwrap();
        let command = p::ConfirmRationaleRequest { revision: 1, ..Default::default() };
        self.act(&officer(B), super::confirm_rationale(self.agreement(), &command, &officer(B))).unwrap();
        let command = p::ProposePlanRequest { plan: words("What"), ..Default::default() };
        self.act(&officer(B), super::propose_plan(self.agreement(), &command, &officer(B))).unwrap();
        let command = p::ConfirmPlanRequest { revision: 2, ..Default::default() };
        self.act(&officer(A), super::confirm_plan(self.agreement(), &command, &officer(A))).unwrap();
    }

    /// Goes from the proposal to the confirmed plan with a partner that is not on the platform.
    pub fn plan_alone(&mut self) {
        self.attest(p::AgreementStep::Dialogue, 0).unwrap();
        let command = p::ProposeRationaleRequest { rationale: words("Why"), ..Default::default() };
        self.act(&officer(A), super::propose_rationale(self.agreement(), &command, &officer(A))).unwrap();
        self.attest(p::AgreementStep::Rationale, self.agreement().revision).unwrap();
        let command = p::ProposePlanRequest { plan: words("What"), ..Default::default() };
        self.act(&officer(A), super::propose_plan(self.agreement(), &command, &officer(A))).unwrap();
        self.attest(p::AgreementStep::Plan, self.agreement().revision).unwrap();
    }

    pub fn dispute(&mut self, step: p::AgreementStep) -> Result<usize, Refusal> {
        let command = p::DisputeAttestationRequest { step: step as i32, reason: words("No"), ..Default::default() };
        let decision = super::dispute_attestation(self.agreement(), &command, &mayor(B));
        self.act(&mayor(B), decision)
    }

    pub fn vote(&mut self, tenant: TenantId, result: VoteResult) -> Result<usize, Refusal> {
        let command = p::RecordCouncilVoteRequest {
            vote: Some(CouncilVote { result: result as i32, ..approval(ymd(2024, 1, 9)) }),
            ..Default::default()
        };
        let by = clerk(tenant);
        let decision = super::record_council_vote(self.agreement(), &command, &by, self.at());
        self.act(&by, decision)
    }

    pub fn sign(&mut self, by: &Caller, command: &p::SignAgreementRequest) -> Result<usize, Refusal> {
        let decision = super::sign(self.agreement(), command, by, &self.facts, self.at());
        self.act(by, decision)
    }

    /// Goes to an agreement in force that both mayors have signed.
    pub fn active(kind: AgreementKind, months: i32, renews: bool) -> Self {
        let mut world = Self::propose(kind, months, renews);
        world.plan();
        if kind != AgreementKind::Memorandum {
            world.vote(A, VoteResult::Approved).unwrap();
            world.vote(B, VoteResult::Approved).unwrap();
        }
        world.sign(&mayor(A), &ceremony()).unwrap();
        world.sign(&mayor(B), &ceremony()).unwrap();
        assert_eq!(world.stands(), AgreementState::Active);
        world
    }

    pub fn suspend(&mut self, tenant: TenantId) -> Result<usize, Refusal> {
        let command = p::SuspendAgreementRequest { reason: words("War"), ..Default::default() };
        let decision = super::suspend(self.agreement(), &command, &mayor(tenant), self.at());
        self.act(&mayor(tenant), decision)
    }

    pub fn lift(&mut self, tenant: TenantId) -> Result<usize, Refusal> {
        let decision = super::lift_suspension(self.agreement(), &Default::default(), &mayor(tenant), self.at());
        self.act(&mayor(tenant), decision)
    }

    pub fn claim(&mut self, tenant: TenantId) -> Result<usize, Refusal> {
        let decision = super::claim(self.agreement(), &Default::default(), &mayor(tenant), &self.facts);
        self.act(&mayor(tenant), decision)
    }

    pub fn record(&mut self, by: &Caller, activity: p::Activity) -> Result<usize, Refusal> {
        let command = p::CreateActivityRequest { activity: Some(activity), ..Default::default() };
        let decision = super::create_activity(self.agreement(), &command, by, self.at());
        self.act(by, decision)
    }

    pub fn attest(&mut self, step: p::AgreementStep, revision: i32) -> Result<usize, Refusal> {
        let command = p::AttestStepRequest {
            step: step as i32,
            document: Some("doc:letter".into()),
            source: "city archive".into(),
            signature_date: Some(ymd(2024, 1, 9)),
            vote: Some(approval(ymd(2024, 1, 9))),
            revision,
            ..Default::default()
        };
        let decision = super::attest_step(self.agreement(), &command, &officer(A), &self.facts, self.at());
        self.act(&officer(A), decision)
    }
}

pub fn ceremony() -> p::SignAgreementRequest {
    p::SignAgreementRequest { in_ceremony: true, place: words("Town hall"), ..Default::default() }
}

/// Checks that a refusal quotes the rule, names something missing and offers help.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, rule: &str) -> Refusal {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.rule, rule, "{refusal}");
    assert!(!refusal.help.is_empty() || refusal.class == ReasonClass::InvalidField, "{refusal}");
    assert!(!refusal.missing.is_empty() || refusal.class == ReasonClass::NotFound, "{refusal}");
    refusal
}

pub fn out_of_order<T: std::fmt::Debug>(result: Result<T, Refusal>, rule: &str) {
    assert_eq!(refused(result, rule).class, ReasonClass::OutOfOrder);
}

pub fn name(n: u128) -> RecordName {
    RecordName::new("agreements", RecordId(Uuid::from_u128(n)))
}

/// A request to end the agreement, with a reason.
pub(super) fn ending() -> p::EndAgreementRequest {
    p::EndAgreementRequest { reason: words("War"), ..Default::default() }
}
