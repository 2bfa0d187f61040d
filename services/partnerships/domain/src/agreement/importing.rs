//! How agreements that exist elsewhere are brought in (AG-13).

use super::{
    Agreement, Change, Facts, SignedOn, Which,
    proposing::{two_cities, whole_cities},
    rules::{at_level, role},
    terms::{Terms, last_day},
};
use chrono::Datelike;
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Moment, Reason, RecordId, Refusal, Refused, Role, limits::NAME_CHARS, text, time,
};
use hansa_proto::partnerships::{AgreementImportOutcome, AgreementImported, AgreementOrigin, ImportAgreementRequest};

/// Most rows of one import.
pub const IMPORT_ROWS: usize = 500;

/// The id of an imported agreement: the same for the same tie of the same source.
#[must_use]
pub fn import_id(origin: &AgreementOrigin) -> RecordId {
    RecordId::from_source(&format!("agreements/{}", origin.source), &origin.tie_id)
}

/// Brings in an agreement that exists elsewhere, as active.
///
/// # Errors
/// CT-2 where an end is a part of a city; AG-13 where it lacks a source, lies in the future or was over; AG-4 for one city twice.
pub fn import(command: &ImportAgreementRequest, caller: &Caller, facts: &Facts, at: Moment) -> Decision<Change> {
    role(caller, &[Role::Steward])?;
    two_cities(&command.initiator, &command.partner, facts)?;
    whole_cities(facts)?;
    let origin = origin(command.origin.as_ref())?;
    let mut terms = Terms::read(&command.terms.clone().unwrap_or_default())?;
    signed_before(command, at)?;
    if let Some(start) = terms.start
        && start > at.today()
    {
        return Err(Refusal::rule("AG-13", "An import is in force already")
            .missing("terms.start_date", "is in the future")
            .help("Let one of the cities propose it."));
    }
    terms.start = present_term(&terms, at)?;
    let entry = |which| Some(facts.entry(which, None));
    let change = AgreementImported {
        initiator: entry(Which::Initiator),
        partner: entry(Which::Partner),
        terms: Some(terms.to_proto()),
        settings: Some(facts.settings.clock.to_proto()),
        origin: Some(origin),
        signed_date: command.signed_date,
        keeper: caller.tenant.name(),
        import_date: Some(time::date(at.today())),
    };
    Ok(at_level(change, AssuranceLevel::Attested))
}

/// The same where a tie of that id may be there already.
///
/// # Errors
/// ALREADY_EXISTS where it is, and as [`import`].
pub fn import_new(
    before: Option<&Agreement>,
    command: &ImportAgreementRequest,
    caller: &Caller,
    facts: &Facts,
    at: Moment,
) -> Decision<Change> {
    let decision = import(command, caller, facts, at)?;
    if before.is_some() {
        return Err(there_already());
    }
    Ok(decision)
}

fn there_already() -> Refusal {
    Refusal::because(Reason::AlreadyExists, "AG-13", "The tie was brought in before")
        .missing("origin", "is the origin of an agreement that is there")
        .help("Read the agreement; its parties keep it up to date.")
}

/// One row of an import of many. A tie that is there already stays as it is.
///
/// # Errors
/// ALREADY_EXISTS where the tie is one of other cities, and as [`import`].
pub fn import_again(
    before: Option<&Agreement>,
    command: &ImportAgreementRequest,
    caller: &Caller,
    facts: &Facts,
    at: Moment,
) -> Decision<Change> {
    let decision = import(command, caller, facts, at)?;
    match before {
        None => Ok(decision),
        Some(before) if Which::ALL.into_iter().all(|which| is_of(before, which, facts)) => Ok(Vec::new()),
        Some(_) => Err(there_already()),
    }
}

/// Whether a side is the city that the row names, or the one that its records follow by now (CT-11).
fn is_of(before: &Agreement, which: Which, facts: &Facts) -> bool {
    let (side, named) = (before.sides[which].city, &facts.cities[which]);
    side == named.city || Some(side) == named.successor
}

/// What became of a row.
#[must_use]
pub fn outcome(decision: &Decision<Change>) -> AgreementImportOutcome {
    match decision {
        Err(_) => AgreementImportOutcome::Refused,
        Ok(happened) if happened.is_empty() => AgreementImportOutcome::Unchanged,
        Ok(_) => AgreementImportOutcome::Created,
    }
}

fn origin(origin: Option<&AgreementOrigin>) -> Refused<AgreementOrigin> {
    let origin = origin.cloned().unwrap_or_default();
    if origin.source.is_empty() || origin.tie_id.is_empty() {
        return Err(Refusal::rule("AG-13", "An import says where it comes from")
            .missing("origin", "source and tie id")
            .help("Name the source and what it calls the tie."));
    }
    text::name("origin.source", &origin.source)?;
    text::name("origin.tie_id", &origin.tie_id)?;
    if origin.claimed_by.chars().count() > NAME_CHARS {
        return Err(Refusal::field("origin.claimed_by", format!("is longer than {NAME_CHARS} characters")));
    }
    Ok(origin)
}

fn signed_before(command: &ImportAgreementRequest, at: Moment) -> Refused<()> {
    let future = match SignedOn::read("signed_date", command.signed_date.as_ref())? {
        SignedOn::Unknown => false,
        SignedOn::Year(year) => year > at.today().year(),
        SignedOn::Day(day) => day > at.today(),
    };
    if !future {
        return Ok(());
    }
    Err(Refusal::rule("AG-13", "An import is signed already")
        .missing("signed_date", "is in the future")
        .help("Correct the date, or leave it out where the source does not say."))
}

/// The first day of the term that runs today.
fn present_term(terms: &Terms, at: Moment) -> Refused<Option<chrono::NaiveDate>> {
    let Some(term) = terms.term else { return Ok(terms.start) };
    let Some(start) = terms.start else {
        return Err(Refusal::field("terms.start_date", "is required with a term"));
    };
    let today = at.today();
    if last_day(start, term.months, 1) >= today {
        return Ok(Some(start));
    }
    if !term.renews {
        return Err(Refusal::rule("AG-13", "The term of the import was over")
            .missing("terms.term_months", "its term must include today")
            .help("Leave the term out where the source says that it is in force."));
    }
    let months = (today.year() - start.year()) * 12 + today.month().cast_signed() - start.month().cast_signed();
    // The count of whole terms may be one too many, where today is early in its month.
    let count = months.max(0).cast_unsigned() / term.months;
    let begins = |count: u32| time::months_later(start, term.months.saturating_mul(count));
    Ok(Some(if begins(count) > today { begins(count.saturating_sub(1)) } else { begins(count) }))
}
