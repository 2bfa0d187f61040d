//! The rpcs for acts outside the platform: imports of ties, attested steps and claims (AG-13).

use super::Agreements;
use crate::facts::{self, CityFactsReader};
use hansa_chassis::{ApiError, ApiResult, CommandContext, parse_name};
use hansa_journal::{Command, Receipt};
use hansa_kernel::{Caller, Reason, Record, RecordName, Refusal, Refused, Relation, limits};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, Facts};
use hansa_proto::handlers::AttestationServiceHandler;
use hansa_proto::partnerships::{
    self as proto, AgreementImportOutcome, AgreementRow, AttestStepRequest, BatchImportAgreementsRequest,
    BatchImportAgreementsResponse, ClaimAgreementRequest, ConfirmAttestationRequest, DisputeAttestationRequest,
    ImportAgreementRequest, ImportedAgreement,
};
use tonic::{Request, Response};

impl Agreements {
    /// Checks that the caller's tenant is the city of a side, or may see the agreement. The policy permits strangers to
    /// claim, so this check hides the agreement from all other tenants.
    ///
    /// # Errors
    /// `NOT_FOUND` if neither is true.
    async fn is_side(&self, name: &RecordName, caller: &Caller) -> Refused<()> {
        let agreement = self.journal.load::<Agreement>(name).await?.ok_or_else(|| Refusal::not_found(name))?;
        if agreement.state.relation(caller) != Relation::Stranger {
            return Ok(());
        }
        let facts = match facts::of(&self.journal, &agreement.state.cities()).await {
            Err(refusal) if refusal.reason == Reason::NotFound => return Err(Refusal::not_found(name)),
            facts => facts?,
        };
        let own =
            [&facts.cities.initiator, &facts.cities.partner].iter().any(|city| city.tenant == Some(caller.tenant));
        if own { Ok(()) } else { Err(Refusal::not_found(name)) }
    }
}

impl AttestationServiceHandler for Agreements {
    type Error = ApiError;

    async fn import_agreement(&self, request: Request<ImportAgreementRequest>) -> ApiResult<proto::Agreement> {
        let context = self.commands.accept(request)?;
        let imported = async {
            let cities = facts::named(&context.request.initiator, &context.request.partner)?;
            let facts = facts::of(&self.journal, &cities).await?;
            let id = agreement::import_id(&context.request.origin.clone().unwrap_or_default());
            let command =
                self.commands.create(&context, RecordName::new(COLLECTION, id), move |before, request, caller, now| {
                    agreement::import_new(before, request, caller, &facts, now)
                });
            self.commands.respond(&context, command).await
        };
        self.commands.replay_or::<Agreement, _>(&context, imported).await
    }

    async fn batch_import_agreements(
        &self,
        request: Request<BatchImportAgreementsRequest>,
    ) -> ApiResult<BatchImportAgreementsResponse> {
        let context = self.commands.accept(request)?;
        Ok(Response::new(BatchImportAgreementsResponse { rows: self.import(&context).await? }))
    }

    async fn claim_agreement(&self, request: Request<ClaimAgreementRequest>) -> ApiResult<proto::Agreement> {
        let context = self.commands.accept(request)?;
        let claimed = async {
            self.is_side(&parse_name::<Agreement>("name", &context.request.name)?, &context.caller).await?;
            self.execute_with_facts(&context, |state, request, caller, facts, _| {
                agreement::claim(state, request, caller, facts)
            })
            .await
        };
        self.commands.replay_or::<Agreement, _>(&context, claimed).await
    }

    async fn attest_step(&self, request: Request<AttestStepRequest>) -> ApiResult<proto::Agreement> {
        self.execute_with_facts(&self.commands.accept(request)?, agreement::attest_step).await
    }

    async fn confirm_attestation(&self, request: Request<ConfirmAttestationRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::confirm_attestation).await
    }

    async fn dispute_attestation(&self, request: Request<DisputeAttestationRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::dispute_attestation).await
    }
}

impl Agreements {
    /// Imports many ties, each independently.
    async fn import(
        &self,
        context: &CommandContext<BatchImportAgreementsRequest>,
    ) -> Result<Vec<ImportedAgreement>, ApiError> {
        let rows = &context.request.rows;
        limits::rows(rows.len(), agreement::IMPORT_ROWS)?;
        let pairs: Vec<_> = rows.iter().map(|row| facts::named(&row.initiator, &row.partner)).collect();
        let cities = pairs.iter().flatten().flat_map(|pair| [pair.initiator, pair.partner]);
        let reader = CityFactsReader::read(&self.journal, &cities.collect::<Vec<_>>()).await?;
        let (mut commands, mut refusals) = (Vec::new(), Vec::with_capacity(rows.len()));
        for (row, pair) in rows.iter().zip(pairs) {
            let command = pair
                .and_then(|pair| reader.facts(&pair))
                .and_then(|facts| self.import_command(context, import_name(row), row, facts));
            refusals.push(command.map(|command| commands.push(command)).err());
        }
        let mut receipts = self.journal.submit_each(commands, context.validate_only).await.into_iter();
        let imported = |(row, refusal)| {
            match refusal {
                Some(refusal) => Err(refusal),
                None => receipts.next().unwrap_or_else(|| Err(missing_receipt())),
            }
            .map_or_else(|refusal| refused(row, &refusal), |receipt| accepted(row, &receipt))
        };
        Ok(rows.iter().zip(refusals).map(imported).collect())
    }

    fn import_command(
        &self,
        context: &CommandContext<BatchImportAgreementsRequest>,
        name: RecordName,
        row: &AgreementRow,
        facts: Facts,
    ) -> Refused<Command<Agreement>> {
        let request = ImportAgreementRequest {
            initiator: row.initiator.clone(),
            partner: row.partner.clone(),
            origin: row.origin.clone(),
            terms: row.terms.clone(),
            signed_date: row.signed_date,
            ..ImportAgreementRequest::default()
        };
        let part = context.part(name.id, request)?;
        let rule = move |before: Option<&Agreement>, request: &ImportAgreementRequest, caller: &Caller, now| {
            agreement::import_again(before, request, caller, &facts, now)
        };
        // The rows need no idempotency key: importing a tie again changes nothing.
        Ok(self.commands.create(&part, name, rule).idempotent(None))
    }
}

/// Returns the name of a row's agreement, which derives from its origin.
fn import_name(row: &AgreementRow) -> RecordName {
    RecordName::new(COLLECTION, agreement::import_id(&row.origin.clone().unwrap_or_default()))
}

fn accepted(row: &AgreementRow, receipt: &Receipt<Agreement>) -> ImportedAgreement {
    let outcome = agreement::outcome(receipt.changes > 0);
    ImportedAgreement { name: import_name(row).to_string(), outcome: outcome as i32, reason: String::new() }
}

fn refused(row: &AgreementRow, refusal: &Refusal) -> ImportedAgreement {
    ImportedAgreement {
        name: import_name(row).to_string(),
        outcome: AgreementImportOutcome::Refused as i32,
        reason: refusal.to_string(),
    }
}

fn missing_receipt() -> Refusal {
    Refusal::because(Reason::Unavailable, "PL-4", "the row was not decided").help("Send the row again.")
}
