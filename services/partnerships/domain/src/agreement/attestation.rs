//! Steps that a city attests for a partner outside the platform, and the partner's answers once it has joined
//! (AG-13).

use super::{
    Agreement, Change, Facts, Life, Which,
    rules::{RECORDS, at_level, fitting, in_state, party_as},
    sides::{Signature, Vote},
};
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Emitted, FoldError, Moment, Refusal, Refused, attachment, council_vote,
    record::emit, text, time,
};
use hansa_proto::{
    partnerships::{
        AgreementSignature, AgreementState, AgreementStep, AttestStepRequest, AttestationConfirmed,
        AttestationDisputed, AttestationState, ConfirmAttestationRequest, DisputeAttestationRequest, StepAttested,
    },
    types::LocalizedText,
};

/// A step of the preparation, taken by the side itself or attested by the other.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Dialogue,
    Rationale,
    Plan,
    Vote(Vote),
    Signature(Signature),
}

/// Attests the next step of a partner that is not on the platform. The attestation has the effect of the step itself.
///
/// # Errors
/// Refused under AG-13 if the partner has joined, or if document or source is missing; otherwise under the rule of
/// the step.
pub fn attest_step(
    state: &Agreement,
    command: &AttestStepRequest,
    caller: &Caller,
    facts: &Facts,
    at: Moment,
) -> Decision<Change> {
    let own = party_as(state, caller, RECORDS)?;
    fitting(state, facts)?;
    let other = own.other();
    absent(state, facts, other)?;
    shown(command)?;
    let mut change = StepAttested {
        city: state.sides[other].name(),
        step: command.step,
        document: command.document.clone(),
        source: command.source.clone(),
        ..StepAttested::default()
    };
    let attested = |change: StepAttested| at_level(change, AssuranceLevel::Attested);
    let then = |change: StepAttested, next: Change| {
        let mut out = at_level(change, AssuranceLevel::Attested);
        out.push(Emitted::at_level(next, None, AssuranceLevel::Attested));
        Ok(out)
    };
    change.revision = match command.step() {
        AgreementStep::Rationale | AgreementStep::Plan | AgreementStep::Revitalization | AgreementStep::Renewal => {
            command.revision
        }
        _ => 0,
    };
    match command.step() {
        AgreementStep::Dialogue => dialogue(state, other)?,
        AgreementStep::Rationale => {
            state.rationale_open(command.revision)?;
            not_taken(state, other, state.sides[other].rationale.is_some())?;
        }
        AgreementStep::Plan => {
            state.plan_open(command.revision)?;
            not_taken(state, other, state.sides[other].plan.is_some())?;
        }
        AgreementStep::CouncilVote => {
            change.vote = Some(council_vote::check("vote", command.vote.as_ref(), at)?);
            state.vote_open(other)?;
        }
        AgreementStep::Signature => {
            change.signature = Some(signature(command, at)?);
            state.signature_open(other)?;
            return Ok(state.and_into_force(change.into(), AssuranceLevel::Attested, at));
        }
        AgreementStep::Revitalization => {
            let next = state.revitalized_by(other, command.revision, at)?;
            return then(change, next.into());
        }
        AgreementStep::Renewal => {
            let next = state.renewed_by(other, command.revision, at)?;
            return then(change, next.into());
        }
        AgreementStep::Unspecified | AgreementStep::Import => {
            return Err(Refusal::field("step", "is not a step that can be attested"));
        }
    }
    Ok(attested(change))
}

fn absent(state: &Agreement, facts: &Facts, other: Which) -> Refused<()> {
    if state.sides[other].tenant.is_none() && facts.cities[other].tenant.is_none() {
        return Ok(());
    }
    Err(Refusal::rule("AG-13", "COUNTERPART_JOINED", "A city that is on the platform must take its own steps")
        .missing(state.sides[other].name(), "has joined the platform and must take the step itself")
        .help("Ask the city to take over its side and to take the step."))
}

fn shown(command: &AttestStepRequest) -> Refused<()> {
    let mut refusal =
        Refusal::rule("AG-13", "ATTESTATION_UNPROVEN", "An attested step needs a document and its source");
    if command.document.is_none() {
        refusal = refusal.missing("document", "the document that proves the step");
    }
    if command.source.is_empty() {
        refusal = refusal.missing("source", "the source of the document");
    }
    if !refusal.missing.is_empty() {
        return Err(refusal.help("Name both document and source."));
    }
    attachment::required("document", command.document.as_ref())?;
    text::name("source", &command.source)
}

fn dialogue(state: &Agreement, other: Which) -> Refused<()> {
    in_state(state, "AG-3", &[AgreementState::Proposed], "Opening the dialogue")?;
    if other == Which::Partner {
        return Ok(());
    }
    Err(Refusal::rule("AG-4", "OWN_PROPOSAL", "The initiator cannot open the dialogue on its own proposal")
        .missing("partner", "must open the dialogue itself")
        .help("Open the dialogue yourself, as the partner."))
}

fn not_taken(state: &Agreement, other: Which, taken: bool) -> Refused<()> {
    if !taken {
        return Ok(());
    }
    Err(Refusal::out_of_order("AG-3", "STEP_ALREADY_TAKEN", "This step has already been taken")
        .missing(state.sides[other].name(), "has already taken this step")
        .help("Continue with the next step."))
}

fn signature(command: &AttestStepRequest, at: Moment) -> Refused<AgreementSignature> {
    time::past_day("signature_date", command.signature_date.as_ref(), at)?;
    text::optional("place", &command.place)?;
    Ok(AgreementSignature {
        signature_date: command.signature_date,
        place: command.place.clone(),
        in_ceremony: command.in_ceremony,
        scan: command.document.clone(),
        delegation: None,
        step: None,
    })
}

/// Confirms a step that was attested for the caller's side.
///
/// # Errors
/// Refused under AG-13 if there is no unanswered attestation of the step.
pub fn confirm_attestation(
    state: &Agreement,
    command: &ConfirmAttestationRequest,
    caller: &Caller,
) -> Decision<Change> {
    let which = party_as(state, caller, RECORDS)?;
    state.unanswered(which, command.step())?;
    emit(AttestationConfirmed { city: state.sides[which].name(), step: command.step })
}

/// Disputes a step that was attested for the caller's side. Until the agreement is in force, this revokes the step.
///
/// # Errors
/// Refused under AG-13 if there is no unanswered attestation of the step.
pub fn dispute_attestation(
    state: &Agreement,
    command: &DisputeAttestationRequest,
    caller: &Caller,
) -> Decision<Change> {
    let which = party_as(state, caller, RECORDS)?;
    text::required("reason", &command.reason)?;
    state.unanswered(which, command.step())?;
    let city = state.sides[which].name();
    emit(AttestationDisputed { city, step: command.step, reason: command.reason.clone() })
}

impl Agreement {
    fn attestation(&self, which: Which, step: AgreementStep) -> Option<usize> {
        // Both cities may answer an import. The later answer applies.
        self.attestations.iter().rposition(|attested| {
            attested.step == step
                && attested.side.is_none_or(|side| side == which)
                && (attested.state == AttestationState::Attested || attested.side.is_none())
        })
    }

    fn unanswered(&self, which: Which, step: AgreementStep) -> Refused<()> {
        if self.attestation(which, step).is_some() {
            return Ok(());
        }
        Err(Refusal::rule(
            "AG-13",
            "ATTESTATION_NOT_PENDING",
            "No attestation of this step waits for this city's answer",
        )
        .missing("step", "was not attested for this city, or has been answered")
        .help("Read the agreement to see its attestations."))
    }

    pub(super) fn answer(
        &mut self,
        city: &str,
        step: AgreementStep,
        answer: AttestationState,
        reason: &[LocalizedText],
    ) -> Result<(), FoldError> {
        let which = Which::ALL.into_iter().find(|&which| self.sides[which].name() == city);
        let which = which.ok_or_else(|| FoldError("the city is not a party".into()))?;
        let at = self.attestation(which, step).ok_or_else(|| FoldError("there is no such attestation".into()))?;
        self.attestations[at].state = answer;
        self.attestations[at].reason = reason.to_vec();
        if answer == AttestationState::Disputed && matches!(self.life, Life::Preparing) {
            self.fall(which, step);
        }
        Ok(())
    }

    /// Revokes a disputed step, and the steps of both sides that depend on it.
    fn fall(&mut self, which: Which, step: AgreementStep) {
        match step {
            AgreementStep::Dialogue => {
                (self.dialogue, self.rationale, self.plan) = (None, None, None);
                self.sides.each(|side| (side.rationale, side.plan) = (None, None));
            }
            AgreementStep::Rationale => {
                self.sides[which].rationale = None;
                self.sides.each(|side| side.plan = None);
            }
            AgreementStep::Plan => self.sides[which].plan = None,
            AgreementStep::CouncilVote => self.sides[which].vote = None,
            AgreementStep::Signature => {
                self.sides[which].signature = None;
                return self.forget_fallen();
            }
            _ => return,
        }
        if step != AgreementStep::CouncilVote {
            self.sides.each(|side| side.vote = None);
        }
        self.sides.each(|side| side.signature = None);
        self.forget_fallen();
    }

    /// Removes the attestations of revoked steps, except disputed ones.
    pub(super) fn forget_fallen(&mut self) {
        let (dialogue, sides) = (self.dialogue.is_some(), &self.sides);
        self.attestations.retain(|attested| {
            let Some(which) = attested.side else { return true };
            let stands = match attested.step {
                AgreementStep::Dialogue => dialogue,
                AgreementStep::Rationale => sides[which].rationale.is_some(),
                AgreementStep::Plan => sides[which].plan.is_some(),
                AgreementStep::CouncilVote => sides[which].vote.is_some(),
                AgreementStep::Signature => sides[which].signature.is_some(),
                _ => true,
            };
            stands || attested.state == AttestationState::Disputed
        });
    }
}
