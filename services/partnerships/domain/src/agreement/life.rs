//! An agreement in force: revitalization (AG-7), renewal (AG-8), suspension (AG-14), ending (AG-10).

use super::{
    Agreement, Change, Life, Which,
    planning::{same_wording, words},
    rules::{OFFICE, at_level, document, in_state, is_keeper, party, party_as, past_day_or_today, power, power_shown},
    terms::{Term, last_day, sectors, term},
};
use hansa_kernel::{AssuranceLevel, Caller, Decision, Moment, RecordName, Refusal, Refused, record::emit, text, time};
use hansa_proto::partnerships::{
    AgreementEnded, AgreementRenewed, AgreementRevitalized, AgreementState, AgreementSuperseded, AgreementSuspended,
    ConfirmRenewalRequest, ConfirmRevitalizationRequest, EndAgreementRequest, EndAgreementsRequest, JointText,
    LiftSuspensionRequest, ProposeRenewalRequest, ProposeRevitalizationRequest, RenewalProposed,
    RevitalizationProposed, SuspendAgreementRequest, SuspendAgreementsRequest, SuspensionLifted,
};
use hansa_proto::types::AgreementKind;

/// Puts a revitalization forward: a joint action with new priorities.
///
/// # Errors
/// Refused under AG-7 if the agreement is neither active nor dormant, if there are no priorities, or if neither local
/// actors nor residents take part.
pub fn revitalize(state: &Agreement, command: &ProposeRevitalizationRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    sectors("sectors", &command.sectors)?;
    let mut revitalization = words(state, which, "action", &command.action, command.document.as_ref())?;
    state.revitalization_open()?;
    let mut refusal = Refusal::rule(
        "AG-7",
        "REVITALIZATION_INCOMPLETE",
        "A revitalization must update the priorities and involve people",
    );
    if command.sectors.is_empty() {
        refusal = refusal.missing("sectors", "the new priorities");
    }
    if !command.with_local_actors && !command.with_residents {
        refusal = refusal.missing("with_local_actors", "local actors or residents who take part");
    }
    if !refusal.missing.is_empty() {
        return Err(refusal.help("Name the new priorities, and state whether local actors or residents take part."));
    }
    revitalization.sectors.clone_from(&command.sectors);
    emit(RevitalizationProposed { revitalization: Some(revitalization) })
}

/// Confirms the revitalization that the other side put forward. The agreement is then active again.
///
/// # Errors
/// Refused under AG-7 if the other side has put none forward, or if the revision is not the current one.
pub fn confirm_revitalization(
    state: &Agreement,
    command: &ConfirmRevitalizationRequest,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    let change = state.revitalized_by(which, command.revision, at)?;
    emit(change)
}

impl Agreement {
    fn revitalization_open(&self) -> Refused<()> {
        in_state(self, "AG-7", &[AgreementState::Active, AgreementState::Dormant], "A revitalization")
    }

    pub(super) fn revitalized_by(&self, which: Which, revision: i32, at: Moment) -> Refused<AgreementRevitalized> {
        self.revitalization_open()?;
        let words =
            self.put_forward_by_other("AG-7", "revitalization", self.revitalization.as_ref(), which, revision)?;
        Ok(AgreementRevitalized {
            city: self.sides[which].name(),
            revision,
            sectors: words.sectors.clone(),
            effective_date: Some(time::date(at.today())),
        })
    }

    /// Returns the text that the other side put forward, if its revision is the confirmed one. The side that put a
    /// text forward cannot confirm it (AG-4).
    fn put_forward_by_other<'a>(
        &self,
        rule: &'static str,
        what: &str,
        words: Option<&'a JointText>,
        which: Which,
        revision: i32,
    ) -> Refused<&'a JointText> {
        same_wording(rule, what, words, revision)?;
        words.filter(|words| words.city == self.sides[which.other()].name()).ok_or_else(|| {
            Refusal::rule(rule, "OWN_TEXT", format!("Only the other side can confirm this {what}"))
                .missing(self.sides[which.other()].name(), format!("has not confirmed the {what}"))
                .help("Wait for the other side.")
        })
    }
}

/// Puts a new term forward. The other side must confirm it, because only an automatic renewal is agreed in advance.
///
/// # Errors
/// Refused under AG-8 if the agreement has no end or is in another state; AG-1 if a cooperation gets no term; AG-14
/// if the agreement is suspended.
pub fn renew(state: &Agreement, command: &ProposeRenewalRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    text::optional("note", &command.note)?;
    let term = term("renewal", command.term_months, command.renews_automatically)?;
    state.renewal_open()?;
    if term.is_none() && state.kind() == AgreementKind::Cooperation {
        return Err(Refusal::rule("AG-1", "COOPERATION_TERM_MISSING", "A cooperation needs a term")
            .missing("term_months", "the length of the new term")
            .help("Give a term, or propose a twinning that supersedes this agreement."));
    }
    emit(RenewalProposed {
        renewal: Some(JointText {
            text: command.note.clone(),
            city: state.sides[which].name(),
            revision: state.revision.saturating_add(1),
            term_months: command.term_months,
            renews_automatically: command.renews_automatically,
            ..JointText::default()
        }),
    })
}

/// Confirms the renewal that the other side put forward.
///
/// # Errors
/// Refused under AG-8 if the other side has put none forward or the revision is not the current one; AG-14 if the
/// agreement is suspended.
pub fn confirm_renewal(
    state: &Agreement,
    command: &ConfirmRenewalRequest,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    emit(state.renewed_by(which, command.revision, at)?)
}

impl Agreement {
    fn renewal_open(&self) -> Refused<()> {
        let open = [AgreementState::Active, AgreementState::Dormant, AgreementState::Expired];
        if self.state() == AgreementState::Suspended {
            return Err(Refusal::rule("AG-14", "RENEWAL_WHILE_SUSPENDED", "A suspended agreement cannot be renewed")
                .missing("suspension", "must be lifted")
                .help("Ask the side that suspended the agreement to lift the suspension."));
        }
        in_state(self, "AG-8", &open, "A renewal")?;
        if self.current_period().is_some_and(|period| period.end.is_some()) {
            return Ok(());
        }
        Err(Refusal::rule("AG-8", "RENEWAL_NOT_NEEDED", "An agreement without an end needs no renewal")
            .missing("term", "the agreement has no last day")
            .help("The agreement stays in force without a renewal."))
    }

    pub(super) fn renewed_by(&self, which: Which, revision: i32, at: Moment) -> Refused<AgreementRenewed> {
        self.renewal_open()?;
        let words = self.put_forward_by_other("AG-8", "renewal", self.renewal.as_ref(), which, revision)?;
        let term = term("renewal", words.term_months, words.renews_automatically)?;
        let follows = self.current_period().and_then(|period| period.end?.succ_opt());
        let start = match (&self.life, follows) {
            (Life::InForce(_), Some(next)) => next,
            // The gap after an expired term stays visible. The last day may not be over everywhere yet.
            (_, Some(next)) => next.max(at.today()),
            (_, None) => at.today(),
        };
        Ok(AgreementRenewed {
            city: self.sides[which].name(),
            term: Some(time::range(Some(start), term.map(|term: Term| last_day(start, term.months, 1)))),
            automatic: false,
            term_months: words.term_months,
            renews_automatically: words.renews_automatically,
        })
    }
}

/// Suspends the agreement for the caller's side.
///
/// # Errors
/// Refused under AG-14 if the agreement is not in force, if this side has already suspended it, or if there is no
/// reason.
pub fn suspend(state: &Agreement, command: &SuspendAgreementRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    let which = party(state, caller)?;
    let level = power(caller, command.delegation.as_ref(), at)?;
    text::required("reason", &command.reason).map_err(|refusal| refusal.under("AG-14"))?;
    let date = past_day_or_today("decision_date", command.decision_date.as_ref(), at)?;
    let open = [AgreementState::Active, AgreementState::Dormant, AgreementState::Suspended];
    in_state(state, "AG-14", &open, "A suspension")?;
    if state.sides[which].suspension.is_some() {
        return Err(Refusal::rule("AG-14", "ALREADY_SUSPENDED", "This side has already suspended the agreement")
            .missing(state.sides[which].name(), "its suspension has not been lifted")
            .help("Lift the suspension before setting another one."));
    }
    let change = AgreementSuspended {
        city: state.sides[which].name(),
        first_date: Some(time::date(date)),
        reason: command.reason.clone(),
        delegation: power_shown(caller, command.delegation.as_ref()),
    };
    Ok(at_level(change, level))
}

/// Lifts the suspension of the caller's side.
///
/// # Errors
/// Refused under AG-14 if this side has not suspended the agreement.
pub fn lift_suspension(
    state: &Agreement,
    command: &LiftSuspensionRequest,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let which = party(state, caller)?;
    let level = power(caller, command.delegation.as_ref(), at)?;
    text::optional("reason", &command.reason)?;
    if !state.in_force() || state.sides[which].suspension.is_none() {
        return Err(Refusal::rule(
            "AG-14",
            "NO_OWN_SUSPENSION",
            "Only the side that suspended an agreement can lift the suspension",
        )
        .missing(state.sides[which].name(), "has not suspended the agreement")
        .help("Ask the other side to lift its own suspension."));
    }
    let change = SuspensionLifted {
        city: state.sides[which].name(),
        reason: command.reason.clone(),
        effective_date: Some(time::date(at.today())),
        delegation: power_shown(caller, command.delegation.as_ref()),
    };
    Ok(at_level(change, level))
}

/// Ends the agreement by one side's decision. For a tie that no party has taken over, the steward records that it
/// ended.
///
/// # Errors
/// Refused under AG-10 if there is no reason or the agreement is in another state; AG-13 if the steward names no
/// source.
pub fn end(state: &Agreement, command: &EndAgreementRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    let keeper = is_keeper(state, caller);
    let (city, level) = if keeper {
        (String::new(), AssuranceLevel::Attested)
    } else {
        let which = party(state, caller)?;
        (state.sides[which].name(), power(caller, command.delegation.as_ref(), at)?)
    };
    text::optional("reason", &command.reason)?;
    if command.reason.is_empty() {
        return Err(Refusal::rule("AG-10", "ENDING_REASON_MISSING", "An ending needs a reason")
            .missing("reason", "why the agreement ends")
            .help("State the reason. The partner can read it."));
    }
    source(keeper, "source", &command.source)?;
    let open = [AgreementState::Signed, AgreementState::Active, AgreementState::Dormant, AgreementState::Suspended];
    in_state(state, "AG-10", &open, "Ending")?;
    let change = AgreementEnded {
        city,
        last_date: Some(time::date(at.today())),
        reason: command.reason.clone(),
        source: command.source.clone(),
        delegation: power_shown(caller, command.delegation.as_ref()).filter(|_| !keeper),
    };
    Ok(at_level(change, level))
}

/// Checks the source of information. The steward must name it; a party must not.
pub(super) fn source(keeper: bool, field: &str, source: &str) -> Refused<()> {
    if !keeper {
        return if source.is_empty() { Ok(()) } else { Err(Refusal::field(field, "can only be set by the steward")) };
    }
    document(field, source).map_err(|refusal| {
        refusal.under("AG-13").help("Name the source. No party of this agreement is on the platform.")
    })
}

/// Builds the command on one record of a decision to end many (AG-10). The service derives its request id.
#[must_use]
pub fn end_each(decision: &EndAgreementsRequest, name: &RecordName) -> EndAgreementRequest {
    EndAgreementRequest {
        name: name.as_str().to_owned(),
        reason: decision.reason.clone(),
        delegation: decision.delegation.clone(),
        validate_only: decision.validate_only,
        ..EndAgreementRequest::default()
    }
}

/// Builds the command on one record of a decision to suspend many (AG-10). The service derives its request id.
#[must_use]
pub fn suspend_each(decision: &SuspendAgreementsRequest, name: &RecordName) -> SuspendAgreementRequest {
    SuspendAgreementRequest {
        name: name.as_str().to_owned(),
        reason: decision.reason.clone(),
        decision_date: decision.decision_date,
        delegation: decision.delegation.clone(),
        validate_only: decision.validate_only,
        ..SuspendAgreementRequest::default()
    }
}

/// Supersedes `old` once `new`, which names it, is in force. There is no caller: the change follows from the
/// signatures.
///
/// # Errors
/// Refused under AG-3 if `new` is not in force or does not name `old`.
pub fn supersede(
    old: &Agreement,
    old_name: &RecordName,
    new: &Agreement,
    new_name: &RecordName,
    at: Moment,
) -> Decision<Change> {
    if new.supersedes != Some(old_name.id) || !new.in_force() {
        return Err(Refusal::out_of_order(
            "AG-3",
            "SUPERSEDING_NOT_IN_FORCE",
            "Only an agreement in force supersedes the agreement that it names",
        )
        .missing(new_name.as_str(), "must be in force and name the other agreement")
        .help("Wait for both signatures."));
    }
    // The old agreement may have ended in the meantime.
    if !old.in_force() {
        return Ok(Vec::new());
    }
    emit(AgreementSuperseded {
        superseding_agreement: new_name.as_str().to_owned(),
        effective_date: Some(time::date(at.today())),
    })
}
