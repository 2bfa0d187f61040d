//! The handlers of `MembershipService` (NW-2, NW-3).

use super::application_facts;
use crate::views;
use hansa_chassis::{ApiError, ApiResult, Page, parse_name, rpc_handlers};
use hansa_kernel::{Caller, Moment, Record, RecordName};
use hansa_networks_domain::{Membership, membership};
use hansa_proto::handlers::MembershipServiceHandler;
use hansa_proto::networks::{
    self as proto, ApplyForMembershipRequest, ApproveMembershipRequest, DeclineMembershipRequest,
    ExpelMembershipRequest, GetMembershipRequest, LeaveMembershipRequest, ListMembershipsRequest,
    ListMembershipsResponse, ReinstateMembershipRequest, SuspendMembershipRequest,
};
use tonic::{Request, Response};

rpc_handlers!(
    /// Handles the rpcs of `MembershipService`.
    Memberships
);

impl MembershipServiceHandler for Memberships {
    type Error = ApiError;

    async fn apply_for_membership(&self, request: Request<ApplyForMembershipRequest>) -> ApiResult<proto::Membership> {
        let context = self.commands.accept(request)?;
        let applied = async {
            let network = super::network(&self.journal, &context.request.network).await?;
            let facts = application_facts(&self.journal, &network, &context.request.city).await?;
            let id = membership::id_of(network.name.id, RecordName::parse(&context.request.city, "cities", "city")?.id);
            facts.is_own(&context.caller)?;
            let command = self.commands.create(
                &context,
                RecordName::new(Membership::COLLECTION, id),
                move |before, request, caller, _| membership::apply(before, request, &facts, caller),
            );
            self.commands.respond(&context, command).await
        };
        self.commands.replay_or::<Membership, _>(&context, applied).await
    }

    async fn get_membership(&self, request: Request<GetMembershipRequest>) -> ApiResult<proto::Membership> {
        self.queries.get::<Membership, _>(&request, &request.get_ref().name).await
    }

    async fn list_memberships(&self, request: Request<ListMembershipsRequest>) -> ApiResult<ListMembershipsResponse> {
        let (query, tenant) = (request.get_ref(), self.queries.caller(&request)?.tenant);
        let page = Page::of_tenant(query, tenant)?;
        let ids = views::membership::list(self.journal.store(), tenant, query, &page).await?;
        let (memberships, next_page_token) =
            self.queries.list::<Membership, _>(&request, &page, ids, request.get_ref().view()).await?;
        Ok(Response::new(ListMembershipsResponse { memberships, next_page_token }))
    }

    async fn approve_membership(&self, request: Request<ApproveMembershipRequest>) -> ApiResult<proto::Membership> {
        self.commands.execute(request, membership::approve).await
    }

    async fn decline_membership(&self, request: Request<DeclineMembershipRequest>) -> ApiResult<proto::Membership> {
        self.commands.execute(request, membership::decline).await
    }

    async fn suspend_membership(&self, request: Request<SuspendMembershipRequest>) -> ApiResult<proto::Membership> {
        self.commands.execute(request, membership::suspend).await
    }

    async fn reinstate_membership(&self, request: Request<ReinstateMembershipRequest>) -> ApiResult<proto::Membership> {
        self.commands.execute(request, membership::reinstate).await
    }

    async fn leave_membership(&self, request: Request<LeaveMembershipRequest>) -> ApiResult<proto::Membership> {
        let name = parse_name::<Membership>("name", &request.get_ref().name)?;
        let notice = match self.journal.load::<Membership>(&name).await? {
            Some(found) => super::network(&self.journal, found.state.network()).await?.state.get().notice_months,
            // `execute` answers NOT_FOUND.
            None => 0,
        };
        let leave = move |state: &Membership, _: &LeaveMembershipRequest, caller: &Caller, now: Moment| {
            membership::leave(state, notice, caller, now)
        };
        self.commands.execute(request, leave).await
    }

    async fn expel_membership(&self, request: Request<ExpelMembershipRequest>) -> ApiResult<proto::Membership> {
        self.commands.execute(request, membership::expel).await
    }
}
