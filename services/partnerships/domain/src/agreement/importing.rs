//! Imports of agreements that were concluded outside the platform (AG-13).

use super::{
    Agreement, Change, Facts, SignedOn, Which,
    proposing::{two_cities, whole_cities},
    rules::{at_level, role},
    terms::{Terms, last_day},
};
use chrono::Datelike;
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Moment, ReasonClass, RecordId, Refusal, Refused, Role, limits::NAME_CHARS, text,
    time,
};
use hansa_proto::partnerships::{AgreementImported, AgreementOrigin, AgreementRow};
use hansa_proto::types::RowOutcome;

/// Maximum number of rows in one batch import.
pub const IMPORT_ROWS: usize = 500;

/// Derives the id of an imported agreement. The same tie of the same source always has the same id.
#[must_use]
pub fn import_id(origin: &AgreementOrigin) -> RecordId {
    RecordId::from_source(&format!("agreements/{}", origin.source), &origin.external_id)
}

/// Imports an agreement that exists outside the platform, as an active one.
///
/// # Errors
/// Refused under CT-2 if a city is a part of another; AG-13 if the import names no source, starts in the future or is
/// already over; AG-4 if both cities are the same.
pub fn import(row: &AgreementRow, caller: &Caller, facts: &Facts, at: Moment) -> Decision<Change> {
    role(caller, &[Role::Steward])?;
    two_cities(&row.initiator, &row.partner, facts)?;
    whole_cities(facts)?;
    let origin = origin(row.origin.as_ref())?;
    let mut terms = Terms::read(&row.terms.clone().unwrap_or_default())?;
    signed_before(row, at)?;
    if let Some(start) = terms.start
        && start > at.today()
    {
        return Err(Refusal::rule("AG-13", "IMPORT_NOT_IN_FORCE", "An imported agreement must already be in force")
            .missing("terms.start_date", "is in the future")
            .help("Ask one of the cities to propose the agreement."));
    }
    terms.start = present_term(&terms, at)?;
    let entry = |which| Some(facts.entry(which, None));
    let change = AgreementImported {
        initiator: entry(Which::Initiator),
        partner: entry(Which::Partner),
        terms: Some(terms.to_proto()),
        settings: Some(facts.settings.clock.to_proto()),
        origin: Some(origin),
        signed_date: row.signed_date,
        keeper: caller.tenant.name(),
        import_date: Some(time::date(at.today())),
    };
    Ok(at_level(change, AssuranceLevel::Attested))
}

/// Imports a single agreement.
///
/// # Errors
/// `ALREADY_EXISTS` if the tie has been imported before; otherwise as for [`import`].
pub fn import_new(
    before: Option<&Agreement>,
    row: &AgreementRow,
    caller: &Caller,
    facts: &Facts,
    at: Moment,
) -> Decision<Change> {
    let decision = import(row, caller, facts, at)?;
    if before.is_some() {
        return Err(there_already());
    }
    Ok(decision)
}

fn there_already() -> Refusal {
    Refusal::because(ReasonClass::AlreadyExists, "AG-13", "TIE_IMPORTED", "The tie has been imported before")
        .missing("origin", "is the origin of an existing agreement")
        .help("Read the agreement; its parties keep it up to date.")
}

/// Imports one row of a batch. An existing tie stays unchanged.
///
/// # Errors
/// `ALREADY_EXISTS` if the existing tie is between other cities; otherwise as for [`import`].
pub fn import_again(
    before: Option<&Agreement>,
    row: &AgreementRow,
    caller: &Caller,
    facts: &Facts,
    at: Moment,
) -> Decision<Change> {
    let decision = import(row, caller, facts, at)?;
    match before {
        None => Ok(decision),
        Some(before) if Which::ALL.into_iter().all(|which| is_of(before, which, facts)) => Ok(Vec::new()),
        Some(_) => Err(there_already()),
    }
}

/// Returns whether a side is the city that the row names, or its successor (CT-11).
fn is_of(before: &Agreement, which: Which, facts: &Facts) -> bool {
    let (side, named) = (before.sides[which].city, &facts.cities[which]);
    side == named.city || Some(side) == named.successor
}

/// Returns the outcome of an accepted row. `is_changed` tells whether the import changed anything.
#[must_use]
pub fn outcome(is_changed: bool) -> RowOutcome {
    if is_changed { RowOutcome::Created } else { RowOutcome::Unchanged }
}

fn origin(origin: Option<&AgreementOrigin>) -> Refused<AgreementOrigin> {
    let origin = origin.cloned().unwrap_or_default();
    if origin.source.is_empty() || origin.external_id.is_empty() {
        return Err(Refusal::rule("AG-13", "IMPORT_ORIGIN_MISSING", "An import must name its origin")
            .missing("origin", "source and external id")
            .help("Name the source and the tie's id in that source."));
    }
    text::name("origin.source", &origin.source)?;
    text::name("origin.external_id", &origin.external_id)?;
    if origin.claimed_by.chars().count() > NAME_CHARS {
        return Err(Refusal::field("origin.claimed_by", format!("is longer than {NAME_CHARS} characters")));
    }
    Ok(origin)
}

fn signed_before(row: &AgreementRow, at: Moment) -> Refused<()> {
    let future = match SignedOn::read("signed_date", row.signed_date.as_ref())? {
        SignedOn::Unknown => false,
        SignedOn::Year(year) => year > at.today().year(),
        SignedOn::Day(day) => day > at.today(),
    };
    if !future {
        return Ok(());
    }
    Err(Refusal::rule("AG-13", "IMPORT_NOT_SIGNED", "An imported agreement must already be signed")
        .missing("signed_date", "is in the future")
        .help("Correct the date, or leave it out if the source does not state it."))
}

/// Returns the first day of the term that includes today.
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
        return Err(Refusal::rule("AG-13", "IMPORT_TERM_OVER", "The term of the imported agreement is over")
            .missing("terms.term_months", "the term must include today")
            .help("Leave the term out if the source says that the agreement is in force."));
    }
    let months = (today.year() - start.year()) * 12 + today.month().cast_signed() - start.month().cast_signed();
    // The count of whole months may be one too high, if today is earlier in its month than the start.
    let count = months.max(0).cast_unsigned() / term.months;
    let begins = |count: u32| time::months_later(start, term.months.saturating_mul(count));
    Ok(Some(if begins(count) > today { begins(count.saturating_sub(1)) } else { begins(count) }))
}
