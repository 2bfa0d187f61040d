//! Signatures (AG-1, AG-3, AG-4, AG-11) and the export of a signed agreement (AG-12).

use super::{
    Agreement, Change, Facts, Which,
    rules::{delegated, fitting, in_state, party, power_shown, role},
    sides::guided,
};
use chrono::NaiveDate;
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Emitted, Moment, Record, Refusal, Refused, Role, Stamp, attachment, refusal,
    text, time,
};
use hansa_proto::{
    partnerships::{AgreementSignature, AgreementSigned, AgreementState, SignAgreementRequest},
    types::Actor,
};

/// Signs for the caller's city. The mayor or a delegate signs on the platform, or the clerk records a signature on
/// paper. The second signature puts the agreement into force, unless its start date is in the future.
///
/// # Errors
/// Refused under AG-1 if a required ceremony is missing; AG-3 if the agreement is in another state, this side has
/// signed, or the power to sign is missing; AG-11 if guidelines are missing. The refusal lists all of AG-1, AG-3 and
/// AG-11 that apply.
pub fn sign(
    state: &Agreement,
    command: &SignAgreementRequest,
    caller: &Caller,
    facts: &Facts,
    at: Moment,
) -> Decision<Change> {
    let which = party(state, caller)?;
    fitting(state, facts)?;
    let (date, level) = form(command, caller, at)?;
    text::optional("place", &command.place)?;
    refusal::all([state.signature_open(which), state.in_ceremony(command), state.guided(which, facts)])?;
    let change = AgreementSigned {
        city: state.sides[which].name(),
        signature: Some(AgreementSignature {
            signature_date: Some(time::date(date)),
            place: command.place.clone(),
            in_ceremony: command.in_ceremony,
            scan: command.scan.clone(),
            delegation: match level {
                // A delegate may have signed on paper too. The clerk then names the power.
                AssuranceLevel::Recorded => command.delegation.clone(),
                _ => power_shown(caller, command.delegation.as_ref()),
            },
            step: None,
        }),
        guidelines_need: facts.guidelines_need(which) as i32,
    };
    Ok(state.and_into_force(change.into(), level, at))
}

/// Returns the day and the assurance level of the signature.
fn form(command: &SignAgreementRequest, caller: &Caller, at: Moment) -> Refused<(NaiveDate, AssuranceLevel)> {
    if command.paper_date.is_some() || command.scan.is_some() {
        role(caller, &[Role::CouncilClerk])?;
        attachment::required("scan", command.scan.as_ref())?;
        text::required("place", &command.place)?;
        let date = time::past_day("paper_date", command.paper_date.as_ref(), at)?;
        if command.delegation.is_some() {
            delegated(command.delegation.as_ref(), date)?;
        }
        return Ok((date, AssuranceLevel::Recorded));
    }
    match role(caller, &[Role::Mayor, Role::Delegate, Role::CouncilClerk])? {
        Role::Mayor => {}
        Role::Delegate => delegated(command.delegation.as_ref(), at.today())?,
        _ => {
            let refusal = Refusal::rule(
                "AG-3",
                "PAPER_SIGNATURE_INCOMPLETE",
                "The clerk can record a signature on paper but cannot sign",
            );
            return Err(refusal
                .missing("paper_date", "the day of the signature on paper")
                .missing("scan", "the scan of the signature on paper")
                .help("Give date, place and scan, or ask the mayor to sign."));
        }
    }
    Ok((at.today(), AssuranceLevel::Host))
}

impl Agreement {
    pub(super) fn signature_open(&self, which: Which) -> Refused<()> {
        in_state(self, "AG-3", &[AgreementState::Approved, AgreementState::Signed], "Signing")?;
        if self.sides[which].signature.is_none() {
            return Ok(());
        }
        Err(Refusal::out_of_order("AG-3", "SIDE_HAS_SIGNED", "This side has already signed")
            .missing(self.sides[which].name(), "has already signed")
            .help("Wait for the other signature or the start date."))
    }

    fn in_ceremony(&self, command: &SignAgreementRequest) -> Refused<()> {
        let mut refusal = Refusal::rule(
            "AG-1",
            "CEREMONY_MISSING",
            "This agreement must be signed in a ceremony that names its place",
        );
        if self.requirements.ceremony && !command.in_ceremony {
            refusal = refusal.missing("in_ceremony", "a ceremony");
        }
        if command.in_ceremony && command.place.is_empty() {
            refusal = refusal.missing("place", "the place of the ceremony");
        }
        if refusal.missing.is_empty() {
            return Ok(());
        }
        Err(refusal.help("Sign at the ceremony and name its place."))
    }

    fn guided(&self, which: Which, facts: &Facts) -> Refused<()> {
        if guided(&self.sides[which], facts.guidelines_need(which)) {
            return Ok(());
        }
        Err(Refusal::rule(
            "AG-11",
            "GUIDELINES_REQUIRED",
            "This city needs guidelines before it signs, because the partner's regime is not democratic",
        )
        .missing(self.sides[which].name(), "guidelines with grounds and answers to both risks")
        .help("State guidelines that bind all actors, or ask the mayor to go on without them and record a reason."))
    }

    /// Returns the signature, and the entry into force if both have signed and the start date is not in the future.
    pub(super) fn and_into_force(&self, signed: Change, level: AssuranceLevel, at: Moment) -> Vec<Emitted<Change>> {
        let stamp = Stamp { version: 0, at: at.now, actor: Actor::default(), party: None, level };
        let after = Agreement::fold(Some(self.clone()), &signed, &stamp);
        let mut out = vec![Emitted::at_level(signed, None, level)];
        if let Ok(after) = after
            && matches!(after.life, super::Life::Preparing)
            && after.signed_by_both()
            && after.first_day() <= at.today()
        {
            out.push(Emitted::at_level(after.entry(after.first_day()), None, level));
        }
        out
    }
}

/// Checks whether the caller may export the agreement.
///
/// # Errors
/// `NOT_FOUND` if the caller is not a party; refused under AG-12 if a signature is missing.
pub fn exportable(state: &Agreement, caller: &Caller) -> Refused<()> {
    party(state, caller)?;
    if state.signed_by_both() || !state.periods.is_empty() {
        return Ok(());
    }
    let mut refusal = Refusal::rule("AG-12", "NOT_SIGNED", "Only a signed agreement can be exported");
    for (subject, description) in state.outstanding() {
        refusal = refusal.missing(subject, description);
    }
    Err(refusal.help("Export the agreement after both sides have signed."))
}
