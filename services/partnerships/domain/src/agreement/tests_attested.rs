//! Tests of attested steps and of imported agreements (AG-13, CT-2).
#![allow(clippy::unwrap_used)]

use super::{
    AgreementState as S, Change, attest_step, dispute_attestation, end, import, propose, propose_plan, revise_terms,
    testing::*,
};
use hansa_kernel::{AssuranceLevel, Caller, ReasonClass, Record, Relation};
use hansa_proto::partnerships::{self as p, AgreementStep as Step};
use hansa_proto::types::{AgreementKind as K, VoteResult};

fn without_partner() -> World {
    let mut world = World::new();
    world.facts.cities.partner.tenant = None;
    let decision = propose(&proposal(terms(K::Cooperation, 12, false)), &mayor(A), &world.facts, None, world.at());
    world.act(&mayor(A), decision).unwrap();
    world
}

#[test]
fn ag_13_steps_of_an_absent_counterpart_are_attested_with_document_and_source() {
    let mut world = without_partner();
    let bare = p::AttestStepRequest { step: Step::Dialogue as i32, ..Default::default() };
    refused(attest_step(world.agreement(), &bare, &officer(A), &world.facts, world.at()), "AG-13");
    out_of_order(world.attest(Step::Signature, 0), "AG-3");
    out_of_order(world.attest(Step::Rationale, 0), "AG-3");
    world.attest(Step::Dialogue, 0).unwrap();
    let command = p::ProposeRationaleRequest { rationale: words("Why"), ..Default::default() };
    world.act(&officer(A), super::propose_rationale(world.agreement(), &command, &officer(A))).unwrap();
    world.attest(Step::Rationale, 1).unwrap();
    let command = p::ProposePlanRequest { plan: words("What"), ..Default::default() };
    world.act(&officer(A), propose_plan(world.agreement(), &command, &officer(A))).unwrap();
    world.attest(Step::Plan, 2).unwrap();
    out_of_order(world.attest(Step::Plan, 2), "AG-3");
    world.attest(Step::CouncilVote, 0).unwrap();
    world.vote(A, VoteResult::Approved).unwrap();
    assert_eq!(world.stands(), S::Approved);
    world.facts.cities.partner.tenant = Some(B);
    refused(world.attest(Step::Signature, 0), "AG-13");
    world.claim(B).unwrap();
    assert_eq!(world.claim(B), Ok(0), "the side is already taken over");
    let dispute = p::DisputeAttestationRequest { step: Step::Plan as i32, reason: words("No"), ..Default::default() };
    refused(dispute_attestation(world.agreement(), &dispute, &mayor(A)), "AG-13");
    let confirm = p::ConfirmAttestationRequest { step: Step::Rationale as i32, ..Default::default() };
    world.act(&mayor(B), super::confirm_attestation(world.agreement(), &confirm, &mayor(B))).unwrap();
    refused(super::confirm_attestation(world.agreement(), &confirm, &mayor(B)), "AG-13");
    world.act(&mayor(B), dispute_attestation(world.agreement(), &dispute, &mayor(B))).unwrap();
    assert_eq!(world.stands(), S::InDialogue, "the plan and its votes are revoked");
    let states: Vec<_> = world.agreement().resource(&name(1), "").attestations.iter().map(|a| a.state()).collect();
    use p::AttestationState as At;
    assert_eq!(states, [At::Attested, At::Confirmed, At::Disputed]);
}

#[test]
fn ag_13_an_attested_signature_brings_it_into_force_and_a_dispute_shows() {
    let mut world = without_partner();
    world.facts.settings.cooperation.council_vote = false;
    world.attest(Step::Dialogue, 0).unwrap();
    let command = p::ReviseTermsRequest { terms: Some(terms(K::Cooperation, 12, false)), ..Default::default() };
    let decision = revise_terms(world.agreement(), &command, &mayor(A), &world.facts, world.at());
    world.act(&mayor(A), decision).unwrap();
    let command = p::ProposeRationaleRequest { rationale: words("Why"), ..Default::default() };
    world.act(&officer(A), super::propose_rationale(world.agreement(), &command, &officer(A))).unwrap();
    world.attest(Step::Rationale, 2).unwrap();
    let command = p::ProposePlanRequest { plan: words("What"), ..Default::default() };
    world.act(&officer(A), propose_plan(world.agreement(), &command, &officer(A))).unwrap();
    world.attest(Step::Plan, 3).unwrap();
    world.sign(&mayor(A), &Default::default()).unwrap();
    assert_eq!(world.attest(Step::Signature, 0), Ok(2));
    assert_eq!(world.history.last().unwrap().1.level, AssuranceLevel::Attested);
    world.facts.cities.partner.tenant = Some(B);
    world.claim(B).unwrap();
    let dispute =
        p::DisputeAttestationRequest { step: Step::Signature as i32, reason: words("No"), ..Default::default() };
    world.act(&mayor(B), dispute_attestation(world.agreement(), &dispute, &mayor(B))).unwrap();
    assert_eq!(world.stands(), S::Active);
}

#[test]
fn ag_13_a_disputed_step_falls_with_what_was_built_on_it() {
    for (step, after) in [
        (Step::Dialogue, S::Proposed),
        (Step::Rationale, S::InDialogue),
        (Step::Plan, S::InDialogue),
        (Step::CouncilVote, S::Planned),
    ] {
        let mut world = without_partner();
        world.plan_alone();
        world.attest(Step::CouncilVote, 0).unwrap();
        world.vote(A, VoteResult::Approved).unwrap();
        world.sign(&mayor(A), &Default::default()).unwrap();
        world.facts.cities.partner.tenant = Some(B);
        world.claim(B).unwrap();
        world.dispute(step).unwrap();
        assert_eq!(world.stands(), after, "{step:?}");
        assert!(world.agreement().sides.all(|side| side.signature.is_none()));
        // A side that its city has taken over cannot be claimed again, even if the facts change later.
        world.facts.cities.partner.tenant = None;
        refused(world.attest(step, 0), "AG-13");
    }
}

#[test]
fn ag_13_an_import_is_the_steward_s_until_the_first_party_takes_it_over() {
    let mut world = World::import(None, None);
    assert_eq!((world.stands(), world.agreement().kind()), (S::Active, K::Unspecified));
    assert_eq!(world.agreement().owner(), NODE);
    assert_eq!(world.history[0].1.level, AssuranceLevel::Attested);
    refused(world.record(&steward(), visit(ymd(2024, 1, 1))), "AG-13");
    let sourced = p::Activity { source: "https://example.org".into(), ..visit(ymd(2024, 1, 1)) };
    world.record(&steward(), sourced.clone()).unwrap();
    refused(end(world.agreement(), &ending(), &steward(), world.at()), "AG-13");
    assert_eq!(world.claim(STRANGER).unwrap_err().class, ReasonClass::NotFound);
    world.claim(B).unwrap();
    assert_eq!(world.agreement().owner(), B);
    assert_eq!(world.record(&steward(), sourced).unwrap_err().class, ReasonClass::NotFound);
    world.claim(A).unwrap();
    assert_eq!(world.agreement().owner(), B);
    assert_eq!(world.agreement().audience().tenants, [A, B, NODE]);
    assert_eq!(world.agreement().relation(&mayor(A)), Relation::Party);
    let confirm = p::ConfirmAttestationRequest { step: Step::Import as i32, ..Default::default() };
    world.act(&mayor(A), super::confirm_attestation(world.agreement(), &confirm, &mayor(A))).unwrap();
}

// CT-2.
#[test]
fn ct_2_an_import_with_a_part_of_a_city_is_refused() {
    let mut world = World::new();
    world.facts.cities.partner.tier = super::Tier::SubMunicipal;
    refused(import(&importing(None, None), &steward(), &world.facts, world.at()), "CT-2");
}

#[test]
fn ag_13_an_import_has_a_source_and_is_in_force() {
    let world = World::new();
    let by = |command: &p::AgreementRow, by: &Caller| import(command, by, &world.facts, world.at());
    assert!(by(&importing(None, None), &mayor(A)).is_err());
    refused(by(&p::AgreementRow { origin: None, ..importing(None, None) }, &steward()), "AG-13");
    refused(by(&importing(None, Some(ymd(2025, 0, 0))), &steward()), "AG-13");
    refused(by(&importing(None, Some(ymd(2024, 1, 11))), &steward()), "AG-13");
    let term = |year, renews| {
        let terms = p::AgreementTerms { start_date: Some(ymd(year, 3, 1)), ..terms(K::Cooperation, 12, renews) };
        by(&importing(Some(terms), None), &steward())
    };
    refused(term(2020, false), "AG-13");
    refused(term(2024, false), "AG-13");
    let Change::Imported(change) = &term(2020, true).unwrap()[0].change else { panic!() };
    assert_eq!(change.terms.as_ref().unwrap().start_date, Some(ymd(2023, 3, 1)), "the term that includes today");
}
