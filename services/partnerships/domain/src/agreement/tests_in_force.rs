//! Tests of each rule for agreements in force or attested, and of its refusals.
#![allow(clippy::unwrap_used)]

use super::{
    AgreementState as S, Change, Which, confirm_renewal, confirm_revitalization, end, exportable, override_guidelines,
    propose, renew, revitalize, set_committee, state_guidelines, testing::*,
};
use hansa_kernel::{ReasonClass, Record};
use hansa_proto::types::AgreementKind as K;
use hansa_proto::{
    google::r#type::Date,
    partnerships::{self as p},
};

/// A visit that begins on 10 January 2024 and ends on this day.
fn until(last: Date) -> p::Activity {
    let visit = visit(ymd(2024, 1, 10));
    let dates = visit.dates.map(|dates| hansa_proto::types::DateRange { last_date: Some(last), ..dates });
    p::Activity { dates, ..visit }
}

#[test]
fn ag_5_ag_6_activities_outside_the_sectors_are_allowed_and_marked() {
    let mut world = World::active(K::Cooperation, 12, false);
    let sectors = vec![p::Sector::Culture as i32, p::Sector::Health as i32];
    world.record(&officer(A), p::Activity { sectors, ..visit(ymd(2024, 1, 10)) }).unwrap();
    let business = p::Activity { kind: p::ActivityKind::BusinessMission as i32, ..visit(ymd(2024, 1, 10)) };
    assert!(!world.agreement().resource(&name(1), "").economic_component);
    world.record(&mayor(B), business).unwrap();
    let resource = world.agreement().resource(&name(1), "");
    assert!(resource.economic_component && resource.activity_count == 2);
    let activities = world.agreement().activities(name(1).id, 0, 1);
    assert_eq!(activities[0].sectors_outside, [p::Sector::Health as i32]);
    assert!(activities[0].name.starts_with(name(1).as_str()));
    for bad in [
        p::Activity { kind: 0, ..visit(ymd(2024, 1, 10)) },
        visit(ymd(2024, 3, 1)),
        until(ymd(2023, 1, 1)),
        until(ymd(2030, 1, 1)),
    ] {
        refused(world.record(&officer(A), bad), "AG-6");
    }
    assert!(world.record(&officer(A), p::Activity { source: "x".into(), ..visit(ymd(2024, 1, 10)) }).is_err());
}

fn dormant() -> World {
    let mut world = World::active(K::Twinning, 0, false);
    let passed = world.pass(900);
    assert!(passed.iter().any(|change| matches!(change, Change::BecameDormant(_))));
    assert_eq!(world.stands(), S::Dormant);
    world
}

#[test]
fn ag_7_without_activity_it_becomes_dormant_and_both_revitalize_it() {
    let mut world = dormant();
    let today = hansa_kernel::time::date(world.at().today());
    world.record(&officer(A), visit(today)).unwrap();
    assert_eq!(world.stands(), S::Dormant, "an activity does not end dormancy");
    let command = p::ProposeRevitalizationRequest {
        action: words("A festival"),
        sectors: vec![p::Sector::Youth as i32],
        with_residents: true,
        ..Default::default()
    };
    let without = p::ProposeRevitalizationRequest { with_residents: false, ..command.clone() };
    refused(revitalize(world.agreement(), &without, &mayor(A)), "AG-7");
    let without = p::ProposeRevitalizationRequest { sectors: vec![], ..command.clone() };
    refused(revitalize(world.agreement(), &without, &mayor(A)), "AG-7");
    let confirm = |revision| p::ConfirmRevitalizationRequest { revision, ..Default::default() };
    out_of_order(confirm_revitalization(world.agreement(), &confirm(0), &mayor(B), world.at()), "AG-7");
    world.act(&mayor(A), revitalize(world.agreement(), &command, &mayor(A))).unwrap();
    let revision = world.agreement().revision;
    refused(confirm_revitalization(world.agreement(), &confirm(revision), &mayor(A), world.at()), "AG-7");
    refused(confirm_revitalization(world.agreement(), &confirm(0), &mayor(B), world.at()), "AG-7");
    let decision = confirm_revitalization(world.agreement(), &confirm(revision), &mayor(B), world.at());
    world.act(&mayor(B), decision).unwrap();
    assert_eq!(world.stands(), S::Active);
    assert_eq!(world.agreement().terms.sectors, [p::Sector::Youth]);
}

#[test]
fn ag_7_dormancy_counts_from_the_last_activity() {
    let mut world = World::active(K::Twinning, 0, false);
    world.pass(400);
    let today = hansa_kernel::time::date(world.at().today());
    world.record(&officer(A), visit(today)).unwrap();
    world.pass(600);
    assert_eq!(world.stands(), S::Active);
    world.pass(200);
    assert_eq!(world.stands(), S::Dormant);
}

fn anniversaries(changes: &[Change]) -> Vec<i32> {
    let years = changes.iter().filter_map(|change| match change {
        Change::AnniversaryApproached(change) => Some(change.anniversary?.years),
        _ => None,
    });
    years.collect()
}

#[test]
fn ag_7_anniversaries_come_up_a_year_before_once_each() {
    let mut world = World::active(K::Twinning, 0, false);
    assert_eq!(anniversaries(&world.pass(0)), [1], "the first is announced a year ahead, so immediately");
    assert_eq!(anniversaries(&world.pass(365 * 4 + 2)), [5]);
    assert_eq!(anniversaries(&world.pass(365 * 26)), [10, 15, 20, 25, 30]);
    assert_eq!(anniversaries(&world.pass(0)), [] as [i32; 0]);
}

#[test]
fn ag_7_ag_13_an_import_has_no_anniversary_without_a_date_and_none_of_the_past() {
    let mut unknown = World::import(None, None);
    assert_eq!(anniversaries(&unknown.pass(365 * 12)), [] as [i32; 0]);
    let mut day = World::import(None, Some(ymd(1974, 6, 1)));
    assert_eq!(anniversaries(&day.pass(0)), [50]);
    let mut year = World::import(None, Some(ymd(1975, 0, 0)));
    assert_eq!(anniversaries(&year.pass(0)), [50], "if only the year is known, 1 January counts");
    assert_eq!(year.agreement().resource(&name(1), "").anniversary.unwrap().anniversary_date, Some(ymd(2025, 0, 0)));
    assert_eq!(anniversaries(&year.pass(365 * 5)), [55]);
}

fn renewals(changes: &[Change]) -> Vec<(Date, Date)> {
    let all = changes.iter().filter_map(|change| match change {
        Change::Renewed(change) => Some((change.term?.first_date?, change.term?.last_date?)),
        _ => None,
    });
    all.collect()
}

#[test]
fn ag_8_terms_renew_by_themselves_one_after_the_other_after_years_away() {
    let mut world = World::active(K::Cooperation, 12, true);
    let periods = renewals(&world.pass(365 * 3 + 20));
    let years: Vec<_> = (2025..2028).map(|year| (ymd(year, 1, 10), ymd(year + 1, 1, 9))).collect();
    assert_eq!(periods, years);
    assert_eq!(world.agreement().periods.len(), 4);
}

#[test]
fn ag_8_short_months_do_not_add_up() {
    let mut world = World::new();
    let start = p::AgreementTerms { start_date: Some(ymd(2024, 1, 31)), ..terms(K::Memorandum, 1, true) };
    let decision = propose(&proposal(start), &mayor(A), &world.facts, None, world.at());
    world.act(&mayor(A), decision).unwrap();
    world.plan();
    world.sign(&mayor(A), &Default::default()).unwrap();
    world.sign(&mayor(B), &Default::default()).unwrap();
    assert_eq!(world.stands(), S::Signed, "not before the start date");
    let periods = renewals(&world.pass(130));
    assert_eq!(periods[0], (ymd(2024, 2, 29), ymd(2024, 3, 30)));
    assert_eq!(periods[1], (ymd(2024, 3, 31), ymd(2024, 4, 29)));
}

#[test]
fn ag_8_a_term_ends_when_its_last_day_is_over_everywhere_and_both_renew_it() {
    let mut world = World::active(K::Cooperation, 1, false);
    world.pass(30);
    assert_eq!(world.stands(), S::Active, "the last day is not over everywhere yet");
    world.pass(1);
    assert_eq!(world.stands(), S::Active);
    world.pass(1);
    assert_eq!(world.stands(), S::Expired);
    world.pass(10);
    let command = p::ProposeRenewalRequest { term_months: 12, ..Default::default() };
    refused(renew(world.agreement(), &Default::default(), &mayor(A)), "AG-1");
    world.act(&mayor(A), renew(world.agreement(), &command, &mayor(A))).unwrap();
    let confirm = p::ConfirmRenewalRequest { revision: world.agreement().revision, ..Default::default() };
    refused(confirm_renewal(world.agreement(), &confirm, &mayor(A), world.at()), "AG-8");
    let decision = confirm_renewal(world.agreement(), &confirm, &mayor(B), world.at());
    world.act(&mayor(B), decision).unwrap();
    assert_eq!(world.stands(), S::Active);
    let periods = world.agreement().resource(&name(1), "").periods;
    assert_eq!(periods[0].dates.unwrap().last_date, Some(ymd(2024, 2, 9)));
    assert_eq!(periods[1].dates.unwrap().first_date, Some(ymd(2024, 2, 21)), "the gap must stay visible");
}

#[test]
fn ag_8_a_renewal_in_time_follows_the_present_term() {
    let mut world = World::active(K::Cooperation, 12, false);
    let command = p::ProposeRenewalRequest { term_months: 24, ..Default::default() };
    world.act(&mayor(B), renew(world.agreement(), &command, &mayor(B))).unwrap();
    let confirm = p::ConfirmRenewalRequest { revision: world.agreement().revision, ..Default::default() };
    let decision = confirm_renewal(world.agreement(), &confirm, &mayor(A), world.at());
    world.act(&mayor(A), decision).unwrap();
    assert_eq!(world.agreement().periods[1].start, Some(naive(2025, 1, 10)));
    assert!(renewals(&world.pass(400)).is_empty());
    assert!(world.agreement().in_force());
    let mut ended = World::active(K::Cooperation, 12, false);
    ended.act(&mayor(B), renew(ended.agreement(), &command, &mayor(B))).unwrap();
    let decision = confirm_renewal(ended.agreement(), &confirm, &mayor(A), ended.at());
    ended.act(&mayor(A), decision).unwrap();
    ended.act(&mayor(A), end(ended.agreement(), &ending(), &mayor(A), ended.at())).unwrap();
    let periods = ended.agreement().resource(&name(1), "").periods;
    assert_eq!(periods.len(), 1, "a term that has not begun is dropped");
    assert_eq!(periods[0].dates.unwrap().last_date, Some(ymd(2024, 1, 10)));
    let endless = World::active(K::Twinning, 0, false);
    refused(renew(endless.agreement(), &command, &mayor(A)), "AG-8");
}

#[test]
fn ag_9_a_twinning_has_committees_with_one_chair() {
    let member = |chair| p::CommitteeMember { person_name: words("Ana"), chair };
    let command = |members| p::SetCommitteeRequest {
        committee: Some(p::Committee { members, support: words("A room") }),
        ..Default::default()
    };
    let mut world = World::active(K::Twinning, 0, false);
    refused(set_committee(world.agreement(), &command(vec![member(false)]), &mayor(A)), "AG-9");
    refused(set_committee(world.agreement(), &command(vec![member(true), member(true)]), &mayor(A)), "AG-9");
    let good = command(vec![member(true), member(false)]);
    world.act(&mayor(A), set_committee(world.agreement(), &good, &mayor(A))).unwrap();
    let resource = world.agreement().resource(&name(1), "");
    assert!(resource.initiator.unwrap().committee.is_some() && resource.partner.unwrap().committee.is_none());
    let other = World::active(K::Memorandum, 0, false);
    refused(set_committee(other.agreement(), &good, &mayor(A)), "AG-9");
    let early = World::propose(K::Twinning, 0, false);
    out_of_order(set_committee(early.agreement(), &good, &mayor(A)), "AG-9");
}

#[test]
fn ag_10_an_ending_has_a_reason_and_is_one_side_s_alone() {
    let mut world = World::active(K::Cooperation, 12, false);
    refused(end(world.agreement(), &Default::default(), &mayor(B), world.at()), "AG-10");
    assert_eq!(
        refused(end(world.agreement(), &ending(), &officer(B), world.at()), "PL-2").class,
        ReasonClass::NotPermitted
    );
    world.act(&mayor(B), end(world.agreement(), &ending(), &mayor(B), world.at())).unwrap();
    assert_eq!(world.stands(), S::Ended);
    out_of_order(end(world.agreement(), &ending(), &mayor(A), world.at()), "AG-10");
    let resource = world.agreement().resource(&name(1), "");
    assert_eq!(resource.periods[0].dates.unwrap().last_date, Some(ymd(2024, 1, 10)));
    assert_eq!(world.agreement().due(), None);
    let proposed = World::propose(K::Cooperation, 12, false);
    out_of_order(end(proposed.agreement(), &ending(), &mayor(A), proposed.at()), "AG-10");
}

#[test]
fn ag_10_a_decision_over_many_reaches_ties_with_one_country() {
    let world = World::active(K::Cooperation, 12, false);
    assert!(world.agreement().reached_by(A, "PT") && world.agreement().reached_by(B, "FR"));
    assert!(!world.agreement().reached_by(A, "FR") && !world.agreement().reached_by(STRANGER, "PT"));
    assert!(!World::propose(K::Cooperation, 12, false).agreement().reached_by(A, "PT"));
    let many = p::EndAgreementsRequest { country_code: "PT".into(), reason: words("War"), ..Default::default() };
    let command = super::end_each(&many, &name(1));
    assert!(end(world.agreement(), &command, &mayor(A), world.at()).is_ok());
    let many = p::SuspendAgreementsRequest { reason: words("War"), ..Default::default() };
    let command = super::suspend_each(&many, &name(1));
    assert!(super::suspend(world.agreement(), &command, &mayor(A), world.at()).is_ok());
}

fn with_a_regime() -> World {
    let mut world = World::new();
    world.facts.cities.partner.democratic = Some(false);
    let decision = propose(&proposal(terms(K::Memorandum, 0, false)), &mayor(A), &world.facts, None, world.at());
    world.act(&mayor(A), decision).unwrap();
    world.plan();
    world
}

#[test]
fn ag_11_guidelines_come_before_the_signature() {
    let mut world = with_a_regime();
    assert_eq!(world.sign(&mayor(B), &Default::default()), Ok(1), "the other side needs no guidelines");
    refused(world.sign(&mayor(A), &Default::default()), "AG-11");
    assert!(world.tie.as_ref().unwrap().ends.initiator.lacks_guidelines());
    let with = |guidelines| p::StateGuidelinesRequest { guidelines: Some(guidelines), ..Default::default() };
    for bad in [
        p::Guidelines { bind_all_actors: false, ..guidelines() },
        p::Guidelines { grounds: vec![], ..guidelines() },
        p::Guidelines { influence_mitigation: vec![], ..guidelines() },
        p::Guidelines { endorsement_mitigation: vec![], ..guidelines() },
        p::Guidelines { document: None, ..guidelines() },
    ] {
        refused(state_guidelines(world.agreement(), &with(bad), &officer(A)), "AG-11");
    }
    let decision = state_guidelines(world.agreement(), &with(guidelines()), &officer(A));
    world.act(&officer(A), decision).unwrap();
    assert!(!world.tie.as_ref().unwrap().ends.initiator.lacks_guidelines());
    assert_eq!(world.sign(&mayor(A), &Default::default()), Ok(2));
    let over = p::OverrideGuidelinesRequest { reason: words("Urgent"), ..Default::default() };
    refused(override_guidelines(world.agreement(), &over, &mayor(A), &world.facts), "AG-11");
}

// AG-1, AG-3 and AG-11.
#[test]
fn a_signature_is_refused_with_every_violation() {
    let mut world = World::new();
    world.facts.cities.partner.democratic = Some(false);
    let decision = propose(&proposal(terms(K::Memorandum, 0, false)), &mayor(A), &world.facts, None, world.at());
    world.act(&mayor(A), decision).unwrap();
    let command = p::SignAgreementRequest { in_ceremony: true, ..Default::default() };
    let refusal = world.sign(&mayor(A), &command).unwrap_err();
    let mut found: Vec<_> = refusal.violations().map(|violation| (violation.rule, violation.reason)).collect();
    found.dedup();
    assert_eq!(found, [("AG-3", "NOT_IN_STATE"), ("AG-1", "CEREMONY_MISSING"), ("AG-11", "GUIDELINES_REQUIRED")]);
}

#[test]
fn ag_11_the_mayor_alone_goes_on_with_a_recorded_reason() {
    let mut world = with_a_regime();
    let over = p::OverrideGuidelinesRequest { reason: words("Urgent"), ..Default::default() };
    assert!(override_guidelines(world.agreement(), &over, &officer(A), &world.facts).is_err());
    assert!(override_guidelines(world.agreement(), &Default::default(), &mayor(A), &world.facts).is_err());
    refused(override_guidelines(world.agreement(), &over, &mayor(B), &world.facts), "AG-11");
    let decision = override_guidelines(world.agreement(), &over, &mayor(A), &world.facts);
    world.act(&mayor(A), decision).unwrap();
    world.sign(&mayor(A), &Default::default()).unwrap();
    assert!(world.agreement().resource(&name(1), "").initiator.unwrap().guidelines_override.is_some());
    assert!(world.tie.as_ref().unwrap().ends.initiator.guidelines_overridden);
}

#[test]
fn ag_11_an_unknown_regime_is_a_caution_and_no_refusal() {
    let mut world = World::new();
    world.facts.cities.partner.democratic = None;
    assert_eq!(world.facts.guidelines_need(Which::Initiator), p::GuidelinesNeed::Unknown);
    let decision = propose(&proposal(terms(K::Memorandum, 0, false)), &mayor(A), &world.facts, None, world.at());
    world.act(&mayor(A), decision).unwrap();
    world.plan();
    assert!(world.sign(&mayor(A), &Default::default()).is_ok());
}

#[test]
fn ag_12_only_a_signed_agreement_is_exported() {
    let world = World::propose(K::Memorandum, 0, false);
    refused(exportable(world.agreement(), &mayor(A)), "AG-12");
    let world = World::active(K::Memorandum, 0, false);
    assert!(exportable(world.agreement(), &mayor(A)).is_ok());
    assert_eq!(exportable(world.agreement(), &mayor(STRANGER)).unwrap_err().class, ReasonClass::NotFound);
}

#[test]
fn ag_14_who_suspends_lifts_and_the_term_runs_on() {
    let mut world = World::active(K::Cooperation, 12, true);
    refused(world.lift(A), "AG-14");
    let bare = p::SuspendAgreementRequest::default();
    refused(super::suspend(world.agreement(), &bare, &mayor(A), world.at()), "AG-14");
    world.suspend(A).unwrap();
    refused(world.suspend(A), "AG-14");
    refused(world.lift(B), "AG-14");
    world.suspend(B).unwrap();
    world.lift(A).unwrap();
    assert_eq!(world.stands(), S::Suspended, "the other side's suspension remains");
    refused(world.record(&officer(A), visit(ymd(2024, 1, 10))), "AG-14");
    assert!(world.record(&officer(A), visit(ymd(2024, 1, 9))).is_ok(), "the activity began before the suspension");
    let command = p::ProposeRenewalRequest { term_months: 12, ..Default::default() };
    refused(renew(world.agreement(), &command, &mayor(A)), "AG-14");
    let passed = world.pass(1_000);
    assert_eq!(passed.len(), 1, "no reminder, no dormancy, no renewal: {passed:?}");
    assert_eq!(world.stands(), S::Expired);
    let proposed = World::propose(K::Memorandum, 0, false);
    out_of_order(super::suspend(proposed.agreement(), &suspending(), &mayor(A), proposed.at()), "AG-14");
}

fn suspending() -> p::SuspendAgreementRequest {
    p::SuspendAgreementRequest { reason: words("War"), ..Default::default() }
}

#[test]
fn ag_14_dormancy_and_anniversaries_begin_anew_when_lifted() {
    let mut world = World::active(K::Twinning, 0, false);
    world.pass(0);
    world.suspend(A).unwrap();
    assert!(world.pass(365 * 6).is_empty());
    world.lift(A).unwrap();
    let passed = world.pass(0);
    assert!(passed.is_empty(), "the fifth anniversary has passed: {passed:?}");
    world.pass(700);
    assert_eq!(world.stands(), S::Active);
    world.pass(50);
    assert_eq!(world.stands(), S::Dormant);
}
