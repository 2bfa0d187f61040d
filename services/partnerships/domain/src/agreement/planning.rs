//! From the dialogue to the approval: rationale, plan and votes (AG-3), and guidelines (AG-11).

use super::{
    Agreement, Change, Facts, Which,
    rules::{self, OFFICE, at_level, fitting, in_state, party_as},
    terms::each_once,
};
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Moment, Refusal, Refused, Role, attachment, council_vote, record::emit, text,
};
use hansa_proto::{
    partnerships::{
        AgreementState, ConfirmPlanRequest, ConfirmRationaleRequest, CouncilVoted, Guidelines, GuidelinesGround,
        GuidelinesNeed, GuidelinesOverridden, GuidelinesStated, JointText, OverrideGuidelinesRequest, PlanConfirmed,
        PlanProposed, ProposePlanRequest, ProposeRationaleRequest, RationaleConfirmed, RationaleProposed,
        RecordCouncilVoteRequest, StateGuidelinesRequest,
    },
    types::{Attachment, LocalizedText},
};

/// Puts a rationale forward and confirms it for the caller's side.
///
/// # Errors
/// Refused under AG-3 if the agreement is not in dialogue.
pub fn propose_rationale(state: &Agreement, command: &ProposeRationaleRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    let rationale = words(state, which, "rationale", &command.rationale, command.document.as_ref())?;
    in_state(state, "AG-3", &[AgreementState::InDialogue], "Putting a rationale forward")?;
    emit(RationaleProposed { rationale: Some(rationale) })
}

/// Confirms the current rationale.
///
/// # Errors
/// Refused under AG-3 if the agreement is not in dialogue, or if the revision is not the current one.
pub fn confirm_rationale(state: &Agreement, command: &ConfirmRationaleRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    if state.sides[which].rationale.is_some() && state.sound_wording(command.revision, state.rationale.as_ref()) {
        return Ok(Vec::new());
    }
    state.rationale_open(command.revision)?;
    emit(RationaleConfirmed { city: state.sides[which].name(), revision: command.revision })
}

/// Puts a plan forward and confirms it for the caller's side.
///
/// # Errors
/// Refused under AG-3 if the agreement is not in dialogue, or if a side has not confirmed the rationale.
pub fn propose_plan(state: &Agreement, command: &ProposePlanRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    let plan = words(state, which, "plan", &command.plan, command.document.as_ref())?;
    in_state(state, "AG-3", &[AgreementState::InDialogue], "Putting a plan forward")?;
    state.after_rationale()?;
    emit(PlanProposed { plan: Some(plan) })
}

/// Confirms the current plan.
///
/// # Errors
/// Refused under AG-3 if the agreement is not in dialogue, or if the revision is not the current one.
pub fn confirm_plan(state: &Agreement, command: &ConfirmPlanRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    if state.sides[which].plan.is_some() && state.sound_wording(command.revision, state.plan.as_ref()) {
        return Ok(Vec::new());
    }
    state.plan_open(command.revision)?;
    emit(PlanConfirmed { city: state.sides[which].name(), revision: command.revision })
}

/// Builds the text that a side puts forward, with the next revision number.
pub(super) fn words(
    state: &Agreement,
    which: Which,
    field: &str,
    words: &[LocalizedText],
    document: Option<&Attachment>,
) -> Refused<JointText> {
    text::required(field, words)?;
    attachment::optional("document", document)?;
    Ok(JointText {
        text: words.to_vec(),
        document: document.cloned(),
        city: state.sides[which].name(),
        revision: state.revision.saturating_add(1),
        ..JointText::default()
    })
}

/// Checks that the text exists and has the revision that the command names, so that both sides confirm the same
/// wording.
pub(super) fn same_wording(rule: &'static str, what: &str, words: Option<&JointText>, revision: i32) -> Refused<()> {
    let help = format!("Read the {what} again and confirm the current wording.");
    match words {
        None => Err(Refusal::out_of_order(rule, "NOTHING_TO_CONFIRM", format!("There is no {what} to confirm"))
            .missing(what, "has not been put forward")
            .help(format!("Put a {what} forward first."))),
        Some(words) if words.revision != revision => {
            Err(Refusal::rule(rule, "REVISION_OUTDATED", format!("The {what} has another wording now"))
                .missing("revision", format!("the current revision is {}", words.revision))
                .help(help))
        }
        Some(_) => Ok(()),
    }
}

impl Agreement {
    fn sound_wording(&self, revision: i32, words: Option<&JointText>) -> bool {
        words.is_some_and(|words| words.revision == revision)
    }

    pub(super) fn rationale_open(&self, revision: i32) -> Refused<()> {
        in_state(self, "AG-3", &[AgreementState::InDialogue], "Confirming the rationale")?;
        same_wording("AG-3", "rationale", self.rationale.as_ref(), revision)
    }

    pub(super) fn plan_open(&self, revision: i32) -> Refused<()> {
        in_state(self, "AG-3", &[AgreementState::InDialogue], "Confirming the plan")?;
        self.after_rationale()?;
        same_wording("AG-3", "plan", self.plan.as_ref(), revision)
    }

    fn after_rationale(&self) -> Refused<()> {
        if self.rationale_confirmed() {
            return Ok(());
        }
        let mut refusal = Refusal::out_of_order("AG-3", "RATIONALE_UNCONFIRMED", "The plan comes after the rationale");
        for (subject, description) in self.outstanding() {
            refusal = refusal.missing(subject, description);
        }
        Err(refusal.help("Let both sides confirm the rationale first."))
    }

    pub(super) fn vote_open(&self, which: Which) -> Refused<()> {
        in_state(self, "AG-3", &[AgreementState::Planned, AgreementState::Approved], "A council vote")?;
        if self.sides[which].vote.is_none() {
            return Ok(());
        }
        Err(Refusal::out_of_order("AG-3", "COUNCIL_HAS_VOTED", "This council has already voted")
            .missing(self.sides[which].name(), "its council has already voted")
            .help("Revise the terms before they are approved if the council must vote again."))
    }
}

/// Records the vote of the caller's council. A vote against ends the proposal.
///
/// # Errors
/// Refused under AG-3 if the plan is not confirmed or the council has voted; `NOT_PERMITTED` if the caller is not the
/// council's clerk.
pub fn record_council_vote(
    state: &Agreement,
    command: &RecordCouncilVoteRequest,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let which = party_as(state, caller, &[Role::CouncilClerk])?;
    let vote = council_vote::check("vote", command.vote.as_ref(), at)?;
    state.vote_open(which)?;
    Ok(at_level(CouncilVoted { city: state.sides[which].name(), vote: Some(vote) }, AssuranceLevel::Recorded))
}

/// States the guidelines of the caller's side. They replace earlier ones.
///
/// # Errors
/// Refused under AG-11 if the guidelines lack a document, a ground or an answer, or do not bind all actors; under
/// AG-3 if the agreement is over.
pub fn state_guidelines(state: &Agreement, command: &StateGuidelinesRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    let guidelines = command.guidelines.clone().unwrap_or_default();
    complete(&guidelines)?;
    not_over(state, "Stating guidelines")?;
    emit(GuidelinesStated { city: state.sides[which].name(), guidelines: Some(guidelines) })
}

fn complete(guidelines: &Guidelines) -> Refused<()> {
    text::optional("guidelines.influence_mitigation", &guidelines.influence_mitigation)?;
    text::optional("guidelines.endorsement_mitigation", &guidelines.endorsement_mitigation)?;
    attachment::optional("guidelines.document", guidelines.document.as_ref())?;
    let known = |n| GuidelinesGround::try_from(n).ok().filter(|ground| *ground != GuidelinesGround::Unspecified);
    each_once("guidelines.grounds", &guidelines.grounds, known)?;
    let parts = [
        (guidelines.document.is_none(), "guidelines.document", "a document that states them"),
        (guidelines.grounds.is_empty(), "guidelines.grounds", "at least one ground"),
        (
            guidelines.influence_mitigation.is_empty(),
            "guidelines.influence_mitigation",
            "how the risk of influence is mitigated",
        ),
        (
            guidelines.endorsement_mitigation.is_empty(),
            "guidelines.endorsement_mitigation",
            "how the risk of endorsement is mitigated",
        ),
        (!guidelines.bind_all_actors, "guidelines.bind_all_actors", "guidelines that bind all actors"),
    ];
    let missing: Vec<_> = parts.into_iter().filter(|(missing, ..)| *missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let refusal = Refusal::rule("AG-11", "GUIDELINES_INCOMPLETE", "The guidelines are not complete");
    let refusal = missing.into_iter().fold(refusal, |refusal, (_, subject, what)| refusal.missing(subject, what));
    Err(refusal.help("Add the missing parts, or ask the mayor to go on without guidelines and record a reason."))
}

pub(super) fn not_over(state: &Agreement, step: &str) -> Refused<()> {
    let over = [AgreementState::Ended, AgreementState::Declined, AgreementState::Withdrawn, AgreementState::Superseded];
    if !over.contains(&state.state()) {
        return Ok(());
    }
    Err(Refusal::out_of_order(
        "AG-3",
        "NOT_IN_STATE",
        format!("{step} is out of order: the agreement is {}", rules::word(state.state())),
    )
    .missing("state", "is final")
    .help("Propose a new agreement."))
}

/// Goes on without guidelines, by a decision of the mayor.
///
/// # Errors
/// Refused under AG-11 if the city needs no guidelines or has stated some; `NOT_PERMITTED` if the caller is not the
/// mayor.
pub fn override_guidelines(
    state: &Agreement,
    command: &OverrideGuidelinesRequest,
    caller: &Caller,
    facts: &Facts,
) -> Decision<Change> {
    let which = party_as(state, caller, &[Role::Mayor])?;
    fitting(state, facts)?;
    text::required("reason", &command.reason)?;
    not_over(state, "Going on without guidelines")?;
    let needless = if state.sides[which].guidelines.is_some() {
        Some("guidelines are stated")
    } else if facts.guidelines_need(which) == GuidelinesNeed::None {
        Some("this city needs no guidelines with this partner")
    } else {
        None
    };
    if let Some(why) = needless {
        return Err(Refusal::rule("AG-11", "GUIDELINES_NOT_MISSING", "There are no missing guidelines to override")
            .missing(state.sides[which].name(), why)
            .help("Sign the agreement without an override."));
    }
    emit(GuidelinesOverridden { city: state.sides[which].name(), reason: command.reason.clone() })
}
