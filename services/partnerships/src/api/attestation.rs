//! The rpcs for acts outside the platform: imports of ties, attested steps and claims (AG-13).

use super::Agreements;
use crate::facts::{self, CityFactsReader};
use hansa_chassis::{ApiError, ApiResult, CommandContext, parse_name, row_result, undecided};
use hansa_journal::Command;
use hansa_kernel::{Caller, ReasonClass, Record, RecordName, Refusal, Refused, Relation, limits};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, Facts};
use hansa_proto::handlers::AttestationServiceHandler;
use hansa_proto::partnerships::{
    self as proto, AgreementRow, AttestStepRequest, BatchImportAgreementsRequest, ClaimAgreementRequest,
    ConfirmAttestationRequest, DisputeAttestationRequest, ImportAgreementRequest,
};
use hansa_proto::types::{RowResult, RowResults};
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
            Err(refusal) if refusal.class == ReasonClass::NotFound => return Err(Refusal::not_found(name)),
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
        let row = context.request.row.clone().unwrap_or_default();
        let imported = async {
            let cities = facts::named(&row.initiator, &row.partner)?;
            let facts = facts::of(&self.journal, &cities).await?;
            let id = agreement::import_id(&row.origin.clone().unwrap_or_default());
            let command = self.commands.create(
                &context,
                RecordName::new(COLLECTION, id),
                move |before, request: &ImportAgreementRequest, caller, now| {
                    agreement::import_new(before, &request.row.clone().unwrap_or_default(), caller, &facts, now)
                },
            );
            self.commands.respond(&context, command).await
        };
        self.commands.replay_or::<Agreement, _>(&context, imported).await
    }

    async fn batch_import_agreements(&self, request: Request<BatchImportAgreementsRequest>) -> ApiResult<RowResults> {
        let context = self.commands.accept(request)?;
        Ok(Response::new(RowResults { rows: self.import(&context).await? }))
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
    async fn import(&self, context: &CommandContext<BatchImportAgreementsRequest>) -> Result<Vec<RowResult>, ApiError> {
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
        let imported = |(index, (row, refusal)): (usize, (&AgreementRow, Option<Refusal>))| {
            let receipt = match refusal {
                Some(refusal) => Err(refusal),
                None => receipts.next().unwrap_or_else(|| Err(undecided())),
            };
            let outcome = receipt.map(|receipt| agreement::outcome(receipt.changes > 0));
            row_result(index, import_name(row).to_string(), outcome)
        };
        Ok(rows.iter().zip(refusals).enumerate().map(imported).collect())
    }

    fn import_command(
        &self,
        context: &CommandContext<BatchImportAgreementsRequest>,
        name: RecordName,
        row: &AgreementRow,
        facts: Facts,
    ) -> Refused<Command<Agreement>> {
        let part = context.part(name.id, ImportAgreementRequest { row: Some(row.clone()), ..Default::default() })?;
        let rule = move |before: Option<&Agreement>, request: &ImportAgreementRequest, caller: &Caller, now| {
            agreement::import_again(before, &request.row.clone().unwrap_or_default(), caller, &facts, now)
        };
        // The rows need no idempotency key: importing a tie again changes nothing.
        Ok(self.commands.create(&part, name, rule).idempotent(None))
    }
}

/// Returns the name of a row's agreement, which derives from its origin.
fn import_name(row: &AgreementRow) -> RecordName {
    RecordName::new(COLLECTION, agreement::import_id(&row.origin.clone().unwrap_or_default()))
}
