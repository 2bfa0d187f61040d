//! An agreement in force: revitalisation (AG-7), renewal (AG-8), suspension (AG-14), ending (AG-10).

use super::{
    Agreement, Change, Life, Which,
    planning::{same_wording, words},
    rules::{OFFICE, at_level, document, in_state, is_keeper, party, party_as, past_day_or_today, power, power_shown},
    terms::{Term, last_day, sectors, term},
};
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Moment, RecordName, Refusal, Refused, record::happened, text, time,
};
use hansa_proto::partnerships::{
    AgreementEnded, AgreementKind, AgreementRenewed, AgreementRevitalised, AgreementState, AgreementSuperseded,
    AgreementSuspended, ConfirmRenewalRequest, ConfirmRevitalisationRequest, EndAgreementRequest, EndAgreementsRequest,
    JointText, LiftSuspensionRequest, RenewAgreementRequest, RenewalPutForward, RevitalisationPutForward,
    RevitaliseAgreementRequest, SuspendAgreementRequest, SuspendAgreementsRequest, SuspensionLifted,
};

/// Puts a revitalisation forward: a joint action with new priorities.
///
/// # Errors
/// AG-7 without priorities, or without local actors or residents; AG-3 out of order.
pub fn revitalise(state: &Agreement, command: &RevitaliseAgreementRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    sectors("sectors", &command.sectors)?;
    let mut revitalisation = words(state, which, "action", &command.action, &command.document)?;
    state.revitalisation_open()?;
    let mut refusal = Refusal::rule("AG-7", "A revitalisation updates the priorities together with the people");
    if command.sectors.is_empty() {
        refusal = refusal.missing("sectors", "the priorities from then on");
    }
    if !command.with_local_actors && !command.with_residents {
        refusal = refusal.missing("with_local_actors", "local actors or residents who take part");
    }
    if !refusal.missing.is_empty() {
        return Err(refusal.help("Name the new priorities and who takes part."));
    }
    revitalisation.sectors.clone_from(&command.sectors);
    happened(RevitalisationPutForward { revitalisation: Some(revitalisation) })
}

/// Confirms the revitalisation that the other side put forward: active again.
///
/// # Errors
/// AG-7 where there is none by the other side, or another wording stands.
pub fn confirm_revitalisation(
    state: &Agreement,
    command: &ConfirmRevitalisationRequest,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    let change = state.revitalised_by(which, command.revision, at)?;
    happened(change)
}

impl Agreement {
    fn revitalisation_open(&self) -> Refused<()> {
        in_state(self, "AG-7", &[AgreementState::Active, AgreementState::Dormant], "A revitalisation")
    }

    pub(super) fn revitalised_by(&self, which: Which, revision: i32, at: Moment) -> Refused<AgreementRevitalised> {
        self.revitalisation_open()?;
        let words =
            self.put_forward_by_other("AG-7", "revitalisation", self.revitalisation.as_ref(), which, revision)?;
        Ok(AgreementRevitalised {
            city: self.sides[which].name(),
            revision,
            sectors: words.sectors.clone(),
            date: Some(time::date(at.today())),
        })
    }

    /// What the other side put forward, under the number that is confirmed: nobody confirms for both (AG-4).
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
            Refusal::rule(rule, format!("The other side has to confirm this {what}"))
                .missing(self.sides[which.other()].name(), format!("has not confirmed the {what}"))
                .help("Wait for the other side.")
        })
    }
}

/// Puts a new term forward. Both must agree, since only a renewal by itself was agreed beforehand.
///
/// # Errors
/// AG-8 where the agreement has no end or the kind needs a term, AG-14 while suspended.
pub fn renew(state: &Agreement, command: &RenewAgreementRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    text::optional("note", &command.note)?;
    let term = term("renewal", command.term_months, command.renews_automatically)?;
    state.renewal_open()?;
    if term.is_none() && state.kind() == AgreementKind::Cooperation {
        return Err(Refusal::rule("AG-1", "A cooperation has a term")
            .missing("term_months", "the length of the new term")
            .help("Give a term, or propose a twinning that takes its place."));
    }
    happened(RenewalPutForward {
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
/// AG-8 where there is none by the other side, or another wording stands; AG-14 while suspended.
pub fn confirm_renewal(
    state: &Agreement,
    command: &ConfirmRenewalRequest,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    happened(state.renewed_by(which, command.revision, at)?)
}

impl Agreement {
    fn renewal_open(&self) -> Refused<()> {
        let open = [AgreementState::Active, AgreementState::Dormant, AgreementState::Expired];
        if self.state() == AgreementState::Suspended {
            return Err(Refusal::rule("AG-14", "A suspended agreement is not renewed")
                .missing("suspension", "must be lifted")
                .help("Let the side that suspended it lift the suspension."));
        }
        in_state(self, "AG-8", &open, "A renewal")?;
        if self.current_period().is_some_and(|period| period.end.is_some()) {
            return Ok(());
        }
        Err(Refusal::rule("AG-8", "An agreement without end needs no renewal")
            .missing("term", "the agreement has no last day")
            .help("Nothing needs to be done."))
    }

    pub(super) fn renewed_by(&self, which: Which, revision: i32, at: Moment) -> Refused<AgreementRenewed> {
        self.renewal_open()?;
        let words = self.put_forward_by_other("AG-8", "renewal", self.renewal.as_ref(), which, revision)?;
        let term = term("renewal", words.term_months, words.renews_automatically)?;
        let follows = self.current_period().and_then(|period| period.end?.succ_opt());
        let start = match (&self.life, follows) {
            (Life::InForce(_), Some(next)) => next,
            // After a gap, which stays visible. The last day may not be over everywhere.
            (_, Some(next)) => next.max(at.today()),
            (_, None) => at.today(),
        };
        Ok(AgreementRenewed {
            city: self.sides[which].name(),
            start_date: Some(time::date(start)),
            end_date: term.map(|term: Term| time::date(last_day(start, term.months, 1))),
            automatic: false,
            term_months: words.term_months,
            renews_automatically: words.renews_automatically,
        })
    }
}

/// Suspends for the own side.
///
/// # Errors
/// AG-14 where it is not in force or the own suspension stands.
pub fn suspend(state: &Agreement, command: &SuspendAgreementRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    let which = party(state, caller)?;
    let level = power(caller, command.delegation.as_ref(), at)?;
    text::required("reason", &command.reason).map_err(|refusal| refusal.under("AG-14"))?;
    let date = past_day_or_today("date", command.date.as_ref(), at)?;
    let open = [AgreementState::Active, AgreementState::Dormant, AgreementState::Suspended];
    in_state(state, "AG-14", &open, "A suspension")?;
    if state.sides[which].suspension.is_some() {
        return Err(Refusal::rule("AG-14", "This side has suspended the agreement")
            .missing(state.sides[which].name(), "its suspension stands")
            .help("Lift it first, to set another."));
    }
    let change = AgreementSuspended {
        city: state.sides[which].name(),
        date: Some(time::date(date)),
        reason: command.reason.clone(),
        delegation: power_shown(caller, command.delegation.as_ref()),
    };
    Ok(at_level(change, level))
}

/// Lifts the own suspension.
///
/// # Errors
/// AG-14 where the own side has set none.
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
        return Err(Refusal::rule("AG-14", "Only the side that suspended an agreement lifts the suspension")
            .missing(state.sides[which].name(), "has set no suspension that stands")
            .help("Let the other side lift its own."));
    }
    let change = SuspensionLifted {
        city: state.sides[which].name(),
        reason: command.reason.clone(),
        date: Some(time::date(at.today())),
        delegation: power_shown(caller, command.delegation.as_ref()),
    };
    Ok(at_level(change, level))
}

/// Ends the agreement by one side's decision; for a tie that nobody has taken over, the steward records that it ended.
///
/// # Errors
/// AG-10 without a reason, AG-3 out of order, AG-13 for the steward without a source.
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
        return Err(Refusal::rule("AG-10", "An ending has a reason")
            .missing("reason", "why the agreement ends")
            .help("State the reason; the partner reads it."));
    }
    source(keeper, "source", &command.source)?;
    let open = [AgreementState::Signed, AgreementState::Active, AgreementState::Dormant, AgreementState::Suspended];
    in_state(state, "AG-10", &open, "Ending")?;
    let change = AgreementEnded {
        city,
        date: Some(time::date(at.today())),
        reason: command.reason.clone(),
        source: command.source.clone(),
        delegation: power_shown(caller, command.delegation.as_ref()).filter(|_| !keeper),
    };
    Ok(at_level(change, level))
}

/// The steward says where its knowledge comes from; a party has no need to.
pub(super) fn source(keeper: bool, field: &str, source: &str) -> Refused<()> {
    if !keeper {
        return if source.is_empty() { Ok(()) } else { Err(Refusal::field(field, "is the steward's alone")) };
    }
    document(field, source).map_err(|refusal| {
        refusal.under("AG-13").help("Say where it is known from: no party of this agreement is on the platform.")
    })
}

/// The command on one record of a decision to end many (AG-10). The service derives its request id.
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

/// The command on one record of a decision to suspend many (AG-10). The service derives its request id.
#[must_use]
pub fn suspend_each(decision: &SuspendAgreementsRequest, name: &RecordName) -> SuspendAgreementRequest {
    SuspendAgreementRequest {
        name: name.as_str().to_owned(),
        reason: decision.reason.clone(),
        date: decision.date,
        delegation: decision.delegation.clone(),
        validate_only: decision.validate_only,
        ..SuspendAgreementRequest::default()
    }
}

/// What becomes of `old` once `new`, which names it, is in force. No caller acts: it follows from the signatures.
///
/// # Errors
/// AG-3 where `new` is not in force or does not name it.
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
            "Only an agreement in force takes the place of the one that it names",
        )
        .missing(new_name.as_str(), "must be in force and name the other")
        .help("Wait for both signatures."));
    }
    // It may have ended in the meantime; then there is nothing to take the place of.
    if !old.in_force() {
        return Ok(Vec::new());
    }
    happened(AgreementSuperseded { by: new_name.as_str().to_owned(), date: Some(time::date(at.today())) })
}
