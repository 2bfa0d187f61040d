//! Agreements from the proposal to the signature, and reading them: AG-1 to AG-4, AG-11, AG-12.

use super::{Agreements, Answer, agreement_name, ask, export, facts};
use crate::views;
use hansa_chassis::{
    Act, Desk,
    desk::new_id,
    limits::{REQUEST_BYTES, RESPONSE_BYTES},
    page::Page,
};
use hansa_kernel::{Record, RecordName, Relation};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION};
use hansa_proto::partnerships::{
    AgreementDocument, ConfirmPlanRequest, ConfirmRationaleRequest, CreateAgreementRequest, DeclineAgreementRequest,
    DeleteAgreementRequest, ExportAgreementRequest, GetAgreementRequest, ListAgreementsRequest, ListAgreementsResponse,
    OpenDialogueRequest, OverrideGuidelinesRequest, PutForwardPlanRequest, PutForwardRationaleRequest,
    RecordCouncilVoteRequest, ReviseTermsRequest, SignAgreementRequest, StateGuidelinesRequest,
    WithdrawAgreementRequest,
    agreement_service_server::{AgreementService, AgreementServiceServer},
};
use tonic::{Request, Response, Status};

/// The gRPC service.
pub fn server(desk: Desk) -> AgreementServiceServer<impl AgreementService> {
    AgreementServiceServer::new(Agreements(desk))
        .max_decoding_message_size(REQUEST_BYTES)
        .max_encoding_message_size(RESPONSE_BYTES)
}

impl Agreements {
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

    async fn delete_agreement(&self, request: Request<DeleteAgreementRequest>) -> Result<Response<()>, Status> {
        let act = self.0.open(request)?;
        let name = agreement_name(&act.request.name, "name")?;
        let command = self.0.delete(&act, name, &act.request.etag, agreement::delete);
        self.0.submit(&act, command).await?;
        Ok(Response::new(()))
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
}
