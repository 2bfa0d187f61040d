//! Properties that hold for any sequence of commands.
#![allow(clippy::unwrap_used)]

use super::{Agreement, AgreementState as S, Change, Facts, Which, testing::*};
use crate::ties::Standing;
use hansa_kernel::{Caller, Decision, Moment, Record, Role, TenantId, time};
use hansa_proto::partnerships::{self as p, Sector};
use hansa_proto::types::{AgreementKind as K, CouncilVote, DateRange, VoteResult};
use proptest::{collection::vec, prelude::*, sample::select};

const ROLES: [Role; 7] =
    [Role::Mayor, Role::Delegate, Role::CouncilClerk, Role::IrOfficer, Role::Observer, Role::Steward, Role::Operator];

/// The start of an agreement.
#[derive(Clone, Debug)]
struct Beginning {
    imported: bool,
    partner_joined: bool,
    kind: K,
    months: i32,
    renews: bool,
    democratic: [Option<bool>; 2],
}

/// One attempted command.
#[derive(Clone, Debug)]
struct Attempt {
    tenant: TenantId,
    roles: Vec<Role>,
    verb: usize,
    /// Selects a variant of the command.
    n: i32,
    /// The offset that is added to the revision of a confirmation.
    off: i32,
    days: u64,
    joins: bool,
}

fn beginnings() -> impl Strategy<Value = Beginning> {
    let regime = || select(vec![Some(true), Some(true), Some(false), None]);
    (
        any::<bool>(),
        any::<bool>(),
        select(vec![K::Memorandum, K::Cooperation, K::Twinning]),
        1..40_i32,
        any::<bool>(),
        [regime(), regime()],
    )
        .prop_map(|(imported, partner_joined, kind, months, renews, democratic)| Beginning {
            imported,
            partner_joined,
            kind,
            months,
            renews,
            democratic,
        })
}

fn attempts() -> impl Strategy<Value = Attempt> {
    let roles = prop_oneof![
        3 => Just(vec![Role::Mayor, Role::CouncilClerk]),
        1 => vec(select(ROLES.to_vec()), 0..4),
    ];
    let off = prop_oneof![4 => Just(0), 1 => -1..2_i32];
    // Most callers are parties. Most steps in time are days, some are years.
    let tenant = select(vec![A, A, A, B, B, B, STRANGER, NODE]);
    let days = prop_oneof![6 => 0..3_u64, 1 => 0..900_u64];
    let joins = prop_oneof![9 => Just(false), 1 => Just(true)];
    (tenant, roles, 0..VERBS, 0..8_i32, off, days, joins)
        .prop_map(|(tenant, roles, verb, n, off, days, joins)| Attempt { tenant, roles, verb, n, off, days, joins })
}

fn begin(how: &Beginning) -> World {
    let mut world = World::new();
    world.facts.cities.initiator.democratic = how.democratic[0];
    world.facts.cities.partner.democratic = how.democratic[1];
    if !how.partner_joined {
        world.facts.cities.partner.tenant = None;
    }
    let start = p::AgreementTerms { start_date: Some(ymd(2024, 1, 1)), ..terms(how.kind, how.months, how.renews) };
    if how.imported {
        let decision = super::import(&importing(Some(start), None), &steward(), &world.facts, world.at());
        world.act(&steward(), decision).unwrap();
    } else {
        let decision = super::propose(&proposal(start), &mayor(A), &world.facts, None, world.at());
        world.act(&mayor(A), decision).unwrap();
    }
    world
}

const VERBS: usize = 24;

fn decide(state: &Agreement, attempt: &Attempt, by: &Caller, facts: &Facts, at: Moment) -> Decision<Change> {
    let today = time::date(at.today());
    let revision = state.revision + attempt.off;
    let n = attempt.n;
    let delegation = (n % 2 == 0).then(|| p::Delegation {
        document: Some("doc:power".into()),
        validity: Some(DateRange { first_date: Some(ymd(2024, 1, 1)), last_date: Some(ymd(2026, 1, 1)) }),
    });
    match attempt.verb {
        0 => super::open_dialogue(state, &Default::default(), by),
        1 => {
            let terms = terms(K::try_from(1 + n % 3).unwrap(), 12 * (n % 4), n % 2 == 1 && n % 4 > 0);
            let command = p::ReviseTermsRequest { terms: Some(terms), ..Default::default() };
            super::revise_terms(state, &command, by, facts, at)
        }
        2 => {
            let command = p::ProposeRationaleRequest { rationale: words("Why"), ..Default::default() };
            super::propose_rationale(state, &command, by)
        }
        3 => super::confirm_rationale(state, &p::ConfirmRationaleRequest { revision, ..Default::default() }, by),
        4 => {
            let command = p::ProposePlanRequest { plan: words("What"), ..Default::default() };
            super::propose_plan(state, &command, by)
        }
        5 => super::confirm_plan(state, &p::ConfirmPlanRequest { revision, ..Default::default() }, by),
        6 => {
            let result = if n == 0 { VoteResult::Rejected } else { VoteResult::Approved } as i32;
            let minutes = Some("doc:minutes".into());
            let vote = CouncilVote { result, vote_date: Some(today), minutes, tally: None };
            let command = p::RecordCouncilVoteRequest { vote: Some(vote), ..Default::default() };
            super::record_council_vote(state, &command, by, at)
        }
        7 => {
            let command = p::StateGuidelinesRequest { guidelines: Some(guidelines()), ..Default::default() };
            super::state_guidelines(state, &command, by)
        }
        8 => {
            let command = p::OverrideGuidelinesRequest { reason: words("Urgent"), ..Default::default() };
            super::override_guidelines(state, &command, by, facts)
        }
        9 | 10 => {
            let paper = n == 1;
            let command = p::SignAgreementRequest {
                delegation,
                paper_date: paper.then_some(today),
                scan: paper.then(|| "doc:scan".into()),
                ..ceremony()
            };
            super::sign(state, &command, by, facts, at)
        }
        11 if n == 0 => super::decline(state, &Default::default(), by),
        12 if n == 0 => super::withdraw(state, &Default::default(), by),
        13 => {
            let activity = p::Activity { source: known_from(by), ..visit(today) };
            let command = p::CreateActivityRequest { activity: Some(activity), ..Default::default() };
            super::create_activity(state, &command, by, at)
        }
        14 => {
            let command = p::ProposeRevitalizationRequest {
                action: words("A festival"),
                sectors: vec![Sector::Youth as i32],
                with_residents: true,
                ..Default::default()
            };
            super::revitalize(state, &command, by)
        }
        15 => {
            let command = p::ConfirmRevitalizationRequest { revision, ..Default::default() };
            super::confirm_revitalization(state, &command, by, at)
        }
        16 => {
            let command = p::SuspendAgreementRequest { reason: words("War"), delegation, ..Default::default() };
            super::suspend(state, &command, by, at)
        }
        17 => super::lift_suspension(state, &p::LiftSuspensionRequest { delegation, ..Default::default() }, by, at),
        18 => {
            let command =
                p::ProposeRenewalRequest { term_months: n * 5, renews_automatically: n % 2 == 1, ..Default::default() };
            super::renew(state, &command, by)
        }
        19 => super::confirm_renewal(state, &p::ConfirmRenewalRequest { revision, ..Default::default() }, by, at),
        20 if n == 0 => {
            let source = known_from(by);
            let command = p::EndAgreementRequest { reason: words("War"), delegation, source, ..Default::default() };
            super::end(state, &command, by, at)
        }
        21 => super::claim(state, &Default::default(), by, facts),
        22 => {
            let step = 1 + n % 8;
            if attempt.off == 0 {
                super::confirm_attestation(state, &p::ConfirmAttestationRequest { step, ..Default::default() }, by)
            } else {
                let command = p::DisputeAttestationRequest { step, reason: words("No"), ..Default::default() };
                super::dispute_attestation(state, &command, by)
            }
        }
        _ => {
            let command = p::AttestStepRequest {
                step: 1 + n % 7,
                document: Some("doc:letter".into()),
                source: "archive".into(),
                signature_date: Some(today),
                vote: Some(super::testing::approval(today)),
                revision,
                ..Default::default()
            };
            super::attest_step(state, &command, by, facts, at)
        }
    }
}

fn known_from(by: &Caller) -> String {
    if by.has(Role::Steward) { "web".into() } else { String::new() }
}

/// Returns the city that a change names, if it names one.
fn city_of(change: &Change) -> Option<&str> {
    Some(match change {
        Change::DialogueOpened(c) => &c.city,
        Change::TermsRevised(c) => &c.city,
        Change::RationaleProposed(c) => &c.rationale.as_ref()?.city,
        Change::RationaleConfirmed(c) => &c.city,
        Change::PlanProposed(c) => &c.plan.as_ref()?.city,
        Change::PlanConfirmed(c) => &c.city,
        Change::CouncilVoted(c) => &c.city,
        Change::GuidelinesStated(c) => &c.city,
        Change::GuidelinesOverridden(c) => &c.city,
        Change::Signed(c) => &c.city,
        Change::Declined(c) => &c.city,
        Change::Withdrawn(c) => &c.city,
        Change::ActivityCreated(c) => &c.activity.as_ref()?.city,
        Change::RevitalizationProposed(c) => &c.revitalization.as_ref()?.city,
        Change::Revitalized(c) => &c.city,
        Change::Suspended(c) => &c.city,
        Change::SuspensionLifted(c) => &c.city,
        Change::RenewalProposed(c) => &c.renewal.as_ref()?.city,
        Change::Renewed(c) => &c.city,
        Change::Ended(c) => &c.city,
        Change::Claimed(c) => &c.city,
        Change::AttestationConfirmed(c) => &c.city,
        Change::AttestationDisputed(c) => &c.city,
        Change::CommitteeSet(c) => &c.city,
        _ => return None,
    })
}

/// AG-4: a change names the caller's own city, or a city that has not joined and whose step is attested.
fn each_acts_for_itself(before: &Agreement, by: &Caller, changes: &[hansa_kernel::Emitted<Change>]) {
    let attested = changes.iter().any(|emitted| matches!(emitted.change, Change::StepAttested(_)));
    for emitted in changes {
        assert!(emitted.party.is_none_or(|party| party == by.tenant));
        if let Change::StepAttested(change) = &emitted.change {
            let own = before.side_of(by.tenant).unwrap();
            let other = &before.sides[own.other()];
            assert!(change.city == other.name() && other.tenant.is_none());
        }
        let Some(named) = city_of(&emitted.change).filter(|city| !city.is_empty()) else { continue };
        let which = Which::ALL.into_iter().find(|&which| before.sides[which].name() == named).unwrap();
        let side = &before.sides[which];
        let claims = matches!(emitted.change, Change::Claimed(_));
        assert!(side.tenant == Some(by.tenant) || (side.tenant.is_none() && (attested || claims)), "{emitted:?}");
    }
    if changes.iter().any(|emitted| city_of(&emitted.change) == Some("")) {
        assert!(by.has(Role::Steward) && before.tenants().all(Option::is_none), "the steward does not act for a party");
    }
}

/// Returns whether one state may follow another, by a command or by time.
fn may_follow(from: S, to: S) -> bool {
    const PREPARING: [S; 5] = [S::Proposed, S::InDialogue, S::Planned, S::Approved, S::Signed];
    const FORCE: [S; 3] = [S::Active, S::Dormant, S::Suspended];
    match from {
        _ if from == to => true,
        S::Proposed => matches!(to, S::InDialogue | S::Declined | S::Withdrawn),
        S::InDialogue => matches!(to, S::Proposed | S::Planned | S::Approved | S::Declined | S::Withdrawn),
        S::Planned => matches!(to, S::Proposed | S::InDialogue | S::Approved | S::Declined | S::Withdrawn),
        S::Approved => PREPARING.contains(&to) || matches!(to, S::Declined | S::Withdrawn),
        S::Signed => PREPARING.contains(&to) || matches!(to, S::Active | S::Declined | S::Withdrawn | S::Ended),
        S::Active | S::Dormant | S::Suspended => {
            FORCE.contains(&to) || matches!(to, S::Expired | S::Ended | S::Superseded)
        }
        S::Expired => to == S::Active,
        _ => false,
    }
}

fn sound(world: &World) {
    let state = world.agreement();
    let now = state.state();
    // A signature requires the plan and the votes.
    if matches!(state.life, super::Life::Preparing) && state.sides.any(|side| side.signature.is_some()) {
        assert!(state.dialogue.is_some() && state.planned() && state.voted());
    }
    if state.rationale.is_none() {
        assert!(state.sides.all(|side| side.rationale.is_none()));
    }
    assert!(state.periods.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", state.periods);
    assert!(state.public != state.periods.is_empty());
    let standing = match now {
        S::Active => Standing::Active,
        S::Dormant => Standing::Dormant,
        S::Suspended => Standing::Suspended,
        S::Expired => Standing::Expired,
        S::Ended | S::Declined | S::Withdrawn | S::Superseded => Standing::Over,
        _ => Standing::Preparing,
    };
    assert_eq!(world.tie.as_ref().unwrap().standing(), standing);
    let bytes = postcard::to_allocvec(state).unwrap();
    assert_eq!(&postcard::from_bytes::<Agreement>(&bytes).unwrap(), state);
    assert_eq!(world.refold().as_ref(), Some(state));
}

fn follow(world: &World, before: &Agreement) {
    let audience = (before.audience(), world.agreement().audience());
    assert!(audience.0.tenants.iter().all(|tenant| audience.1.tenants.contains(tenant)), "AG-4: it must not shrink");
    assert!(audience.1.public || !audience.0.public);
    sound(world);
}

/// Checks the state transition of every change.
fn transitions(world: &World) {
    let mut state: Option<Agreement> = None;
    for (change, stamp) in &world.history {
        let next = Agreement::fold(state.clone(), change, stamp).unwrap();
        if let Some(before) = state {
            assert!(may_follow(before.state(), next.state()), "{:?} {change:?} {:?}", before.state(), next.state());
        }
        state = Some(next);
    }
}

fn try_once(world: &mut World, attempt: &Attempt) -> Option<usize> {
    if attempt.joins {
        world.facts.cities.partner.tenant = Some(B);
    }
    let before = world.agreement().clone();
    world.pass(attempt.days);
    follow(world, &before);
    let before = world.agreement().clone();
    let by = caller(attempt.tenant, &attempt.roles);
    let decision = decide(&before, attempt, &by, &world.facts, world.at());
    let Ok(changes) = &decision else {
        let refusal = decision.unwrap_err();
        assert!(!refusal.rule.is_empty() && !refusal.message.is_empty());
        assert_eq!(&before, world.agreement(), "a refusal must change nothing");
        return None;
    };
    if attempt.tenant == STRANGER {
        assert!(changes.is_empty(), "a stranger cannot change anything: {changes:?}");
    }
    each_acts_for_itself(&before, &by, changes);
    let count = world.act(&by, decision).unwrap();
    follow(world, &before);
    Some(count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // AG-3.
    #[test]
    fn ag_3_ag_4_whatever_anyone_tries_no_state_is_illegal(how in beginnings(), tries in vec(attempts(), 1..60)) {
        let mut world = begin(&how);
        sound(&world);
        for attempt in &tries {
            try_once(&mut world, attempt);
        }
        // Let years pass, until no timer is due.
        world.pass(365 * 30);
        sound(&world);
        transitions(&world);
    }

    #[test]
    fn ag_3_a_willing_pair_goes_through_every_life(how in beginnings(), tries in vec(attempts(), 30..80)) {
        let mut world = begin(&Beginning { imported: false, ..how.clone() });
        if !how.partner_joined {
            world.plan_alone();
        } else if how.kind == K::Memorandum || how.imported {
            world.plan();
        }
        for attempt in &tries {
            let willing = Attempt { roles: vec![Role::Mayor, Role::CouncilClerk], off: 0, ..attempt.clone() };
            let tenant = if attempt.tenant == A { A } else { B };
            try_once(&mut world, &Attempt { tenant, ..willing });
        }
        transitions(&world);
    }

    // AG-8.
    #[test]
    fn ag_8_periods_follow_without_gap_and_do_not_drift(months in 1..30_i32, day in 1..29_i32, years in 1..60_u64) {
        let start = p::AgreementTerms { start_date: Some(ymd(2023, 12, day)), ..terms(K::Memorandum, months, true) };
        let mut world = World::import(Some(start), None);
        world.pass(years * 365);
        let periods = &world.agreement().periods;
        prop_assert!(world.agreement().in_force());
        for (i, pair) in periods.windows(2).enumerate() {
            prop_assert_eq!(pair[0].end.unwrap().succ_opt(), pair[1].start);
            let elapsed = months.cast_unsigned() * (u32::try_from(i).unwrap() + 1);
            prop_assert_eq!(pair[1].start.unwrap(), time::months_later(periods[0].start.unwrap(), elapsed));
        }
        let last = periods.last().unwrap();
        prop_assert!(time::over_everywhere(last.end.unwrap()) > world.now, "no renewal may be late");
    }
}

// AG-3.
#[test]
fn ag_3_the_verbs_reach_every_state_that_acts_lead_to() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let how = beginnings().new_tree(&mut runner).unwrap().current();
        let tries = vec(attempts(), 60).new_tree(&mut runner).unwrap().current();
        let mut world = begin(&how);
        if how.partner_joined && !how.imported {
            world.plan();
        }
        seen.insert(world.stands().as_str_name());
        for attempt in &tries {
            try_once(&mut world, attempt);
            seen.insert(world.stands().as_str_name());
        }
    }
    // All states but superseded, which needs another agreement.
    assert_eq!(seen.len(), 12, "{seen:?}");
}
