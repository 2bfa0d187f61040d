//! Steps of a counterpart that is not on the platform, and what it says of them once it has joined (AG-13).

use super::{
    Agreement, Change, Facts, Life, Which,
    planning::vote,
    rules::{RECORDS, at_level, document, fitting, in_state, party_as, past_day},
    sides::{Signature, Vote},
};
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Happened, Misfit, Moment, Refusal, Refused, record::happened, text,
};
use hansa_proto::{
    partnerships::{
        AgreementSignature, AgreementState, AgreementStep, AttestStepRequest, AttestationConfirmed,
        AttestationDisputed, AttestationState, ConfirmAttestationRequest, DisputeAttestationRequest, StepAttested,
    },
    types::LocalizedText,
};

/// A step of the preparation, whoever records it.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Dialogue,
    Rationale,
    Plan,
    Vote(Vote),
    Signature(Signature),
}

/// Attests the next step of a counterpart that is not on the platform. It has the effect of the step itself.
///
/// # Errors
/// AG-13 where the counterpart has joined, or without document or source; otherwise what the step itself is refused for.
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
        out.push(Happened::at_level(next, None, AssuranceLevel::Attested));
        Ok(out)
    };
    change.revision = match command.step() {
        AgreementStep::Rationale | AgreementStep::Plan | AgreementStep::Revitalisation | AgreementStep::Renewal => {
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
            change.vote = Some(vote(command.vote(), command.date.as_ref(), &command.document, at)?);
            state.vote_open(other)?;
        }
        AgreementStep::Signature => {
            change.signature = Some(signature(command, at)?);
            state.signature_open(other)?;
            return Ok(state.and_into_force(change.into(), AssuranceLevel::Attested, at));
        }
        AgreementStep::Revitalisation => {
            let next = state.revitalised_by(other, command.revision, at)?;
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
    Err(Refusal::rule("AG-13", "A city that is on the platform takes its own steps")
        .missing(state.sides[other].name(), "has joined and must act itself")
        .help("Ask the city to take over its side and to take the step."))
}

fn shown(command: &AttestStepRequest) -> Refused<()> {
    let mut refusal = Refusal::rule("AG-13", "An attested step is shown by a document with its source");
    if command.document.is_empty() {
        refusal = refusal.missing("document", "the document that shows the step");
    }
    if command.source.is_empty() {
        refusal = refusal.missing("source", "where the document comes from");
    }
    if !refusal.missing.is_empty() {
        return Err(refusal.help("Name both."));
    }
    document("document", &command.document)?;
    text::name("source", &command.source)
}

fn dialogue(state: &Agreement, other: Which) -> Refused<()> {
    in_state(state, "AG-3", &[AgreementState::Proposed], "Opening the dialogue")?;
    if other == Which::Partner {
        return Ok(());
    }
    Err(Refusal::rule("AG-4", "The initiator does not take up its own proposal")
        .missing("partner", "must act itself")
        .help("Open the dialogue yourself."))
}

fn not_taken(state: &Agreement, other: Which, taken: bool) -> Refused<()> {
    if !taken {
        return Ok(());
    }
    Err(Refusal::out_of_order("AG-3", "The step is taken")
        .missing(state.sides[other].name(), "has taken this step")
        .help("Go on with the next step."))
}

fn signature(command: &AttestStepRequest, at: Moment) -> Refused<AgreementSignature> {
    past_day("date", command.date.as_ref(), at)?;
    text::optional("place", &command.place)?;
    Ok(AgreementSignature {
        date: command.date,
        place: command.place.clone(),
        in_ceremony: command.in_ceremony,
        scan: command.document.clone(),
        delegation: None,
        step: None,
    })
}

/// Confirms a step that was attested in the caller's name.
///
/// # Errors
/// AG-13 where there is none that is unanswered.
pub fn confirm_attestation(
    state: &Agreement,
    command: &ConfirmAttestationRequest,
    caller: &Caller,
) -> Decision<Change> {
    let which = party_as(state, caller, RECORDS)?;
    state.unanswered(which, command.step())?;
    happened(AttestationConfirmed { city: state.sides[which].name(), step: command.step })
}

/// Disputes a step that was attested in the caller's name. Before the agreement is in force the step falls.
///
/// # Errors
/// AG-13 where there is none that is unanswered.
pub fn dispute_attestation(
    state: &Agreement,
    command: &DisputeAttestationRequest,
    caller: &Caller,
) -> Decision<Change> {
    let which = party_as(state, caller, RECORDS)?;
    text::required("reason", &command.reason)?;
    state.unanswered(which, command.step())?;
    let city = state.sides[which].name();
    happened(AttestationDisputed { city, step: command.step, reason: command.reason.clone() })
}

impl Agreement {
    fn attestation(&self, which: Which, step: AgreementStep) -> Option<usize> {
        // The second city may answer an import that the first has answered: the later word stands.
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
        Err(Refusal::rule("AG-13", "There is no such attestation that waits for this city")
            .missing("step", "was not attested in this city's name, or is answered")
            .help("Read the agreement's attestations."))
    }

    pub(super) fn answer(
        &mut self,
        city: &str,
        step: AgreementStep,
        answer: AttestationState,
        reason: &[LocalizedText],
    ) -> Result<(), Misfit> {
        let which = Which::ALL.into_iter().find(|&which| self.sides[which].name() == city);
        let which = which.ok_or_else(|| Misfit("the city is no party".into()))?;
        let at = self.attestation(which, step).ok_or_else(|| Misfit("there is no such attestation".into()))?;
        self.attestations[at].state = answer;
        self.attestations[at].reason = reason.to_vec();
        if answer == AttestationState::Disputed && matches!(self.life, Life::Preparing) {
            self.fall(which, step);
        }
        Ok(())
    }

    /// A disputed step falls, and what was built on it, on both sides.
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

    /// Attestations of steps that no longer stand are no longer shown, but for what was disputed.
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
