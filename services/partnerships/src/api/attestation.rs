//! What was done outside the platform: ties that are brought in, steps that are attested, sides that are claimed (AG-13).

use super::{
    Agreements, Answer,
    facts::{self, Known},
};
use hansa_chassis::{Act, Desk, ask, bounded, named, timeless};
use hansa_journal::{Command, Receipt};
use hansa_kernel::{Caller, Moment, Reason, Record, RecordId, RecordName, Refusal, Refused, Relation, limits};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, Facts};
use hansa_proto::partnerships::{
    AgreementImportOutcome, AgreementRow, AttestStepRequest, BatchImportAgreementsRequest,
    BatchImportAgreementsResponse, ClaimAgreementRequest, ConfirmAttestationRequest, DisputeAttestationRequest,
    ImportAgreementRequest, ImportedAgreement,
    attestation_service_server::{AttestationService, AttestationServiceServer},
};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::{Request, Response, Status};

/// The gRPC service.
pub fn server(desk: Desk) -> AttestationServiceServer<impl AttestationService> {
    bounded!(AttestationServiceServer::new(Agreements(desk)))
}

impl Agreements {
    /// Whether the caller may come as the city of a side, or sees the agreement in any case. To all others it is not there,
    /// whatever else they send: the policy lets strangers claim, and does not stop them.
    async fn is_side(&self, name: &RecordName, caller: &Caller) -> Refused<()> {
        let agreement = self.0.journal().load::<Agreement>(name).await?.ok_or_else(|| Refusal::not_found(name))?;
        if agreement.state.relation(caller) != Relation::Stranger {
            return Ok(());
        }
        let facts = match facts::of(self.0.journal(), &agreement.state.cities()).await {
            Err(refusal) if refusal.reason == Reason::NotFound => return Err(Refusal::not_found(name)),
            facts => facts?,
        };
        let own =
            [&facts.cities.initiator, &facts.cities.partner].iter().any(|city| city.tenant == Some(caller.tenant));
        if own { Ok(()) } else { Err(Refusal::not_found(name)) }
    }
}

#[tonic::async_trait]
impl AttestationService for Agreements {
    async fn import_agreement(&self, request: Request<ImportAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        let imported = async {
            let cities = ask(facts::named(&act.request.initiator, &act.request.partner))?;
            let facts = ask(facts::of(self.0.journal(), &cities).await)?;
            let id = agreement::import_id(&act.request.origin.clone().unwrap_or_default());
            let command = self.0.make(&act, RecordName::new(COLLECTION, id), move |before, asked, caller, at| {
                agreement::import_new(before, asked, caller, &facts, at)
            });
            self.0.done(&act, command).await
        };
        self.0.once::<Agreement, _>(&act, imported).await
    }

    async fn batch_import_agreements(
        &self,
        request: Request<BatchImportAgreementsRequest>,
    ) -> Result<Response<BatchImportAgreementsResponse>, Status> {
        let act = self.0.open(request)?;
        Ok(Response::new(BatchImportAgreementsResponse { rows: import(&self.0, &act).await? }))
    }

    async fn claim_agreement(&self, request: Request<ClaimAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        let claimed = async {
            ask(self.is_side(&named::<Agreement>("name", &act.request.name)?, &act.caller).await)?;
            self.informed(&act, |state, asked, caller, facts, _| agreement::claim(state, asked, caller, facts)).await
        };
        self.0.once::<Agreement, _>(&act, claimed).await
    }

    async fn attest_step(&self, request: Request<AttestStepRequest>) -> Answer {
        self.informed(&self.0.open(request)?, agreement::attest_step).await
    }

    async fn confirm_attestation(&self, request: Request<ConfirmAttestationRequest>) -> Answer {
        self.0.step(request, timeless(agreement::confirm_attestation)).await
    }

    async fn dispute_attestation(&self, request: Request<DisputeAttestationRequest>) -> Answer {
        self.0.step(request, timeless(agreement::dispute_attestation)).await
    }
}

type Outcome = Arc<Mutex<AgreementImportOutcome>>;

/// A row on its way: the record that it is about and what became of it, or why it cannot be used.
type Row = Result<(RecordName, Outcome), (String, Refusal)>;

/// Brings in many ties, each for itself.
async fn import(desk: &Desk, act: &Act<BatchImportAgreementsRequest>) -> Result<Vec<ImportedAgreement>, Status> {
    let rows = &act.request.rows;
    ask(limits::rows(rows.len(), agreement::IMPORT_ROWS))?;
    let pairs: Vec<_> = rows.iter().map(|row| facts::named(&row.initiator, &row.partner)).collect();
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
        None => refused(
            name,
            &Refusal::because(Reason::Unavailable, "PL-4", "the row was not decided").help("Send the row again."),
        ),
    }
}

fn refused(name: String, refusal: &Refusal) -> ImportedAgreement {
    ImportedAgreement { name, outcome: AgreementImportOutcome::Refused as i32, reason: refusal.to_string() }
}
