//! Proposals: how an agreement begins, and how a proposal ends (AG-1, AG-3, AG-4, AG-13).

use super::{
    Agreement, Change, Facts, Which,
    facts::Tier,
    rules::{OFFICE, fitting, in_state, party_as, role},
    sides::city_name,
    terms::{Requirements, Terms},
};
use hansa_kernel::{Caller, Decision, Moment, ReasonClass, RecordName, Refusal, Refused, record::emit, text};
use hansa_proto::partnerships::{
    AgreementClaimed, AgreementDeclined, AgreementProposed, AgreementState, AgreementWithdrawn, ClaimAgreementRequest,
    DeclineAgreementRequest, DialogueOpened, OpenDialogueRequest, ProposeAgreementRequest, ReviseTermsRequest,
    TermsRevised, WithdrawAgreementRequest,
};

/// Proposes an agreement. `old` is the agreement that the command names as superseded.
///
/// # Errors
/// Refused under AG-1 if the terms do not fit the kind; AG-3 if `old` cannot be superseded; AG-4 if the caller is not
/// the initiator or has both sides; CT-2, CT-10 or CT-11 if a city cannot be a party.
pub fn propose(
    command: &ProposeAgreementRequest,
    caller: &Caller,
    facts: &Facts,
    old: Option<&Agreement>,
    at: Moment,
) -> Decision<Change> {
    role(caller, OFFICE)?;
    two_cities(&command.initiator, &command.partner, facts)?;
    let tenants = [Which::Initiator, Which::Partner].map(|which| facts.cities[which].tenant);
    if tenants[0] != Some(caller.tenant) {
        let refusal = Refusal::rule("AG-4", "INITIATOR_NOT_OWN_CITY", "A city can propose only in its own name");
        return Err(refusal
            .missing("initiator", "must be the caller's own city")
            .help("Name your own city as the initiator."));
    }
    if tenants[0] == tenants[1] {
        return Err(Refusal::rule("AG-4", "SAME_TENANT", "One tenant cannot act for both sides")
            .missing("partner", "a city of another tenant")
            .help("Choose a partner city of another tenant."));
    }
    possible_parties(facts)?;
    let terms = Terms::agreeable(command.terms.as_ref(), at)?;
    superseding(command, &terms, facts, old)?;
    emit(AgreementProposed {
        initiator: Some(facts.entry(Which::Initiator, tenants[0])),
        partner: Some(facts.entry(Which::Partner, tenants[1])),
        requirements: Some(Requirements::of(terms.kind, facts).to_proto()),
        terms: Some(terms.to_proto()),
        settings: Some(facts.settings.clock.to_proto()),
        superseded_agreement: command.superseded_agreement.clone(),
    })
}

pub(super) fn two_cities(initiator: &str, partner: &str, facts: &Facts) -> Refused<()> {
    let first = RecordName::parse(initiator, "cities", "initiator")?;
    let second = RecordName::parse(partner, "cities", "partner")?;
    if first == second {
        return Err(Refusal::rule("AG-4", "SAME_CITY", "An agreement needs two different cities")
            .missing("partner", "another city")
            .help("Name two cities."));
    }
    if first.id == facts.cities.initiator.city && second.id == facts.cities.partner.city {
        Ok(())
    } else {
        Err(Refusal::because(
            ReasonClass::Internal,
            "PL-4",
            "INTERNAL",
            "The facts do not belong to the cities of the request",
        ))
    }
}

/// Refuses a part of a city as a party, both for proposals and for imports.
pub(super) fn whole_cities(facts: &Facts) -> Refused<()> {
    let part = |which: &Which| facts.cities[*which].tier == Tier::SubMunicipal;
    match Which::ALL.into_iter().find(part).filter(|_| !facts.settings.sub_municipal_parties) {
        None => Ok(()),
        Some(which) => {
            Err(Refusal::rule("CT-2", "SUB_MUNICIPAL_PARTY", "A part of a city cannot be a party to an agreement")
                .missing(city_name(facts.cities[which].city), "is a sub-municipal body")
                .help("Conclude the agreement with the city that it is part of."))
        }
    }
}

fn possible_parties(facts: &Facts) -> Refused<()> {
    whole_cities(facts)?;
    for which in Which::ALL {
        let city = &facts.cities[which];
        if let Some(successor) = city.successor {
            return Err(Refusal::rule(
                "CT-11",
                "CITY_ENDED",
                "The city no longer exists because it was merged or split",
            )
            .missing(city_name(city.city), "has ended")
            .missing(city_name(successor), "is its successor")
            .help("Name the successor instead."));
        }
        if city.unregistered {
            return Err(Refusal::rule(
                "CT-10",
                "CITY_NOT_REGISTERED",
                "The register cannot tell which municipality this is",
            )
            .missing(city_name(city.city), "is not linked to a municipality")
            .help("Ask the steward to link the entry."));
        }
    }
    Ok(())
}

fn superseding(
    command: &ProposeAgreementRequest,
    terms: &Terms,
    facts: &Facts,
    old: Option<&Agreement>,
) -> Refused<()> {
    if command.superseded_agreement.is_empty() {
        return Ok(());
    }
    RecordName::parse(&command.superseded_agreement, super::COLLECTION, "superseded_agreement")?;
    let old = old.ok_or_else(|| Refusal::not_found(&command.superseded_agreement))?;
    let cities = [facts.cities.initiator.city, facts.cities.partner.city];
    let same = Which::ALL.into_iter().all(|which| cities.contains(&old.sides[which].city));
    let problem = if !same {
        "is an agreement of other cities"
    } else if !old.in_force() {
        "is not in force"
    } else if old.terms.kind >= terms.kind {
        "is not of a weaker kind"
    } else {
        return Ok(());
    };
    Err(Refusal::rule("AG-3", "SUPERSEDED_UNFIT", "Only a stronger agreement can supersede one in force")
        .missing(command.superseded_agreement.clone(), problem)
        .help("Leave `superseded_agreement` out, or name a weaker agreement in force between the same cities."))
}

/// Takes up a proposal, for the partner.
///
/// # Errors
/// Refused under AG-3 if the agreement is not proposed; under AG-4 if the caller is the initiator.
pub fn open_dialogue(state: &Agreement, command: &OpenDialogueRequest, caller: &Caller) -> Decision<Change> {
    only(Which::Partner, party_as(state, caller, OFFICE)?, "take up a proposal")?;
    text::optional("note", &command.note)?;
    in_state(state, "AG-3", &[AgreementState::Proposed], "Opening the dialogue")?;
    emit(DialogueOpened { city: state.sides.partner.name(), note: command.note.clone() })
}

fn only(which: Which, caller: Which, what: &str) -> Refused<()> {
    if which == caller {
        return Ok(());
    }
    let side = if which == Which::Partner { "partner" } else { "initiator" };
    Err(Refusal::rule("AG-4", "OTHER_SIDE_REQUIRED", format!("Only the {side} can {what}"))
        .missing(side, "must take this step")
        .help("Ask the other side to act."))
}

/// Changes the terms before they are approved. This resets confirmations and votes.
///
/// # Errors
/// Refused under AG-1 if the terms do not fit the kind; AG-3 if the agreement is in another state or would become too
/// weak to supersede another; AG-4 if the partner revises before the dialogue.
pub fn revise_terms(
    state: &Agreement,
    command: &ReviseTermsRequest,
    caller: &Caller,
    facts: &Facts,
    at: Moment,
) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    fitting(state, facts)?;
    let terms = Terms::agreeable(command.terms.as_ref(), at)?;
    let mut open = vec![AgreementState::Proposed, AgreementState::InDialogue, AgreementState::Planned];
    // If no council votes, a revision after the approval does not bypass a vote.
    if !state.sides.any(|side| side.vote.is_some()) && !state.requirements.any_vote() {
        open.push(AgreementState::Approved);
    }
    in_state(state, "AG-3", &open, "Revising the terms")?;
    if state.state() == AgreementState::Proposed {
        only(Which::Initiator, which, "revise a proposal before the dialogue")?;
    }
    if state.supersedes.is_some() && terms.kind < state.terms.kind {
        return Err(Refusal::rule(
            "AG-3",
            "KIND_WEAKENED",
            "An agreement that supersedes another cannot become weaker",
        )
        .missing("terms.kind", "is weaker than proposed")
        .help("Keep the kind, or withdraw the proposal and make a new one."));
    }
    emit(TermsRevised {
        city: state.sides[which].name(),
        requirements: Some(Requirements::of(terms.kind, facts).to_proto()),
        terms: Some(terms.to_proto()),
        revision: state.revision.saturating_add(1),
    })
}

/// The states in which a side that has not signed can leave.
const PREPARING: [AgreementState; 5] = [
    AgreementState::Proposed,
    AgreementState::InDialogue,
    AgreementState::Planned,
    AgreementState::Approved,
    AgreementState::Signed,
];

fn unsigned(state: &Agreement, which: Which, step: &str) -> Refused<()> {
    in_state(state, "AG-3", &PREPARING, step)?;
    if state.sides[which].signature.is_none() {
        return Ok(());
    }
    Err(Refusal::out_of_order(
        "AG-3",
        "SIDE_HAS_SIGNED",
        format!("{step} is out of order: this side has already signed"),
    )
    .missing(state.sides[which].name(), "has already signed")
    .help("End the agreement instead, with a reason."))
}

/// Declines the proposal, for the partner.
///
/// # Errors
/// Refused under AG-3 if the partner has signed or the preparation is over; under AG-4 if the caller is the
/// initiator.
pub fn decline(state: &Agreement, command: &DeclineAgreementRequest, caller: &Caller) -> Decision<Change> {
    only(Which::Partner, party_as(state, caller, OFFICE)?, "decline")?;
    text::optional("reason", &command.reason)?;
    unsigned(state, Which::Partner, "Declining")?;
    emit(AgreementDeclined { city: state.sides.partner.name(), reason: command.reason.clone() })
}

/// Withdraws the proposal, for the initiator.
///
/// # Errors
/// Refused under AG-3 if the initiator has signed or the preparation is over; under AG-4 if the caller is the
/// partner.
pub fn withdraw(state: &Agreement, command: &WithdrawAgreementRequest, caller: &Caller) -> Decision<Change> {
    only(Which::Initiator, party_as(state, caller, OFFICE)?, "withdraw")?;
    text::optional("reason", &command.reason)?;
    unsigned(state, Which::Initiator, "Withdrawing")?;
    emit(AgreementWithdrawn { city: state.sides.initiator.name(), reason: command.reason.clone() })
}

/// Takes over the side of a city that has joined. The first claim after an import also takes over the record (AG-13).
///
/// # Errors
/// `NOT_FOUND` if the caller's tenant is neither city; refused under AG-4 if the tenant already has the other side.
pub fn claim(state: &Agreement, _command: &ClaimAgreementRequest, caller: &Caller, facts: &Facts) -> Decision<Change> {
    fitting(state, facts)?;
    if state.side_of(caller.tenant).is_some_and(|which| facts.cities[which].tenant == Some(caller.tenant))
        && !Which::ALL.into_iter().any(|which| free(state, facts, which, caller))
    {
        role(caller, OFFICE)?;
        return Ok(Vec::new());
    }
    let which = Which::ALL
        .into_iter()
        .find(|&which| free(state, facts, which, caller))
        .ok_or_else(|| Refusal::not_found("the agreement"))?;
    role(caller, OFFICE)?;
    if state.side_of(caller.tenant).is_some() {
        return Err(Refusal::rule("AG-4", "SAME_TENANT", "One tenant cannot act for both sides")
            .missing(state.sides[which].name(), "must belong to another tenant")
            .help("Ask the steward to correct the register or the tie."));
    }
    emit(AgreementClaimed { city: state.sides[which].name(), tenant: caller.tenant.name() })
}

fn free(state: &Agreement, facts: &Facts, which: Which, caller: &Caller) -> bool {
    // A successor that joins later takes over the side from the tenant of the previous city (CT-11).
    state.sides[which].tenant != Some(caller.tenant) && facts.cities[which].tenant == Some(caller.tenant)
}
