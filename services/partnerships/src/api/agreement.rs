//! Agreements from the proposal to the signature, and reading them: AG-1 to AG-4, AG-11, AG-12.

use super::{Agreements, Answer, export, facts};
use crate::views;
use hansa_chassis::{Act, Desk, Page, ask, bounded, desk::new_id, named, timeless};
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
    bounded!(AgreementServiceServer::new(Agreements(desk)))
}

impl Agreements {
    /// The agreement whose place another is to take, as far as the caller may see it.
    async fn predecessor(&self, act: &Act<CreateAgreementRequest>) -> Result<Option<Agreement>, Status> {
        if act.request.supersedes.is_empty() {
            return Ok(None);
        }
        let name = named::<Agreement>("supersedes", &act.request.supersedes)?;
        let old = ask(self.0.journal().load::<Agreement>(&name).await)?;
        let seen = old.filter(|old| old.state.relation(&act.caller) != Relation::Stranger);
        Ok(seen.map(|old| (*old.state).clone()))
    }

    async fn propose(&self, act: &Act<CreateAgreementRequest>) -> Answer {
        let cities = ask(facts::named(&act.request.initiator, &act.request.partner))?;
        let facts = ask(facts::of(self.0.journal(), &cities).await)?;
        let old = self.predecessor(act).await?;
        let name = RecordName::new(COLLECTION, new_id());
        let command = self.0.make(act, name, move |_: Option<&Agreement>, asked, caller, at| {
            agreement::propose(asked, caller, &facts, old.as_ref(), at)
        });
        self.0.done(act, command.fresh()).await
    }
}

#[tonic::async_trait]
impl AgreementService for Agreements {
    async fn create_agreement(&self, request: Request<CreateAgreementRequest>) -> Answer {
        let act = self.0.open(request)?;
        self.0.once::<Agreement, _>(&act, self.propose(&act)).await
    }

    async fn get_agreement(&self, request: Request<GetAgreementRequest>) -> Answer {
        self.0.get::<Agreement, _>(&request, &request.get_ref().name).await
    }

    async fn list_agreements(
        &self,
        request: Request<ListAgreementsRequest>,
    ) -> Result<Response<ListAgreementsResponse>, Status> {
        let (asked, caller) = (request.get_ref(), self.0.caller(&request)?);
        let page = ask(Page::of(asked, &views::agreement::question(asked)))?;
        let found = ask(views::agreement::list(self.0.journal().store(), &caller, asked, &page).await)?;
        let (agreements, next_page_token) = self.0.listed::<Agreement, _>(&request, &page, found).await?;
        Ok(Response::new(ListAgreementsResponse { agreements, next_page_token }))
    }

    async fn export_agreement(
        &self,
        request: Request<ExportAgreementRequest>,
    ) -> Result<Response<AgreementDocument>, Status> {
        let name = named::<Agreement>("name", &request.get_ref().name)?;
        let caller = self.0.caller(&request)?;
        let agreement = self.0.read::<Agreement, _>(&request, &name).await?;
        ask(agreement::exportable(&agreement.state, &caller))?;
        let shown = self.0.resolve(vec![agreement.state.resource(&name, &agreement.etag)]).await?.swap_remove(0);
        Ok(Response::new(ask(export::document(self.0.journal(), &agreement, shown).await)?))
    }

    async fn delete_agreement(&self, request: Request<DeleteAgreementRequest>) -> Result<Response<()>, Status> {
        self.0.remove(request, agreement::delete).await
    }

    async fn open_dialogue(&self, request: Request<OpenDialogueRequest>) -> Answer {
        self.0.step(request, timeless(agreement::open_dialogue)).await
    }

    async fn revise_terms(&self, request: Request<ReviseTermsRequest>) -> Answer {
        self.informed(&self.0.open(request)?, agreement::revise_terms).await
    }

    async fn put_forward_rationale(&self, request: Request<PutForwardRationaleRequest>) -> Answer {
        self.0.step(request, timeless(agreement::put_forward_rationale)).await
    }

    async fn confirm_rationale(&self, request: Request<ConfirmRationaleRequest>) -> Answer {
        self.0.step(request, timeless(agreement::confirm_rationale)).await
    }

    async fn put_forward_plan(&self, request: Request<PutForwardPlanRequest>) -> Answer {
        self.0.step(request, timeless(agreement::put_forward_plan)).await
    }

    async fn confirm_plan(&self, request: Request<ConfirmPlanRequest>) -> Answer {
        self.0.step(request, timeless(agreement::confirm_plan)).await
    }

    async fn record_council_vote(&self, request: Request<RecordCouncilVoteRequest>) -> Answer {
        self.0.step(request, agreement::record_council_vote).await
    }

    async fn state_guidelines(&self, request: Request<StateGuidelinesRequest>) -> Answer {
        self.0.step(request, timeless(agreement::state_guidelines)).await
    }

    async fn override_guidelines(&self, request: Request<OverrideGuidelinesRequest>) -> Answer {
        self.informed(&self.0.open(request)?, |state, asked, caller, facts, _| {
            agreement::override_guidelines(state, asked, caller, facts)
        })
        .await
    }

    async fn sign_agreement(&self, request: Request<SignAgreementRequest>) -> Answer {
        self.informed(&self.0.open(request)?, agreement::sign).await
    }

    async fn decline_agreement(&self, request: Request<DeclineAgreementRequest>) -> Answer {
        self.0.step(request, timeless(agreement::decline)).await
    }

    async fn withdraw_agreement(&self, request: Request<WithdrawAgreementRequest>) -> Answer {
        self.0.step(request, timeless(agreement::withdraw)).await
    }
}
