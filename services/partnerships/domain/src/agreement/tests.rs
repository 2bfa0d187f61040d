//! Tests of each rule and of its refusals.
#![allow(clippy::unwrap_used)]

use super::{
    AgreementState as S, Change, CityFacts, Tier, Which, confirm_plan, confirm_rationale, decline, import_again,
    inherit, open_dialogue, propose, propose_plan, revise_terms, supersede, testing::*, withdraw,
};
use hansa_kernel::{AssuranceLevel, Decision, ReasonClass, Record, Relation, Role};
use hansa_proto::partnerships as p;
use hansa_proto::types::{AgreementKind as K, DateRange, VoteResult};

fn proposing(terms: p::AgreementTerms) -> Decision<Change> {
    let world = World::new();
    propose(&proposal(terms), &mayor(A), &world.facts, None, world.at())
}

#[test]
fn ag_1_terms_fit_their_kind() {
    refused(proposing(terms(K::Unspecified, 0, false)), "AG-1");
    refused(proposing(terms(K::Cooperation, 0, false)), "AG-1");
    refused(proposing(p::AgreementTerms { sectors: vec![], ..terms(K::Cooperation, 12, false) }), "AG-1");
    refused(proposing(terms(K::Twinning, 0, true)), "AG-1");
    assert!(proposing(terms(K::Twinning, 0, false)).is_ok());
    assert!(proposing(terms(K::Memorandum, 0, false)).is_ok());
    assert!(proposing(terms(K::Memorandum, 1_201, false)).is_err());
    assert!(proposing(p::AgreementTerms { sectors: vec![1, 1], ..terms(K::Memorandum, 0, false) }).is_err());
    assert!(proposing(p::AgreementTerms { title: vec![], ..terms(K::Memorandum, 0, false) }).is_err());
}

#[test]
fn ag_1_a_twinning_is_signed_in_a_ceremony_after_both_votes() {
    let mut world = World::propose(K::Twinning, 0, false);
    world.plan();
    assert_eq!(world.stands(), S::Planned);
    let refusal = refused(world.sign(&mayor(A), &ceremony()), "AG-3");
    assert_eq!(refusal.missing.len(), 2, "both councils must be named: {refusal:?}");
    world.vote(A, VoteResult::Approved).unwrap();
    out_of_order(world.vote(A, VoteResult::Approved), "AG-3");
    world.vote(B, VoteResult::Approved).unwrap();
    assert_eq!(world.stands(), S::Approved);
    refused(world.sign(&mayor(A), &p::SignAgreementRequest::default()), "AG-1");
    refused(world.sign(&mayor(A), &p::SignAgreementRequest { in_ceremony: true, ..Default::default() }), "AG-1");
    assert_eq!(world.sign(&mayor(A), &ceremony()), Ok(1));
    assert_eq!(world.stands(), S::Signed);
    assert_eq!(world.sign(&mayor(B), &ceremony()), Ok(2));
    assert_eq!(world.stands(), S::Active);
}

#[test]
fn ag_1_a_country_or_city_changes_what_its_kind_asks_for() {
    let mut world = World::new();
    world.facts.cities.partner.council_vote = Some(vec![K::Memorandum]);
    world.facts.settings.memorandum.ceremony = true;
    let decision = propose(&proposal(terms(K::Memorandum, 0, false)), &mayor(A), &world.facts, None, world.at());
    world.act(&mayor(A), decision).unwrap();
    world.plan();
    assert_eq!(world.stands(), S::Planned);
    world.vote(B, VoteResult::Approved).unwrap();
    assert_eq!(world.stands(), S::Approved);
    refused(world.sign(&mayor(A), &p::SignAgreementRequest::default()), "AG-1");
}

#[test]
fn ag_3_a_memorandum_needs_no_vote_and_goes_from_its_plan_to_the_signatures() {
    let mut world = World::propose(K::Memorandum, 0, false);
    out_of_order(world.sign(&mayor(A), &Default::default()), "AG-3");
    out_of_order(world.record(&mayor(A), visit(ymd(2024, 1, 1))), "AG-3");
    world.plan();
    assert_eq!(world.stands(), S::Approved);
    world.sign(&mayor(B), &Default::default()).unwrap();
    out_of_order(world.sign(&mayor(B), &Default::default()), "AG-3");
    world.sign(&mayor(A), &Default::default()).unwrap();
    assert_eq!(world.stands(), S::Active);
}

#[test]
fn ag_3_the_plan_comes_after_the_rationale_and_both_confirm_one_wording() {
    let mut world = World::propose(K::Memorandum, 0, false);
    let plan = p::ProposePlanRequest { plan: words("What"), ..Default::default() };
    out_of_order(propose_plan(world.agreement(), &plan, &mayor(A)), "AG-3");
    world.open();
    out_of_order(open_dialogue(world.agreement(), &Default::default(), &mayor(B)), "AG-3");
    out_of_order(propose_plan(world.agreement(), &plan, &mayor(A)), "AG-3");
    out_of_order(confirm_rationale(world.agreement(), &Default::default(), &mayor(A)), "AG-3");
    let why = p::ProposeRationaleRequest { rationale: words("Why"), ..Default::default() };
    for by in [A, B] {
        let decision = super::propose_rationale(world.agreement(), &why, &mayor(by));
        world.act(&mayor(by), decision).unwrap();
    }
    let old = p::ConfirmRationaleRequest { revision: 1, ..Default::default() };
    refused(confirm_rationale(world.agreement(), &old, &mayor(A)), "AG-3");
    let new = p::ConfirmRationaleRequest { revision: 2, ..Default::default() };
    assert_eq!(confirm_rationale(world.agreement(), &new, &mayor(B)), Ok(vec![]), "putting it forward confirms it");
    world.act(&mayor(A), confirm_rationale(world.agreement(), &new, &mayor(A))).unwrap();
    world.act(&mayor(A), propose_plan(world.agreement(), &plan, &mayor(A))).unwrap();
    refused(confirm_plan(world.agreement(), &Default::default(), &mayor(B)), "AG-3");
}

#[test]
fn ag_3_revised_terms_reset_confirmations_and_votes() {
    let mut world = World::propose(K::Cooperation, 12, false);
    world.plan();
    world.vote(A, VoteResult::Approved).unwrap();
    let command = p::ReviseTermsRequest { terms: Some(terms(K::Cooperation, 24, true)), ..Default::default() };
    let decision = revise_terms(world.agreement(), &command, &officer(B), &world.facts, world.at());
    world.act(&officer(B), decision).unwrap();
    assert_eq!(world.stands(), S::InDialogue);
    assert!(world.agreement().sides.all(|side| side.vote.is_none() && side.rationale.is_none()));
    let revision = world.agreement().revision;
    for by in [A, B] {
        let command = p::ConfirmRationaleRequest { revision, ..Default::default() };
        world.act(&mayor(by), confirm_rationale(world.agreement(), &command, &mayor(by))).unwrap();
    }
    for by in [A, B] {
        let command = p::ConfirmPlanRequest { revision, ..Default::default() };
        world.act(&mayor(by), confirm_plan(world.agreement(), &command, &mayor(by))).unwrap();
        world.vote(by, VoteResult::Approved).unwrap_or_default();
    }
    world.vote(A, VoteResult::Approved).unwrap();
    assert_eq!(world.stands(), S::Approved);
    out_of_order(revise_terms(world.agreement(), &command, &mayor(A), &world.facts, world.at()), "AG-3");
}

#[test]
fn ag_3_a_refusal_ends_a_proposal() {
    let world = World::propose(K::Memorandum, 0, false);
    refused(decline(world.agreement(), &Default::default(), &mayor(A)), "AG-4");
    refused(withdraw(world.agreement(), &Default::default(), &mayor(B)), "AG-4");
    let mut declined = World::propose(K::Memorandum, 0, false);
    declined.act(&mayor(B), decline(world.agreement(), &Default::default(), &mayor(B))).unwrap();
    assert_eq!(declined.stands(), S::Declined);
    out_of_order(open_dialogue(declined.agreement(), &Default::default(), &mayor(B)), "AG-3");
    let mut withdrawn = World::propose(K::Memorandum, 0, false);
    withdrawn.act(&mayor(A), withdraw(world.agreement(), &Default::default(), &mayor(A))).unwrap();
    assert_eq!(withdrawn.stands(), S::Withdrawn);
    let mut rejected = World::propose(K::Cooperation, 12, false);
    rejected.plan();
    rejected.vote(B, VoteResult::Rejected).unwrap();
    assert_eq!(rejected.stands(), S::Declined);
}

#[test]
fn ag_3_who_has_signed_neither_declines_nor_withdraws() {
    let mut world = World::propose(K::Memorandum, 0, false);
    world.plan();
    world.sign(&mayor(A), &Default::default()).unwrap();
    out_of_order(withdraw(world.agreement(), &Default::default(), &mayor(A)), "AG-3");
    let decision = decline(world.agreement(), &Default::default(), &mayor(B));
    world.act(&mayor(B), decision).unwrap();
    assert_eq!(world.stands(), S::Declined);
}

#[test]
fn ag_3_delegates_sign_within_their_dates_and_clerks_record_paper() {
    let mut world = World::propose(K::Memorandum, 0, false);
    world.plan();
    let delegate = caller(A, &[Role::Delegate]);
    refused(world.sign(&delegate, &Default::default()), "AG-3");
    let power = |end| p::SignAgreementRequest {
        delegation: Some(p::Delegation {
            document: Some("doc:power".into()),
            validity: Some(DateRange { first_date: Some(ymd(2024, 1, 1)), last_date: Some(end) }),
        }),
        ..Default::default()
    };
    refused(world.sign(&delegate, &power(ymd(2024, 1, 9))), "AG-3");
    refused(world.sign(&clerk(B), &Default::default()), "AG-3");
    world.sign(&delegate, &power(ymd(2024, 1, 10))).unwrap();
    let paper = p::SignAgreementRequest {
        paper_date: Some(ymd(2024, 1, 8)),
        scan: Some("doc:scan".into()),
        place: words("Porto"),
        ..Default::default()
    };
    assert!(world.sign(&mayor(B), &paper).is_err(), "only the clerk records a signature on paper");
    let future = p::SignAgreementRequest { paper_date: Some(ymd(2024, 2, 8)), ..paper.clone() };
    assert!(world.sign(&clerk(B), &future).is_err());
    let late = p::SignAgreementRequest { paper_date: Some(ymd(2024, 1, 11)), ..power(ymd(2024, 1, 10)) };
    let late = p::SignAgreementRequest { delegation: late.delegation, paper_date: late.paper_date, ..paper.clone() };
    refused(world.sign(&clerk(B), &late), "AG-3");
    world.sign(&clerk(B), &paper).unwrap();
    assert_eq!(world.history.last().unwrap().1.level, AssuranceLevel::Recorded);
    assert_eq!(world.agreement().resource(&name(1), "").signed_date, Some(ymd(2024, 1, 10)), "the later day");
}

#[test]
fn ag_3_a_stronger_agreement_takes_the_place_of_a_weaker_one() {
    let mut old = World::active(K::Memorandum, 0, false);
    let mut command = proposal(terms(K::Twinning, 0, false));
    command.superseded_agreement = name(1).to_string();
    let facts = facts();
    let at = old.at();
    assert_eq!(propose(&command, &mayor(A), &facts, None, at).unwrap_err().class, ReasonClass::NotFound);
    let weak = p::ProposeAgreementRequest { terms: Some(terms(K::Memorandum, 0, false)), ..command.clone() };
    refused(propose(&weak, &mayor(A), &facts, Some(old.agreement()), at), "AG-3");
    let proposed = World::propose(K::Memorandum, 0, false);
    refused(propose(&command, &mayor(A), &facts, Some(proposed.agreement()), at), "AG-3");
    let mut new = World::new();
    new.act(&mayor(A), propose(&command, &mayor(A), &facts, Some(old.agreement()), at)).unwrap();
    out_of_order(supersede(old.agreement(), &name(1), new.agreement(), &name(2), at), "AG-3");
    new.plan();
    new.vote(A, VoteResult::Approved).unwrap();
    new.vote(B, VoteResult::Approved).unwrap();
    new.sign(&mayor(A), &ceremony()).unwrap();
    new.sign(&mayor(B), &ceremony()).unwrap();
    let decision = supersede(old.agreement(), &name(1), new.agreement(), &name(2), at).unwrap();
    old.take(None, decision, at.now);
    assert_eq!(old.stands(), S::Superseded);
    assert_eq!(old.agreement().resource(&name(1), "").superseding_agreement, name(2).to_string());
    assert_eq!(supersede(old.agreement(), &name(1), new.agreement(), &name(2), at), Ok(vec![]));
}

#[test]
fn ag_4_each_acts_for_itself() {
    let world = World::new();
    let command = proposal(terms(K::Memorandum, 0, false));
    refused(propose(&command, &mayor(B), &world.facts, None, world.at()), "AG-4");
    let mut same = world.facts.clone();
    same.cities.partner.tenant = Some(A);
    refused(propose(&command, &mayor(A), &same, None, world.at()), "AG-4");
    let self_made = p::ProposeAgreementRequest { partner: command.initiator.clone(), ..command.clone() };
    refused(propose(&self_made, &mayor(A), &world.facts, None, world.at()), "AG-4");
    let world = World::propose(K::Memorandum, 0, false);
    refused(open_dialogue(world.agreement(), &Default::default(), &mayor(A)), "AG-4");
    for by in [mayor(STRANGER), steward(), caller(STRANGER, &[Role::Operator])] {
        assert_eq!(
            open_dialogue(world.agreement(), &Default::default(), &by).unwrap_err().class,
            ReasonClass::NotFound
        );
    }
    let observer = caller(B, &[Role::Observer]);
    assert_eq!(
        refused(open_dialogue(world.agreement(), &Default::default(), &observer), "PL-2").class,
        ReasonClass::NotPermitted
    );
}

#[test]
fn ct_2_ct_10_parts_of_cities_and_mere_names_are_no_parties() {
    let mut world = World::new();
    let command = proposal(terms(K::Memorandum, 0, false));
    world.facts.cities.partner.tier = Tier::SubMunicipal;
    refused(propose(&command, &mayor(A), &world.facts, None, world.at()), "CT-2");
    world.facts.settings.sub_municipal_parties = true;
    assert!(propose(&command, &mayor(A), &world.facts, None, world.at()).is_ok());
    world.facts.cities.partner.unregistered = true;
    refused(propose(&command, &mayor(A), &world.facts, None, world.at()), "CT-10");
}

// CT-11.
#[test]
fn ct_11_the_successor_of_a_city_takes_its_side_with_what_was_done() {
    let since = naive(2024, 6, 1);
    let heir =
        CityFacts { city: city(STRANGER), display_name: "Greater B".into(), tenant: None, ..facts().cities.partner };
    let mut world = World::active(K::Cooperation, 24, false);
    let follow = |world: &mut World, heir: &CityFacts| {
        let decision = inherit(world.agreement(), city(B), heir, since).unwrap();
        let many = decision.len();
        world.take(None, decision, world.now);
        many
    };
    assert_eq!(follow(&mut world, &heir), 1);
    let (side, tie) = (&world.agreement().sides.partner, world.tie.as_ref().unwrap());
    assert_eq!((side.city, side.display_name.as_str()), (city(STRANGER), "Greater B"));
    assert_eq!((tie.of(city(STRANGER)), tie.of(city(B))), (Some(Which::Partner), None));
    assert!(side.signature.is_some(), "a signature stays");
    assert_eq!(side.tenant, Some(B), "the previous city's tenant acts until the successor has joined");
    assert_eq!(follow(&mut world, &heir), 0, "once");

    world.facts.cities.partner = CityFacts { tenant: Some(STRANGER), ..heir.clone() };
    world.claim(STRANGER).unwrap();
    assert_eq!(world.agreement().side_of(STRANGER), Some(Which::Partner));
    assert_eq!(world.agreement().side_of(B), None);
    assert_eq!(world.agreement().relation(&mayor(B)), Relation::Party, "a former party can still see it");
    assert_eq!(world.refold().as_ref(), world.state.as_ref());

    let mut joined = World::active(K::Cooperation, 24, false);
    assert_eq!(follow(&mut joined, &CityFacts { tenant: Some(STRANGER), ..heir }), 1);
    assert_eq!(joined.agreement().side_of(STRANGER), Some(Which::Partner));
    let own = CityFacts { city: city(STRANGER), tenant: Some(STRANGER), ..facts().cities.initiator };
    let decision = inherit(joined.agreement(), city(A), &own, since).unwrap();
    joined.take(None, decision, joined.now);
    assert_eq!(joined.stands(), S::Ended, "a city cannot have an agreement with itself");
    assert!(inherit(joined.agreement(), city(A), &own, since).unwrap().is_empty(), "an ended one keeps its cities");
}

// CT-11, AG-13.
#[test]
fn ct_11_an_import_knows_a_tie_whose_city_was_succeeded() {
    let mut world = World::import(None, None);
    let heir = CityFacts { city: city(STRANGER), tenant: None, ..facts().cities.partner };
    let decision = inherit(world.agreement(), city(B), &heir, naive(2024, 6, 1)).unwrap();
    world.take(None, decision, world.now);
    let mut known = facts();
    known.cities.partner.successor = Some(city(STRANGER));
    let row = importing(None, None);
    assert!(import_again(world.state.as_ref(), &row, &steward(), &known, world.at()).unwrap().is_empty());
    assert!(import_again(world.state.as_ref(), &row, &steward(), &facts(), world.at()).is_err());
}

#[test]
fn ct_11_a_city_that_is_no_more_is_no_party_and_its_successor_is_named() {
    let mut world = World::new();
    world.facts.cities.partner.successor = Some(hansa_kernel::RecordId::from_source("test", "heir"));
    let refusal = propose(&proposal(terms(K::Memorandum, 0, false)), &mayor(A), &world.facts, None, world.at());
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.rule, "CT-11");
    let heir = hansa_kernel::RecordId::from_source("test", "heir");
    assert!(refusal.missing.iter().any(|missing| missing.subject == format!("cities/{heir}")));
}

#[test]
fn ag_3_what_takes_the_place_of_another_does_not_become_weaker() {
    let old = World::active(K::Memorandum, 0, false);
    let mut command = proposal(terms(K::Twinning, 0, false));
    command.superseded_agreement = name(1).to_string();
    let mut world = World::new();
    world.act(&mayor(A), propose(&command, &mayor(A), &facts(), Some(old.agreement()), old.at())).unwrap();
    let weaker = p::ReviseTermsRequest { terms: Some(terms(K::Memorandum, 0, false)), ..Default::default() };
    refused(revise_terms(world.agreement(), &weaker, &mayor(A), &world.facts, world.at()), "AG-3");
}
