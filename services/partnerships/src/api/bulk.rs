//! Decisions over many agreements, and imports of many: AG-10, AG-13.

use super::{
    ask,
    facts::{Known, named},
};
use crate::views;
use hansa_chassis::{Act, Desk};
use hansa_journal::{Command, Loaded, Receipt};
use hansa_kernel::{Caller, Decision, Moment, Reason, RecordId, RecordName, Refusal, Refused};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, Change, Facts};
use hansa_proto::{
    Texts, WriteRequest,
    partnerships::{
        AgreementImportOutcome, AgreementOutcome, AgreementRow, BatchImportAgreementsRequest, ImportAgreementRequest,
        ImportedAgreement,
    },
};
use prost::Message;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Status;

/// Most agreements that one decision reaches.
const DECISION_AGREEMENTS: usize = 2_000;
/// Agreements that are looked for at once.
const AGREEMENTS_A_PAGE: u64 = 1_000;

fn too_many(rule: &'static str, what: &str, most: usize) -> Refusal {
    Refusal::because(Reason::Limit, rule, format!("{what} are more than {most}"))
}

/// The agreements of the caller's city with cities of a country, in a steady order, whatever their state.
async fn with_country<Q>(desk: &Desk, act: &Act<Q>, country: &str) -> Refused<Vec<Loaded<Agreement>>> {
    let mut found = Vec::new();
    let mut after: Option<Vec<String>> = None;
    loop {
        let store = desk.journal().store();
        let page = views::agreement::own_with(store, &act.caller, country, after.as_deref(), AGREEMENTS_A_PAGE).await?;
        found.extend(desk.journal().load_each::<Agreement>(&page.ids).await?);
        if found.len() > DECISION_AGREEMENTS {
            return Err(too_many("AG-10", "the agreements", DECISION_AGREEMENTS));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

/// One decision over all agreements with a country: a command a record, each decided for itself.
pub async fn decide<Q, P>(
    desk: &Desk,
    act: &Act<Q>,
    country: &str,
    each: fn(&Q, &RecordName) -> P,
    rule: fn(&Agreement, &P, &Caller, Moment) -> Decision<Change>,
) -> Result<Vec<AgreementOutcome>, Status>
where
    P: WriteRequest + Texts + Message + 'static,
{
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return ask(Err(Refusal::field("country_code", "is not an ISO 3166-1 alpha-2 code")));
    }
    let mut found = ask(with_country(desk, act, country).await)?;
    let reached = |one: &Loaded<Agreement>| one.state.reached_by(act.caller.tenant, country);
    // A repetition finds that its first coming has done its work: those records are asked again, and answer as before.
    found.retain(|one| act.repeatable() || reached(one));
    let mut commands = Vec::with_capacity(found.len());
    for one in &found {
        let part = ask(act.part(one.name.id, each(&act.request, &one.name)))?;
        commands.push(desk.on(&part, one.name.clone(), "", rule));
    }
    let receipts = desk.journal().submit_each(commands, act.validate_only).await;
    let answers = found.iter().zip(receipts);
    let shown = answers.filter(|(one, receipt)| reached(one) || receipt.as_ref().is_ok_and(|r| r.repeated));
    Ok(shown.map(|(one, receipt)| outcome(&one.name, receipt)).collect())
}

fn outcome(name: &RecordName, receipt: Result<Receipt<Agreement>, Refusal>) -> AgreementOutcome {
    let refusal = receipt.err().map(|refusal| refusal.to_string());
    AgreementOutcome { name: name.to_string(), done: refusal.is_none(), refusal: refusal.unwrap_or_default() }
}

type Outcome = Arc<Mutex<AgreementImportOutcome>>;

/// A row on its way: the record that it is about and what became of it, or why it cannot be used.
type Row = Result<(RecordName, Outcome), (String, Refusal)>;

/// Brings in many ties, each for itself.
pub async fn import(desk: &Desk, act: &Act<BatchImportAgreementsRequest>) -> Result<Vec<ImportedAgreement>, Status> {
    let rows = &act.request.rows;
    if rows.len() > agreement::IMPORT_ROWS {
        return ask(Err(too_many("PL-4", "the rows", agreement::IMPORT_ROWS)));
    }
    let pairs: Vec<_> = rows.iter().map(|row| named(&row.initiator, &row.partner)).collect();
    let cities: Vec<RecordId> =
        pairs.iter().filter_map(|pair| pair.as_ref().ok()).flat_map(|pair| [pair.initiator, pair.partner]).collect();
    let known = ask(Known::read(desk.journal(), &cities).await)?;
    let (mut commands, mut answers): (Vec<Command<Agreement>>, Vec<Row>) = (Vec::new(), Vec::new());
    for (row, pair) in rows.iter().zip(pairs) {
        let name = RecordName::new(COLLECTION, agreement::import_id(&row.origin.clone().unwrap_or_default()));
        answers.push(match pair.and_then(|pair| known.facts(&pair)) {
            Ok(facts) => {
                let outcome = Outcome::default();
                commands.push(ask(command(desk, act, &name, row, facts, outcome.clone()))?);
                Ok((name, outcome))
            }
            Err(refusal) => Err((name.to_string(), refusal)),
        });
    }
    let mut receipts = desk.journal().submit_each(commands, act.validate_only).await.into_iter();
    Ok(answers
        .into_iter()
        .map(|row| match row {
            Ok((name, outcome)) => imported(name.to_string(), &outcome, receipts.next()),
            Err((name, refusal)) => refused(name, &refusal),
        })
        .collect())
}

fn command(
    desk: &Desk,
    act: &Act<BatchImportAgreementsRequest>,
    name: &RecordName,
    row: &AgreementRow,
    facts: Facts,
    outcome: Outcome,
) -> Refused<Command<Agreement>> {
    let request = ImportAgreementRequest {
        initiator: row.initiator.clone(),
        partner: row.partner.clone(),
        origin: row.origin.clone(),
        terms: row.terms.clone(),
        signed_date: row.signed_date,
        ..ImportAgreementRequest::default()
    };
    let part = act.part(name.id, request)?;
    let rule = move |before: Option<&Agreement>, asked: &ImportAgreementRequest, caller: &Caller, at: Moment| {
        let decision = agreement::import_again(before, asked, caller, &facts, at);
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = agreement::outcome(&decision);
        decision
    };
    // The tie's own id is what makes a repetition harmless.
    Ok(desk.make(&part, name.clone(), rule).once(None))
}

fn imported(
    name: String,
    outcome: &Outcome,
    receipt: Option<Result<Receipt<Agreement>, Refusal>>,
) -> ImportedAgreement {
    match receipt {
        Some(Ok(_)) => {
            let outcome = *outcome.lock().unwrap_or_else(PoisonError::into_inner);
            ImportedAgreement { name, outcome: outcome as i32, reason: String::new() }
        }
        Some(Err(refusal)) => refused(name, &refusal),
        None => refused(name, &Refusal::because(Reason::Unavailable, "PL-4", "the row was not decided")),
    }
}

fn refused(name: String, refusal: &Refusal) -> ImportedAgreement {
    ImportedAgreement { name, outcome: AgreementImportOutcome::Refused as i32, reason: refusal.to_string() }
}
