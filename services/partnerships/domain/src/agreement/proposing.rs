//! How an agreement begins, and how a proposal ends: AG-1, AG-3, AG-4, AG-13.

use super::{
    Agreement, Change, Facts, Which,
    facts::Tier,
    rules::{OFFICE, fitting, in_state, party_as, role},
    sides::city_name,
    terms::{Requirements, Terms},
};
use hansa_kernel::{Caller, Decision, Moment, Reason, RecordName, Refusal, Refused, record::happened, text};
use hansa_proto::partnerships::{
    AgreementClaimed, AgreementDeclined, AgreementProposed, AgreementState, AgreementWithdrawn, ClaimAgreementRequest,
    CreateAgreementRequest, DeclineAgreementRequest, DialogueOpened, OpenDialogueRequest, ReviseTermsRequest,
    TermsRevised, WithdrawAgreementRequest,
};

/// Proposes an agreement. `old` is the agreement that the command names as superseded.
///
/// # Errors
/// AG-1, AG-3 (`supersedes`), AG-4, CT-2, CT-10, or a field or role that does not fit.
pub fn propose(
    command: &CreateAgreementRequest,
    caller: &Caller,
    facts: &Facts,
    old: Option<&Agreement>,
    at: Moment,
) -> Decision<Change> {
    role(caller, OFFICE)?;
    two_cities(&command.initiator, &command.partner, facts)?;
    let tenants = [Which::Initiator, Which::Partner].map(|which| facts.cities[which].tenant);
    if tenants[0] != Some(caller.tenant) {
        let refusal = Refusal::rule("AG-4", "A city proposes in its own name alone");
        return Err(refusal
            .missing("initiator", "must be the caller's own city")
            .help("Name your own city as the initiator."));
    }
    if tenants[0] == tenants[1] {
        return Err(Refusal::rule("AG-4", "One tenant cannot act for both sides")
            .missing("partner", "a city of another tenant")
            .help("Choose a partner that is not your own tenant."));
    }
    possible_parties(facts)?;
    let terms = Terms::agreeable(command.terms.as_ref(), at)?;
    superseding(command, &terms, facts, old)?;
    happened(AgreementProposed {
        initiator: Some(facts.entry(Which::Initiator, tenants[0])),
        partner: Some(facts.entry(Which::Partner, tenants[1])),
        requirements: Some(Requirements::of(terms.kind, facts).to_proto()),
        terms: Some(terms.to_proto()),
        settings: Some(facts.settings.clock.to_proto()),
        supersedes: command.supersedes.clone(),
    })
}

pub(super) fn two_cities(initiator: &str, partner: &str, facts: &Facts) -> Refused<()> {
    let first = RecordName::parse(initiator, "cities", "initiator")?;
    let second = RecordName::parse(partner, "cities", "partner")?;
    if first == second {
        return Err(Refusal::rule("AG-4", "An agreement has two different cities")
            .missing("partner", "another city")
            .help("Name two cities."));
    }
    if first.id == facts.cities.initiator.city && second.id == facts.cities.partner.city {
        Ok(())
    } else {
        Err(Refusal::because(Reason::Internal, "PL-4", "The facts are not those of the command's cities"))
    }
}

/// Parts of cities are no parties, whether an agreement is proposed or brought in.
pub(super) fn whole_cities(facts: &Facts) -> Refused<()> {
    let part = |which: &Which| facts.cities[*which].tier == Tier::SubMunicipal;
    match Which::ALL.into_iter().find(part).filter(|_| !facts.settings.sub_municipal_parties) {
        None => Ok(()),
        Some(which) => Err(Refusal::rule("CT-2", "A part of a city is no party to an agreement")
            .missing(city_name(facts.cities[which].city), "is a sub-municipal body")
            .help("Conclude the agreement with the city that it is part of.")),
    }
}

fn possible_parties(facts: &Facts) -> Refused<()> {
    whole_cities(facts)?;
    for which in Which::ALL {
        let city = &facts.cities[which];
        if let Some(successor) = city.successor {
            return Err(Refusal::rule("CT-11", "The city is no more: it was merged or split")
                .missing(city_name(city.city), "has ended")
                .missing(city_name(successor), "is its successor")
                .help("Propose to the successor."));
        }
        if city.unlinked {
            return Err(Refusal::rule("CT-10", "The register cannot tell which municipality this is")
                .missing(city_name(city.city), "is linked to no municipality")
                .help("Ask the steward to link the entry."));
        }
    }
    Ok(())
}

fn superseding(command: &CreateAgreementRequest, terms: &Terms, facts: &Facts, old: Option<&Agreement>) -> Refused<()> {
    if command.supersedes.is_empty() {
        return Ok(());
    }
    RecordName::parse(&command.supersedes, super::COLLECTION, "supersedes")?;
    let old = old.ok_or_else(|| Refusal::not_found(&command.supersedes))?;
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
    Err(Refusal::rule("AG-3", "Only a stronger agreement takes the place of one in force")
        .missing(command.supersedes.clone(), problem)
        .help("Leave `supersedes` out, or name a weaker agreement in force between the same cities."))
}

/// Takes up a proposal, for the partner.
///
/// # Errors
/// AG-3 out of order, AG-4 for the initiator.
pub fn open_dialogue(state: &Agreement, command: &OpenDialogueRequest, caller: &Caller) -> Decision<Change> {
    only(Which::Partner, party_as(state, caller, OFFICE)?, "take up a proposal")?;
    text::optional("note", &command.note)?;
    in_state(state, "AG-3", &[AgreementState::Proposed], "Opening the dialogue")?;
    happened(DialogueOpened { city: state.sides.partner.name(), note: command.note.clone() })
}

fn only(which: Which, caller: Which, what: &str) -> Refused<()> {
    if which == caller {
        return Ok(());
    }
    let side = if which == Which::Partner { "partner" } else { "initiator" };
    Err(Refusal::rule("AG-4", format!("Only the {side} can {what}"))
        .missing(side, "must act itself")
        .help("Each side acts for itself."))
}

/// Changes the terms before they are approved. It resets what was confirmed and voted on.
///
/// # Errors
/// AG-1, AG-3, AG-4.
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
    // Where no council votes, approval is no act that a revision would pass over.
    if !state.sides.any(|side| side.vote.is_some()) && !state.requirements.any_vote() {
        open.push(AgreementState::Approved);
    }
    in_state(state, "AG-3", &open, "Revising the terms")?;
    if state.state() == AgreementState::Proposed {
        only(Which::Initiator, which, "revise a proposal before the dialogue")?;
    }
    if state.supersedes.is_some() && terms.kind < state.terms.kind {
        return Err(Refusal::rule("AG-3", "An agreement that takes the place of another does not become weaker")
            .missing("terms.kind", "is weaker than proposed")
            .help("Keep the kind, or withdraw and propose anew."));
    }
    happened(TermsRevised {
        city: state.sides[which].name(),
        requirements: Some(Requirements::of(terms.kind, facts).to_proto()),
        terms: Some(terms.to_proto()),
        revision: state.revision.saturating_add(1),
    })
}

/// States from which a side that has not signed can leave.
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
    Err(Refusal::out_of_order("AG-3", format!("{step} is out of order: this side has signed"))
        .missing(state.sides[which].name(), "has signed")
        .help("End the agreement instead, with a reason."))
}

/// Declines, for the partner.
///
/// # Errors
/// AG-3 once it has signed, AG-4 for the initiator.
pub fn decline(state: &Agreement, command: &DeclineAgreementRequest, caller: &Caller) -> Decision<Change> {
    only(Which::Partner, party_as(state, caller, OFFICE)?, "decline")?;
    text::optional("reason", &command.reason)?;
    unsigned(state, Which::Partner, "Declining")?;
    happened(AgreementDeclined { city: state.sides.partner.name(), reason: command.reason.clone() })
}

/// Takes the proposal back, for the initiator.
///
/// # Errors
/// AG-3 once it has signed, AG-4 for the partner.
pub fn withdraw(state: &Agreement, command: &WithdrawAgreementRequest, caller: &Caller) -> Decision<Change> {
    only(Which::Initiator, party_as(state, caller, OFFICE)?, "withdraw")?;
    text::optional("reason", &command.reason)?;
    unsigned(state, Which::Initiator, "Withdrawing")?;
    happened(AgreementWithdrawn { city: state.sides.initiator.name(), reason: command.reason.clone() })
}

/// Takes over the side of a city that has joined; the first after an import takes over the record (AG-13).
///
/// # Errors
/// NOT_FOUND where the caller's tenant is neither city, AG-4 where the tenant has the other side.
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
        return Err(Refusal::rule("AG-4", "One tenant cannot act for both sides")
            .missing(state.sides[which].name(), "must be another tenant")
            .help("Ask the steward to correct the tie."));
    }
    happened(AgreementClaimed { city: state.sides[which].name(), tenant: caller.tenant.name() })
}

fn free(state: &Agreement, facts: &Facts, which: Which, caller: &Caller) -> bool {
    // A successor that joins later takes the side over from the tenant of the city before it (CT-11).
    state.sides[which].tenant != Some(caller.tenant) && facts.cities[which].tenant == Some(caller.tenant)
}
