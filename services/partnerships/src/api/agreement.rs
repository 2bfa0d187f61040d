//! Agreements of two cities: AG-1 to AG-14.

use super::{agreement_name, ask, bulk, export, facts};
use crate::views;
use hansa_chassis::{
    Act, Desk,
    desk::new_id,
    limits::{REQUEST_BYTES, RESPONSE_BYTES},
    page::Page,
};
use hansa_journal::Receipt;
use hansa_kernel::{Caller, Decision, Moment, Reason, Record, RecordName, Refusal, Refused, Relation};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, Change, Facts};
use hansa_proto::{
    WriteRequest,
    partnerships::{
        self as proto, AgreementDocument, AttestStepRequest, BatchImportAgreementsRequest,
        BatchImportAgreementsResponse, ClaimAgreementRequest, ConfirmAttestationRequest, ConfirmPlanRequest,
        ConfirmRationaleRequest, ConfirmRenewalRequest, ConfirmRevitalisationRequest, CreateAgreementRequest,
        DeclineAgreementRequest, DeleteAgreementRequest, DisputeAttestationRequest, EndAgreementRequest,
        EndAgreementsRequest, EndAgreementsResponse, ExportAgreementRequest, GetAgreementRequest,
        ImportAgreementRequest, LiftSuspensionRequest, ListActivitiesRequest, ListActivitiesResponse,
        ListAgreementsRequest, ListAgreementsResponse, OpenDialogueRequest, OverrideGuidelinesRequest,
        PutForwardPlanRequest, PutForwardRationaleRequest, RecordActivityRequest, RecordCouncilVoteRequest,
        RenewAgreementRequest, ReviseTermsRequest, RevitaliseAgreementRequest, SetCommitteeRequest,
        SignAgreementRequest, StateGuidelinesRequest, SuspendAgreementRequest, SuspendAgreementsRequest,
        SuspendAgreementsResponse, WithdrawAgreementRequest,
        agreement_service_server::{AgreementService, AgreementServiceServer},
    },
};
use tonic::{Request, Response, Status};

/// The methods, over a desk.
pub(crate) struct Agreements(pub(crate) Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> AgreementServiceServer<impl AgreementService> {
    AgreementServiceServer::new(Agreements(desk))
        .max_decoding_message_size(REQUEST_BYTES)
        .max_encoding_message_size(RESPONSE_BYTES)
}

type Answer = Result<Response<proto::Agreement>, Status>;
type Rule<Q> = fn(&Agreement, &Q, &Caller, Moment) -> Decision<Change>;
type Informed<Q> = fn(&Agreement, &Q, &Caller, &Facts, Moment) -> Decision<Change>;

impl Agreements {
    /// The usual command: one agreement, one rule.
    async fn step<Q>(&self, act: &Act<Q>, name: &str, rule: Rule<Q>) -> Answer
    where
        Q: WriteRequest + Send + Sync + 'static,
    {
        let command = self.0.on(act, agreement_name(name, "name")?, act.request.etag(), rule);
        let receipt = self.0.submit(act, command).await?;
        self.shown(act, &receipt).await
    }

    /// The same for a rule that needs to know the cities. Where they are not known, that is said only to a caller who may
    /// see the agreement.
    async fn informed<Q>(&self, act: &Act<Q>, name: &str, rule: Informed<Q>) -> Answer
    where
        Q: WriteRequest + Send + Sync + 'static,
    {
        let name = agreement_name(name, "name")?;
        let facts = facts::of_record(self.0.journal(), &name).await;
        let subject = name.clone();
        let command =
            self.0.on(act, name, act.request.etag(), move |state: &Agreement, asked: &Q, caller: &Caller, at| {
                match &facts {
                    Ok(facts) => rule(state, asked, caller, facts, at),
                    Err(_) if state.relation(caller) == Relation::Stranger => Err(Refusal::not_found(&subject)),
                    Err(refusal) => Err(refusal.clone()),
                }
            });
        let receipt = self.0.submit(act, command).await?;
        self.shown(act, &receipt).await
    }

    async fn shown<Q>(&self, act: &Act<Q>, receipt: &Receipt<Agreement>) -> Answer {
        self.0.answer(act, receipt.state.resource_for(&act.caller, &receipt.name, &receipt.etag)).await
    }

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

    /// The agreement whose place another is to take, as far as the caller may see it.
    async fn predecessor(&self, act: &Act<CreateAgreementRequest>) -> Result<Option<Agreement>, Status> {
        if act.request.supersedes.is_empty() {
            return Ok(None);
        }
        let name = agreement_name(&act.request.supersedes, "supersedes")?;
        let old = ask(self.0.journal().load::<Agreement>(&name).await)?;
        let seen = old.filter(|old| old.state.relation(&act.caller) != Relation::Stranger);
        Ok(seen.map(|old| (*old.state).clone()))
    }
}

#[tonic::async_trait]
impl AgreementService for Agreements {
    async fn create_agreement(&self, request: Request<CreateAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        let cities = ask(facts::named(&act.request.initiator, &act.request.partner))?;
        let facts = ask(facts::of(self.0.journal(), &cities).await)?;
        let old = self.predecessor(&act).await?;
        let name = RecordName::new(COLLECTION, new_id());
        let command = self.0.make(&act, name, move |_: Option<&Agreement>, asked, caller, at| {
            agreement::propose(asked, caller, &facts, old.as_ref(), at)
        });
        let receipt = self.0.submit(&act, command).await?;
        self.shown(&act, &receipt).await
    }

    async fn import_agreement(&self, request: Request<ImportAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        let cities = ask(facts::named(&act.request.initiator, &act.request.partner))?;
        let facts = ask(facts::of(self.0.journal(), &cities).await)?;
        let id = agreement::import_id(&act.request.origin.clone().unwrap_or_default());
        let command = self.0.make(&act, RecordName::new(COLLECTION, id), move |before, asked, caller, at| {
            agreement::import_new(before, asked, caller, &facts, at)
        });
        let receipt = self.0.submit(&act, command).await?;
        self.shown(&act, &receipt).await
    }

    async fn batch_import_agreements(
        &self,
        request: Request<BatchImportAgreementsRequest>,
    ) -> Result<Response<BatchImportAgreementsResponse>, Status> {
        let act = self.0.open(request)?;
        Ok(Response::new(BatchImportAgreementsResponse { rows: bulk::import(&self.0, &act).await? }))
    }

    async fn delete_agreement(&self, request: Request<DeleteAgreementRequest>) -> Result<Response<()>, Status> {
        let act = self.0.open(request)?;
        let name = agreement_name(&act.request.name, "name")?;
        let command = self.0.delete(&act, name, &act.request.etag, agreement::delete);
        self.0.submit(&act, command).await?;
        Ok(Response::new(()))
    }

    async fn get_agreement(&self, request: Request<GetAgreementRequest>) -> Answer {
        let name = agreement_name(&request.get_ref().name, "name")?;
        let caller = self.0.caller(&request)?;
        let agreement = self.0.read::<Agreement, _>(&request, &name).await?;
        let shown = agreement.state.resource_for(&caller, &name, &agreement.etag);
        Ok(Response::new(self.0.resolve(vec![shown]).await?.swap_remove(0)))
    }

    async fn list_agreements(
        &self,
        request: Request<ListAgreementsRequest>,
    ) -> Result<Response<ListAgreementsResponse>, Status> {
        let (asked, caller) = (request.get_ref(), self.0.caller(&request)?);
        let page = ask(Page::of(asked, &views::agreement::question(asked)))?;
        let found = ask(views::agreement::list(self.0.journal().store(), &caller, asked, &page).await)?;
        let agreements = self.0.read_each::<Agreement, _>(&request, &found.ids).await?;
        let shown = agreements.iter().map(|one| one.state.resource_for(&caller, &one.name, &one.etag)).collect();
        let agreements = self.0.resolve(shown).await?;
        Ok(Response::new(ListAgreementsResponse { agreements, next_page_token: page.next(found.next) }))
    }

    async fn list_activities(
        &self,
        request: Request<ListActivitiesRequest>,
    ) -> Result<Response<ListActivitiesResponse>, Status> {
        let asked = request.get_ref();
        let name = agreement_name(&asked.parent, "parent")?;
        let page = ask(Page::of(asked, &format!("activities {name}")))?;
        let agreement = self.0.read::<Agreement, _>(&request, &name).await?;
        let skip = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0_usize);
        let most = usize::try_from(page.size).unwrap_or(usize::MAX);
        let caller = self.0.caller(&request)?;
        let activities = ask(agreement.state.activities_for(&caller, name.id, skip, most))?;
        let (after, count) = (skip.saturating_add(activities.len()), agreement.state.activity_count());
        let activities = self.0.resolve(activities).await?;
        let next_page_token = page.next((after < count).then(|| vec![after.to_string()]));
        Ok(Response::new(ListActivitiesResponse { activities, next_page_token }))
    }

    async fn export_agreement(
        &self,
        request: Request<ExportAgreementRequest>,
    ) -> Result<Response<AgreementDocument>, Status> {
        let name = agreement_name(&request.get_ref().name, "name")?;
        let caller = self.0.caller(&request)?;
        let agreement = self.0.read::<Agreement, _>(&request, &name).await?;
        ask(agreement::exportable(&agreement.state, &caller))?;
        let shown = self.0.resolve(vec![agreement.state.resource(&name, &agreement.etag)]).await?.swap_remove(0);
        Ok(Response::new(ask(export::document(self.0.journal(), &agreement, shown).await)?))
    }

    async fn open_dialogue(&self, request: Request<OpenDialogueRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::open_dialogue(state, asked, caller))
            .await
    }

    async fn revise_terms(&self, request: Request<ReviseTermsRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.informed(&act, &act.request.name, agreement::revise_terms).await
    }

    async fn put_forward_rationale(&self, request: Request<PutForwardRationaleRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| {
            agreement::put_forward_rationale(state, asked, caller)
        })
        .await
    }

    async fn confirm_rationale(&self, request: Request<ConfirmRationaleRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::confirm_rationale(state, asked, caller))
            .await
    }

    async fn put_forward_plan(&self, request: Request<PutForwardPlanRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::put_forward_plan(state, asked, caller))
            .await
    }

    async fn confirm_plan(&self, request: Request<ConfirmPlanRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::confirm_plan(state, asked, caller))
            .await
    }

    async fn record_council_vote(&self, request: Request<RecordCouncilVoteRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, agreement::record_council_vote).await
    }

    async fn state_guidelines(&self, request: Request<StateGuidelinesRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::state_guidelines(state, asked, caller))
            .await
    }

    async fn override_guidelines(&self, request: Request<OverrideGuidelinesRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.informed(&act, &act.request.name, |state, asked, caller, facts, _| {
            agreement::override_guidelines(state, asked, caller, facts)
        })
        .await
    }

    async fn sign_agreement(&self, request: Request<SignAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.informed(&act, &act.request.name, agreement::sign).await
    }

    async fn decline_agreement(&self, request: Request<DeclineAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::decline(state, asked, caller)).await
    }

    async fn withdraw_agreement(&self, request: Request<WithdrawAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::withdraw(state, asked, caller)).await
    }

    async fn record_activity(&self, request: Request<RecordActivityRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, agreement::record_activity).await
    }

    async fn revitalise_agreement(&self, request: Request<RevitaliseAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::revitalise(state, asked, caller)).await
    }

    async fn confirm_revitalisation(&self, request: Request<ConfirmRevitalisationRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, agreement::confirm_revitalisation).await
    }

    async fn suspend_agreement(&self, request: Request<SuspendAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, agreement::suspend).await
    }

    async fn lift_suspension(&self, request: Request<LiftSuspensionRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, agreement::lift_suspension).await
    }

    async fn renew_agreement(&self, request: Request<RenewAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::renew(state, asked, caller)).await
    }

    async fn confirm_renewal(&self, request: Request<ConfirmRenewalRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, agreement::confirm_renewal).await
    }

    async fn end_agreement(&self, request: Request<EndAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, agreement::end).await
    }

    async fn claim_agreement(&self, request: Request<ClaimAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        ask(self.is_side(&agreement_name(&act.request.name, "name")?, &act.caller).await)?;
        self.informed(&act, &act.request.name, |state, asked, caller, facts, _| {
            agreement::claim(state, asked, caller, facts)
        })
        .await
    }

    async fn attest_step(&self, request: Request<AttestStepRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.informed(&act, &act.request.name, agreement::attest_step).await
    }

    async fn confirm_attestation(&self, request: Request<ConfirmAttestationRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| {
            agreement::confirm_attestation(state, asked, caller)
        })
        .await
    }

    async fn dispute_attestation(&self, request: Request<DisputeAttestationRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| {
            agreement::dispute_attestation(state, asked, caller)
        })
        .await
    }

    async fn set_committee(&self, request: Request<SetCommitteeRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.step(&act, &act.request.name, |state, asked, caller, _| agreement::set_committee(state, asked, caller))
            .await
    }

    async fn end_agreements(
        &self,
        request: Request<EndAgreementsRequest>,
    ) -> Result<Response<EndAgreementsResponse>, Status> {
        let act = self.0.open(request)?;
        let country = &act.request.country_code;
        let outcomes = bulk::decide(&self.0, &act, country, agreement::end_each, agreement::end).await?;
        Ok(Response::new(EndAgreementsResponse { outcomes }))
    }

    async fn suspend_agreements(
        &self,
        request: Request<SuspendAgreementsRequest>,
    ) -> Result<Response<SuspendAgreementsResponse>, Status> {
        let act = self.0.open(request)?;
        let country = &act.request.country_code;
        let outcomes = bulk::decide(&self.0, &act, country, agreement::suspend_each, agreement::suspend).await?;
        Ok(Response::new(SuspendAgreementsResponse { outcomes }))
    }
}
