//! Tests of the rules of memberships (NW-2, NW-3), also over arbitrary sequences of requests.
#![allow(clippy::unwrap_used)]

use super::*;
use chrono::TimeZone;
use hansa_kernel::{AssuranceLevel, PersonId, Relation, Role};
use proptest::prelude::*;
use uuid::Uuid;

const SECRETARIAT: TenantId = TenantId(Uuid::from_u128(1));
const CITY: TenantId = TenantId(Uuid::from_u128(2));
const STRANGER: TenantId = TenantId(Uuid::from_u128(3));

fn caller(tenant: TenantId) -> Caller {
    Caller { tenant, person: PersonId(Uuid::nil()), roles: vec![Role::Mayor], scopes: vec!["*".into()] }
}

fn on(day: u32) -> Moment {
    Moment::at(Utc.with_ymd_and_hms(2026, 1, 1, 12, 0, 0).unwrap() + chrono::Days::new(day.into()))
}

fn text(words: &str) -> Vec<LocalizedText> {
    vec![LocalizedText { language_code: "en".into(), text: words.into(), ..Default::default() }]
}

fn facts(outcome: CriterionOutcome) -> ApplicationFacts {
    let input = proto::CriterionInput { variable: "population".into(), value: Some("5".into()) };
    let result = CriterionResult { criterion_id: "size".into(), outcome: outcome as i32, inputs: vec![input] };
    let network = RecordName::new("networks", RecordId(Uuid::from_u128(7)));
    ApplicationFacts {
        network: (network, SECRETARIAT),
        city: Some(CITY),
        tier: CityTier::Municipality,
        successor: None,
        eligibility: vec![result],
    }
}

fn application() -> ApplyForMembershipRequest {
    let city = RecordName::new("cities", RecordId(Uuid::from_u128(8))).to_string();
    ApplyForMembershipRequest { city, motivation: text("The same sea"), ..Default::default() }
}

/// A membership, built up by decisions.
#[derive(Debug, Default)]
struct Run {
    state: Option<Membership>,
    version: u64,
}

impl Run {
    fn take(&mut self, decision: Decision<Change>) -> Refused<()> {
        for emitted in decision? {
            self.version += 1;
            let stamp = Stamp {
                version: self.version,
                at: on(0).now,
                actor: caller(CITY).actor(None),
                party: emitted.party,
                level: AssuranceLevel::Host,
            };
            self.state = Some(Membership::fold(self.state.take(), &emitted.change, &stamp).unwrap());
        }
        Ok(())
    }

    fn at(&self) -> &Membership {
        self.state.as_ref().unwrap()
    }

    fn apply(&mut self) -> Refused<()> {
        self.take(apply(self.state.as_ref(), &application(), &facts(CriterionOutcome::Met), &caller(CITY)))
    }

    fn member() -> Self {
        let mut run = Self::default();
        run.apply().unwrap();
        run.take(approve(run.at(), &Default::default(), &caller(SECRETARIAT), on(1))).unwrap();
        run
    }

    fn to_resource(&self, to: TenantId) -> proto::Membership {
        let name = RecordName::new(Membership::COLLECTION, RecordId(Uuid::from_u128(9)));
        self.at().to_resource(&name, "head", &caller(to))
    }
}

#[test]
fn nw_2_an_application_that_does_not_meet_a_criterion_is_refused_with_the_value() {
    let ask = |outcome| apply(None, &application(), &facts(outcome), &caller(CITY));
    let refusal = ask(CriterionOutcome::NotMet).unwrap_err();
    assert_eq!((refusal.rule, refusal.missing[0].subject.as_str()), ("NW-2", "size"));
    assert_eq!(refusal.missing[0].description, "population = 5");
    for outcome in [CriterionOutcome::Met, CriterionOutcome::Unknown] {
        assert_eq!(ask(outcome).unwrap().len(), 1, "an unknown value never refuses an application");
    }
}

#[test]
fn nw_3_a_city_applies_for_itself_once_at_a_time() {
    let facts = facts(CriterionOutcome::Met);
    assert_eq!(apply(None, &application(), &facts, &caller(STRANGER)).unwrap_err().rule, "NW-3");
    let not_joined = ApplicationFacts { city: None, ..facts };
    assert_eq!(apply(None, &application(), &not_joined, &caller(CITY)).unwrap_err().rule, "NW-3");
    let mut run = Run::default();
    run.apply().unwrap();
    assert_eq!(run.apply().unwrap_err().rule, "NW-3");
    run.take(decline(
        run.at(),
        &DeclineMembershipRequest { reason: text("Full"), ..Default::default() },
        &caller(CITY),
    ))
    .unwrap();
    run.apply().unwrap();
    assert_eq!(run.at().state(), S::Applied);
    assert!(run.at().resource.reason.is_empty(), "the reason belonged to the previous application");
}

#[test]
fn ct_2_ct_11_parts_of_cities_and_cities_that_are_no_more_are_no_members() {
    let ask = |facts: ApplicationFacts| apply(None, &application(), &facts, &caller(CITY)).unwrap_err();
    let met = facts(CriterionOutcome::Met);
    assert_eq!(ask(ApplicationFacts { tier: CityTier::SubMunicipal, ..met.clone() }).rule, "CT-2");
    let heir = RecordId(Uuid::from_u128(5));
    let refusal = ask(ApplicationFacts { successor: Some(heir), ..met });
    assert_eq!((refusal.rule, refusal.missing[0].description.clone()), ("CT-11", format!("cities/{heir}")));
}

#[test]
fn nw_3_who_turns_down_suspends_or_puts_out_says_why() {
    let mut applied = Run::default();
    applied.apply().unwrap();
    let member = Run::member();
    for refusal in [
        decline(applied.at(), &Default::default(), &caller(SECRETARIAT)).unwrap_err(),
        suspend(member.at(), &Default::default(), &caller(SECRETARIAT)).unwrap_err(),
        expel(member.at(), &Default::default(), &caller(SECRETARIAT), on(2)).unwrap_err(),
    ] {
        assert_eq!((refusal.rule, refusal.missing[0].subject.as_str()), ("NW-3", "reason"));
    }
}

#[test]
fn nw_3_a_member_leaves_by_its_own_decision_when_its_notice_is_over() {
    let mut run = Run::member();
    assert_eq!(leave(run.at(), 6, &caller(SECRETARIAT), on(2)).unwrap_err().rule, "NW-3");
    run.take(leave(run.at(), 6, &caller(CITY), on(2))).unwrap();
    assert_eq!(run.at().state(), S::NoticeGiven);
    let due = run.at().due().unwrap();
    assert_eq!(due.to_rfc3339(), "2026-07-04T12:00:00+00:00", "the day must be over everywhere");
    let decision = Ok(run.at().on_due(due));
    run.take(decision).unwrap();
    assert_eq!((run.at().state(), run.at().due()), (S::Left, None));

    let mut at_once = Run::member();
    at_once.take(leave(at_once.at(), 0, &caller(CITY), on(2))).unwrap();
    assert_eq!(at_once.at().state(), S::Left);
    let mut withdrawn = Run::default();
    withdrawn.apply().unwrap();
    withdrawn.take(leave(withdrawn.at(), 6, &caller(CITY), on(2))).unwrap();
    assert_eq!(withdrawn.at().state(), S::Left, "an application is withdrawn without notice");
    assert!(!withdrawn.at().audience().public, "a withdrawn application never becomes public");
}

#[test]
fn pl_1_everyone_sees_members_and_the_parties_alone_what_they_told_each_other() {
    let mut run = Run::default();
    run.apply().unwrap();
    assert_eq!(run.at().relation(&caller(STRANGER)), Relation::Stranger);
    let mut run = Run::member();
    assert_eq!(run.at().relation(&caller(STRANGER)), Relation::Public);
    run.take(suspend(
        run.at(),
        &SuspendMembershipRequest { reason: text("Dues"), ..Default::default() },
        &caller(CITY),
    ))
    .unwrap();
    let (party, public) = (run.to_resource(CITY), run.to_resource(STRANGER));
    assert_eq!((party.motivation.len(), party.eligibility.len(), party.reason.len()), (1, 1, 1));
    assert_eq!((public.motivation.len(), public.eligibility.len(), public.reason.len()), (0, 0, 0));
    assert_eq!((public.state(), public.city.clone()), (S::Suspended, party.city));
    // A former member applies again.
    let mut again = Run::member();
    again.take(leave(again.at(), 0, &caller(CITY), on(2))).unwrap();
    again.apply().unwrap();
    assert_eq!((again.to_resource(SECRETARIAT).state(), again.to_resource(STRANGER).state()), (S::Applied, S::Left));
    for change in [Change::Applied(Default::default()), Change::Declined(Default::default())] {
        assert_eq!(Membership::disclosed(&change), Disclosed::Hidden);
    }
    let expelled = proto::MembershipExpelled { reason: text("Why"), ..Default::default() };
    let Disclosed::Part(Change::Expelled(part)) = Membership::disclosed(&expelled.into()) else { panic!("a part") };
    assert!(part.reason.is_empty());
}

#[derive(Clone, Debug)]
enum Ask {
    Apply,
    Approve,
    Decline,
    Suspend,
    Reinstate,
    Leave(i32),
    Expel,
    Time,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(Ask::Apply),
        Just(Ask::Approve),
        Just(Ask::Decline),
        Just(Ask::Suspend),
        Just(Ask::Reinstate),
        (0..3).prop_map(Ask::Leave),
        Just(Ask::Expel),
        Just(Ask::Time),
    ]
}

/// Returns whether a state may follow another (NW-3).
fn may_follow(before: Option<S>, after: S) -> bool {
    match before {
        None => after == S::Applied,
        Some(S::Applied) => matches!(after, S::Active | S::Declined | S::Left),
        Some(S::Active) => matches!(after, S::Suspended | S::NoticeGiven | S::Left | S::Expelled),
        Some(S::Suspended) => matches!(after, S::Active | S::NoticeGiven | S::Left | S::Expelled),
        Some(S::NoticeGiven) => matches!(after, S::Left | S::Expelled),
        Some(S::Declined | S::Left) => after == S::Applied,
        Some(S::Expelled) => after == S::Active,
        _ => false,
    }
}

proptest! {
    #[test]
    fn nw_3_whatever_is_asked_states_follow_each_other_and_a_refusal_changes_nothing(
        asked in proptest::collection::vec(ask(), 1..40),
    ) {
        let mut run = Run::default();
        for (day, ask) in asked.into_iter().enumerate() {
            let before = run.state.clone();
            let now = on(u32::try_from(day).unwrap());
            let reason = text("Because");
            let decision = match (&before, &ask) {
                (_, Ask::Apply) => {
                    apply(before.as_ref(), &application(), &facts(CriterionOutcome::Unknown), &caller(CITY))
                }
                (None, _) => continue,
                (Some(m), Ask::Approve) => approve(m, &Default::default(), &caller(SECRETARIAT), now),
                (Some(m), Ask::Decline) => {
                    decline(m, &DeclineMembershipRequest { reason, ..Default::default() }, &caller(SECRETARIAT))
                }
                (Some(m), Ask::Suspend) => {
                    suspend(m, &SuspendMembershipRequest { reason, ..Default::default() }, &caller(SECRETARIAT))
                }
                (Some(m), Ask::Reinstate) => reinstate(m, &Default::default(), &caller(SECRETARIAT)),
                (Some(m), Ask::Leave(months)) => leave(m, *months, &caller(CITY), now),
                (Some(m), Ask::Expel) => {
                    expel(m, &ExpelMembershipRequest { reason, ..Default::default() }, &caller(SECRETARIAT), now)
                }
                (Some(m), Ask::Time) => Ok(m.due().map(|due| m.on_due(due)).unwrap_or_default()),
            };
            match run.take(decision) {
                Err(refusal) => {
                    prop_assert_eq!(&run.state, &before);
                    prop_assert_eq!(refusal.rule, "NW-3");
                    prop_assert!(!refusal.help.is_empty());
                }
                Ok(()) if run.state == before => prop_assert!(matches!(ask, Ask::Time)),
                Ok(()) => {
                    let (was, is) = (before.as_ref().map(Membership::state), run.at().state());
                    prop_assert!(may_follow(was, is), "{was:?} to {is:?}");
                    prop_assert!(before.is_none_or(|before| !before.public || run.at().public), "the audience shrank");
                    let stored = postcard::to_stdvec(run.at()).unwrap();
                    prop_assert_eq!(&postcard::from_bytes::<Membership>(&stored).unwrap(), run.at());
                }
            }
        }
    }
}
