//! Attestations by one city, and the answers of the other city (AG-13).

use super::Side;
use crate::acts::{Mind, Order};
use hansa_kernel::Role;
use hansa_proto::partnerships::{self as p, AgreementState, AgreementStep};

impl Mind<'_> {
    /// Returns an attested step that the side can confirm or dispute, sometimes one that the side has answered already.
    pub(super) fn unanswered(&mut self, a: &p::Agreement, side: &Side<'_>) -> Option<AgreementStep> {
        let again = self.errs && self.chance(1, 4);
        let open = |one: &&p::Attestation| {
            let own = [side.party.city.as_str(), ""].contains(&one.city.as_str());
            own && (again || one.state() == p::AttestationState::Attested)
        };
        let open: Vec<AgreementStep> = a.attestations.iter().filter(open).map(p::Attestation::step).collect();
        if open.is_empty() || self.chance(2, 3) { None } else { Some(*self.dice.pick(&open)) }
    }

    pub(super) fn answer(&mut self, a: &p::Agreement, side: &Side<'_>, step: AgreementStep) -> Order {
        let by = side.as_(Role::CouncilClerk);
        if self.chance(1, 2) {
            return order!(
                self,
                a,
                by,
                Attestation.ConfirmAttestation,
                ConfirmAttestationRequest { step: step as i32 }
            );
        }
        order!(
            self,
            a,
            by,
            Attestation.DisputeAttestation,
            DisputeAttestationRequest { step: step as i32, reason: self.text() }
        )
    }

    /// Attests the next step of a city that has not joined.
    pub(super) fn attest(&mut self, a: &p::Agreement, side: &Side<'_>, votes: bool) -> Order {
        let other = side.other;
        let mut wording = 0;
        let step = if a.state() == AgreementState::Proposed {
            AgreementStep::Dialogue
        } else if let Some(put) = a.rationale.as_ref().filter(|_| other.rationale_step.is_none()) {
            wording = put.revision;
            AgreementStep::Rationale
        } else if let Some(put) = a.plan.as_ref().filter(|_| other.plan_step.is_none()) {
            wording = put.revision;
            AgreementStep::Plan
        } else if votes && other.council_vote.is_none() {
            AgreementStep::CouncilVote
        } else if let Some(put) = &a.renewal {
            wording = put.revision;
            AgreementStep::Renewal
        } else if let Some(put) = &a.revitalization {
            wording = put.revision;
            AgreementStep::Revitalization
        } else if a.rationale.is_some() && a.plan.is_some() && other.signature.is_none() {
            AgreementStep::Signature
        } else {
            return self.prepare(a, std::slice::from_ref(side));
        };
        let by = side.as_(Role::IrOfficer);
        order!(
            self,
            a,
            by,
            Attestation.AttestStep,
            AttestStepRequest {
                step: step as i32,
                document: Some("doc:shown".into()),
                source: "a newspaper".to_owned(),
                signature_date: self.days(0),
                vote: Some(self.vote(hansa_proto::types::VoteResult::Approved, 0)),
                place: if step == AgreementStep::Signature { self.text() } else { Vec::new() },
                revision: wording,
            }
        )
    }
}
