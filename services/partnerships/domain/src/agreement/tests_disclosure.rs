//! The public part of a history must match the public resource (PL-1).
#![allow(clippy::unwrap_used)]

use super::{
    Agreement, Change,
    testing::{A, B, World, ceremony, importing, mayor, name, officer, refused, steward, visit, words, ymd},
};
use hansa_kernel::{Disclosed, IntoResource as _, Record, Stamp};
use hansa_proto::types::AgreementKind;
use hansa_proto::{
    ChangeSet, Texts,
    partnerships::{self as p, Sector},
};

fn public(history: &[(Change, Stamp)]) -> Vec<Change> {
    let parts = history.iter().filter_map(|(change, _)| match Agreement::disclosed(change) {
        Disclosed::Part(part) => Some(part),
        Disclosed::Hidden => None,
        Disclosed::Whole => panic!("signatures would show all of {}", change.type_name()),
    });
    parts.collect()
}

fn names(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.type_name().rsplit('.').next().unwrap_or_default()).collect()
}

fn ending() -> p::EndAgreementRequest {
    p::EndAgreementRequest { reason: words("War"), ..Default::default() }
}

/// A long history that contains every private step.
fn world() -> World {
    let mut world = World::active(AgreementKind::Twinning, 12, false);
    world.record(&officer(A), visit(ymd(2024, 1, 5))).unwrap();
    world.suspend(A).unwrap();
    world.lift(A).unwrap();
    let decision = super::end(world.agreement(), &ending(), &mayor(A), world.at());
    world.act(&mayor(A), decision).unwrap();
    world
}

#[test]
fn pl_1_everyone_sees_parties_kind_sectors_and_dates_of_a_history() {
    let world = world();
    let changes = public(&world.history);
    assert_eq!(
        names(&changes),
        [
            "AgreementProposed",
            "AgreementSigned",
            "AgreementSigned",
            "AgreementEnteredIntoForce",
            "AgreementSuspended",
            "SuspensionLifted",
            "AgreementEnded",
        ]
    );
    let Change::Proposed(proposed) = &changes[0] else { panic!("it begins as a proposal") };
    let shown = world.agreement().public_resource(&name(1), "");
    assert_eq!(proposed.initiator.as_ref().unwrap().city, shown.initiator.unwrap().city);
    assert_eq!(proposed.terms.as_ref().unwrap().kind(), AgreementKind::Twinning);
    assert_eq!(proposed.terms.as_ref().unwrap().sectors, [Sector::Culture as i32]);
    assert!(proposed.requirements.is_none() && proposed.settings.is_none());
    let Change::Signed(signed) = &changes[1] else { panic!("it is signed") };
    assert_eq!(signed.signature.as_ref().unwrap().signature_date, Some(ymd(2024, 1, 10)));
    assert!(!signed.signature.as_ref().unwrap().in_ceremony && ceremony().in_ceremony);
    let Change::Ended(ended) = &changes[6] else { panic!("it is ended") };
    assert_eq!((ended.city.as_str(), ended.last_date), ("", Some(ymd(2024, 1, 10))));
}

#[test]
fn pl_1_no_text_of_any_change_is_public() {
    let mut worlds = vec![world(), World::import(importing(None, None).terms, Some(ymd(1990, 1, 1)))];
    let mut quiet = World::active(AgreementKind::Twinning, 12, true);
    quiet.pass(1_200);
    worlds.push(quiet);
    for world in worlds {
        for mut change in public(&world.history) {
            let mut texts = 0;
            change.visit_texts(&mut |_| texts += 1);
            assert_eq!(texts, 0, "{}", change.type_name());
        }
    }
}

#[test]
fn pl_1_what_time_does_is_public_as_it_is() {
    let mut world = World::active(AgreementKind::Twinning, 12, true);
    let began = world.history.len();
    world.pass(1_200);
    let emitted: Vec<Change> = world.history[began..].iter().map(|(change, _)| change.clone()).collect();
    assert!(names(&emitted).contains(&"AgreementBecameDormant") && names(&emitted).contains(&"AgreementRenewed"));
    assert_eq!(public(&world.history[began..]), emitted);
}

// AG-13.
#[test]
fn ag_13_a_tie_is_brought_in_once() {
    let world = World::import(None, None);
    let command = importing(None, None);
    let by = super::testing::steward();
    let again = super::import_again(world.state.as_ref(), &command, &by, &world.facts, world.at());
    assert_eq!(again, Ok(vec![]));
    assert_eq!(super::outcome(false), hansa_proto::types::RowOutcome::Unchanged);
    let anew = super::import_new(world.state.as_ref(), &command, &by, &world.facts, world.at());
    assert_eq!(anew.unwrap_err().class, hansa_kernel::ReasonClass::AlreadyExists);
    let first = super::import_again(None, &command, &by, &world.facts, world.at());
    assert_eq!(super::outcome(!first.unwrap().is_empty()), hansa_proto::types::RowOutcome::Created);
    assert!(super::import_again(world.state.as_ref(), &command, &mayor(A), &world.facts, world.at()).is_err());
}

#[test]
fn pl_1_activities_are_for_those_who_keep_the_agreement() {
    let mut world = World::active(AgreementKind::Twinning, 12, true);
    world.record(&officer(A), visit(ymd(2024, 1, 5))).unwrap();
    let agreement = world.agreement();
    assert_eq!(agreement.activities_for(&officer(A), name(1).id, 0, 10).unwrap().len(), 1);
    let stranger = mayor(super::testing::STRANGER);
    assert!(agreement.activities_for(&stranger, name(1).id, 0, 10).is_err());
}

#[test]
fn pl_1_the_public_sees_kind_parties_sectors_and_dates_once_active() {
    let world = World::propose(AgreementKind::Memorandum, 0, false);
    assert!(!world.agreement().audience().public);
    let mut world = World::active(AgreementKind::Memorandum, 0, false);
    assert!(world.agreement().audience().public);
    let public = world.agreement().public_resource(&name(1), "e");
    assert_eq!(public, world.agreement().to_resource(&name(1), "e", &mayor(super::testing::STRANGER)));
    assert!(world.agreement().to_resource(&name(1), "e", &mayor(B)).plan.is_some());
    assert!(public.plan.is_none() && public.initiator.as_ref().unwrap().signature.is_none());
    assert_eq!(public.terms.as_ref().unwrap().sectors, [Sector::Culture as i32]);
    world.act(&mayor(B), super::end(world.agreement(), &ending(), &mayor(B), world.at())).unwrap();
    assert!(world.agreement().audience().public, "an audience must not shrink");
}

// AG-13, PL-8.
#[test]
fn pl_8_a_tie_is_deleted_by_its_steward_until_a_party_takes_it_over() {
    let command = p::RetractAgreementRequest { reason: words("Brought in twice"), ..Default::default() };
    let mut world = World::import(None, None);
    assert_eq!(super::delete(world.agreement(), &command, &steward()).unwrap().reason, command.reason);
    refused(super::delete(world.agreement(), &p::RetractAgreementRequest::default(), &steward()), "PL-8");
    refused(super::delete(world.agreement(), &command, &mayor(A)), "AG-13");
    world.claim(A).unwrap();
    refused(super::delete(world.agreement(), &command, &steward()), "AG-13");
    refused(super::delete(world.agreement(), &command, &mayor(A)), "AG-13");
    let concluded = World::active(AgreementKind::Cooperation, 24, false);
    refused(super::delete(concluded.agreement(), &command, &mayor(A)), "AG-13");
}
