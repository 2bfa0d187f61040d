//! Checks that several rules share: party, role, power, state.

use super::{Agreement, Change, Facts, Which};
use chrono::NaiveDate;
use hansa_kernel::{
    AssuranceLevel, Caller, Emitted, Moment, ReasonClass, Refusal, Refused, Role, attachment, text, time,
};
use hansa_proto::{
    google::r#type::Date,
    partnerships::{AgreementState, Delegation},
};

/// The roles that prepare and keep agreements.
pub(super) const OFFICE: &[Role] = &[Role::Mayor, Role::IrOfficer];
/// The roles that may also vouch for documents.
pub(super) const RECORDS: &[Role] = &[Role::Mayor, Role::IrOfficer, Role::CouncilClerk];

/// Returns the side of the caller's tenant. Any other caller gets `NOT_FOUND` (AG-4, PL-1).
pub(super) fn party(state: &Agreement, caller: &Caller) -> Refused<Which> {
    state.side_of(caller.tenant).ok_or_else(|| Refusal::not_found("the agreement"))
}

/// Returns whether the caller is the steward who keeps a tie that no party has taken over.
pub(super) fn is_keeper(state: &Agreement, caller: &Caller) -> bool {
    caller.has(Role::Steward) && !state.at_home() && caller.tenant == state.owner
}

/// Returns the side of the caller's tenant if the caller has one of the roles.
pub(super) fn party_as(state: &Agreement, caller: &Caller, roles: &[Role]) -> Refused<Which> {
    let which = party(state, caller)?;
    role(caller, roles)?;
    Ok(which)
}

pub(super) fn role(caller: &Caller, roles: &[Role]) -> Refused<Role> {
    caller.acting_as(roles).ok_or_else(|| {
        let names: Vec<_> = roles.iter().map(|role| role.as_str_name().trim_start_matches("ROLE_")).collect();
        Refusal::not_permitted("ROLE_NOT_PERMITTED", "The caller's role does not permit this step")
            .missing("role", format!("one of {}", names.join(", ")))
            .help("Ask a person with that role to take the step.")
    })
}

/// Returns the assurance level of a decision that needs the mayor's power. The caller must be the mayor, a delegate
/// within the dates of the power, or the council's clerk, who records a decision taken elsewhere.
pub(super) fn power(caller: &Caller, delegation: Option<&Delegation>, at: Moment) -> Refused<AssuranceLevel> {
    match role(caller, &[Role::Mayor, Role::Delegate, Role::CouncilClerk])? {
        Role::Mayor => Ok(AssuranceLevel::Host),
        Role::Delegate => delegated(delegation, at.today()).map(|()| AssuranceLevel::Host),
        _ => Ok(AssuranceLevel::Recorded),
    }
}

/// Returns the power to store with a decision: only a delegate's.
pub(super) fn power_shown(caller: &Caller, delegation: Option<&Delegation>) -> Option<Delegation> {
    delegation.filter(|_| caller.acting_as(&[Role::Mayor, Role::Delegate]) == Some(Role::Delegate)).cloned()
}

/// Checks that a delegate names a power that is valid on the day (AG-3).
pub(super) fn delegated(delegation: Option<&Delegation>, day: NaiveDate) -> Refused<()> {
    let help = "Let the mayor act, or name a power whose dates include the day.";
    let Some(delegation) = delegation else {
        let refusal = Refusal::rule("AG-3", "DELEGATION_MISSING", "A delegate needs a dated power");
        return Err(refusal.missing("delegation", "the power to act for the mayor").help(help));
    };
    attachment::required("delegation.document", delegation.document.as_ref())?;
    let validity = delegation.validity.unwrap_or_default();
    let start = time::day("delegation.validity.first_date", validity.first_date.as_ref())?;
    let end = time::day("delegation.validity.last_date", validity.last_date.as_ref())?;
    if !(start..=end).contains(&day) {
        let refusal = Refusal::rule("AG-3", "DELEGATION_NOT_VALID", "The delegate's power is not valid on the day");
        return Err(refusal.missing("delegation", format!("is valid from {start} to {end}")).help(help));
    }
    Ok(())
}

/// Checks a required reference to a document.
pub(super) fn document(field: &str, reference: &str) -> Refused<()> {
    if reference.trim().is_empty() {
        return Err(Refusal::field(field, "is required"));
    }
    text::reference(field, reference)
}

/// Parses a day that is not in the future; the default is today.
pub(super) fn past_day_or_today(field: &str, date: Option<&Date>, at: Moment) -> Refused<NaiveDate> {
    if date.is_none() { Ok(at.today()) } else { time::past_day(field, date, at) }
}

/// Refuses the step in all states except `states`, and lists the outstanding steps.
pub(super) fn in_state(state: &Agreement, rule: &'static str, states: &[AgreementState], step: &str) -> Refused<()> {
    let now = state.state();
    if states.contains(&now) {
        return Ok(());
    }
    let mut refusal =
        Refusal::out_of_order(rule, "NOT_IN_STATE", format!("{step} is out of order: the agreement is {}", word(now)));
    for (subject, description) in state.outstanding() {
        refusal = refusal.missing(subject, description);
    }
    if refusal.missing.is_empty() {
        refusal = refusal.missing("state", format!("is {}", word(now)));
    }
    let words: Vec<_> = states.iter().map(|&state| word(state)).collect();
    Err(refusal.help(format!("This step is open while the agreement is {}.", words.join(" or "))))
}

/// Returns the state in words.
pub(super) fn word(state: AgreementState) -> String {
    state.as_str_name().trim_start_matches("AGREEMENT_STATE_").replace('_', " ").to_lowercase()
}

/// Checks that the facts belong to the agreement's cities. If they do not, the service has an error.
pub(super) fn fitting(state: &Agreement, facts: &Facts) -> Refused<()> {
    if Which::ALL.into_iter().all(|which| facts.cities[which].city == state.sides[which].city) {
        Ok(())
    } else {
        Err(Refusal::because(
            ReasonClass::Internal,
            "PL-4",
            "INTERNAL",
            "The facts do not belong to the agreement's cities",
        ))
    }
}

/// Returns one change of the caller's own tenant at an assurance level.
pub(super) fn at_level(change: impl Into<Change>, level: AssuranceLevel) -> Vec<Emitted<Change>> {
    vec![Emitted::at_level(change, None, level)]
}

impl Agreement {
    /// Returns the next steps before the entry into force, each with the city that must take it.
    pub(super) fn outstanding(&self) -> Vec<(String, &'static str)> {
        if !matches!(self.life, super::Life::Preparing) {
            return Vec::new();
        }
        if self.dialogue.is_none() {
            return vec![(self.sides.partner.name(), "has not taken up the proposal")];
        }
        let each = |open: &dyn Fn(Which) -> bool, what| {
            let sides = Which::ALL.into_iter().filter(|&which| open(which));
            sides.map(|which| (self.sides[which].name(), what)).collect::<Vec<_>>()
        };
        let steps = [
            each(&|which| self.sides[which].rationale.is_none(), "has not confirmed the rationale"),
            each(&|which| self.sides[which].plan.is_none(), "has not confirmed the plan"),
            each(
                &|which| self.requirements.vote_of(which) && self.sides[which].vote.is_none(),
                "its council has not voted",
            ),
            each(&|which| self.sides[which].signature.is_none(), "has not signed"),
        ];
        steps.into_iter().find(|open| !open.is_empty()).unwrap_or_default()
    }
}
