//! The rpcs for agreements from the proposal to the signature, and for reading them (AG-1 to AG-4, AG-11, AG-12).

use super::{Agreements, export};
use crate::{facts, views};
use hansa_chassis::{ApiError, ApiResult, CommandContext, Page, new_id, parse_name};
use hansa_kernel::{Record, RecordName, Refused, Relation};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION};
use hansa_proto::handlers::AgreementServiceHandler;
use hansa_proto::partnerships::{
    self as proto, AgreementDocument, ConfirmPlanRequest, ConfirmRationaleRequest, DeclineAgreementRequest,
    ExportAgreementRequest, GetAgreementRequest, ListAgreementsRequest, ListAgreementsResponse, OpenDialogueRequest,
    OverrideGuidelinesRequest, ProposeAgreementRequest, ProposePlanRequest, ProposeRationaleRequest,
    RecordCouncilVoteRequest, RetractAgreementRequest, ReviseTermsRequest, SignAgreementRequest,
    StateGuidelinesRequest, WithdrawAgreementRequest,
};
use tonic::{Request, Response};

impl Agreements {
    /// Loads the agreement that the proposal names as superseded; `None` if the caller may not see it.
    async fn predecessor(&self, context: &CommandContext<ProposeAgreementRequest>) -> Refused<Option<Agreement>> {
        if context.request.superseded_agreement.is_empty() {
            return Ok(None);
        }
        let name = parse_name::<Agreement>("superseded_agreement", &context.request.superseded_agreement)?;
        let old = self.journal.load::<Agreement>(&name).await?;
        let visible = old.filter(|old| old.state.relation(&context.caller) != Relation::Stranger);
        Ok(visible.map(|old| (*old.state).clone()))
    }

    async fn propose(&self, context: &CommandContext<ProposeAgreementRequest>) -> ApiResult<proto::Agreement> {
        let cities = facts::named(&context.request.initiator, &context.request.partner)?;
        let facts = facts::of(&self.journal, &cities).await?;
        let old = self.predecessor(context).await?;
        let name = RecordName::new(COLLECTION, new_id());
        let command = self.commands.create(context, name, move |_: Option<&Agreement>, request, caller, now| {
            agreement::propose(request, caller, &facts, old.as_ref(), now)
        });
        self.commands.respond(context, command.new_record()).await
    }
}

impl AgreementServiceHandler for Agreements {
    type Error = ApiError;

    async fn propose_agreement(&self, request: Request<ProposeAgreementRequest>) -> ApiResult<proto::Agreement> {
        let context = self.commands.accept(request)?;
        self.commands.replay_or::<Agreement, _>(&context, self.propose(&context)).await
    }

    async fn get_agreement(&self, request: Request<GetAgreementRequest>) -> ApiResult<proto::Agreement> {
        self.queries.get::<Agreement, _>(&request, &request.get_ref().name).await
    }

    async fn list_agreements(&self, request: Request<ListAgreementsRequest>) -> ApiResult<ListAgreementsResponse> {
        let (query, caller) = (request.get_ref(), self.queries.caller(&request)?);
        let page = Page::of_tenant(query, caller.tenant)?;
        let ids = views::agreement::list(self.journal.store(), &caller, query, &page).await?;
        let (agreements, next_page_token) =
            self.queries.list::<Agreement, _>(&request, &page, ids, request.get_ref().view()).await?;
        Ok(Response::new(ListAgreementsResponse { agreements, next_page_token }))
    }

    async fn export_agreement(&self, request: Request<ExportAgreementRequest>) -> ApiResult<AgreementDocument> {
        let name = parse_name::<Agreement>("name", &request.get_ref().name)?;
        let caller = self.queries.caller(&request)?;
        let agreement = self.queries.load::<Agreement, _>(&request, &name).await?;
        agreement::exportable(&agreement.state, &caller)?;
        let resource =
            self.queries.resolve(vec![agreement.state.resource(&name, &agreement.etag)]).await?.swap_remove(0);
        Ok(Response::new(export::document(&self.journal, &agreement, resource).await?))
    }

    async fn retract_agreement(&self, request: Request<RetractAgreementRequest>) -> ApiResult<()> {
        self.commands.execute_delete(request, agreement::delete).await
    }

    async fn open_dialogue(&self, request: Request<OpenDialogueRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::open_dialogue).await
    }

    async fn revise_terms(&self, request: Request<ReviseTermsRequest>) -> ApiResult<proto::Agreement> {
        self.execute_with_facts(&self.commands.accept(request)?, agreement::revise_terms).await
    }

    async fn propose_rationale(&self, request: Request<ProposeRationaleRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::propose_rationale).await
    }

    async fn confirm_rationale(&self, request: Request<ConfirmRationaleRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::confirm_rationale).await
    }

    async fn propose_plan(&self, request: Request<ProposePlanRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::propose_plan).await
    }

    async fn confirm_plan(&self, request: Request<ConfirmPlanRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::confirm_plan).await
    }

    async fn record_council_vote(&self, request: Request<RecordCouncilVoteRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::record_council_vote).await
    }

    async fn state_guidelines(&self, request: Request<StateGuidelinesRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::state_guidelines).await
    }

    async fn override_guidelines(&self, request: Request<OverrideGuidelinesRequest>) -> ApiResult<proto::Agreement> {
        self.execute_with_facts(&self.commands.accept(request)?, |state, request, caller, facts, _| {
            agreement::override_guidelines(state, request, caller, facts)
        })
        .await
    }

    async fn sign_agreement(&self, request: Request<SignAgreementRequest>) -> ApiResult<proto::Agreement> {
        self.execute_with_facts(&self.commands.accept(request)?, agreement::sign).await
    }

    async fn decline_agreement(&self, request: Request<DeclineAgreementRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::decline).await
    }

    async fn withdraw_agreement(&self, request: Request<WithdrawAgreementRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::withdraw).await
    }
}
