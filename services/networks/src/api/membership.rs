//! Memberships: NW-2, NW-3.

use super::ground;
use crate::views;
use hansa_chassis::{Desk, Page, ask, bounded, named, timeless};
use hansa_kernel::{Record, RecordName};
use hansa_networks_domain::{Membership, membership};
use hansa_proto::networks::{
    self as proto, ApplyForMembershipRequest, ApproveMembershipRequest, DeclineMembershipRequest,
    ExpelMembershipRequest, GetMembershipRequest, LeaveMembershipRequest, ListMembershipsRequest,
    ListMembershipsResponse, ReinstateMembershipRequest, SuspendMembershipRequest,
    membership_service_server::{MembershipService, MembershipServiceServer},
};
use tonic::{Request, Response, Status};

struct Memberships(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> MembershipServiceServer<impl MembershipService> {
    bounded!(MembershipServiceServer::new(Memberships(desk)))
}

type Answer = Result<Response<proto::Membership>, Status>;

#[tonic::async_trait]
impl MembershipService for Memberships {
    async fn apply_for_membership(&self, request: Request<ApplyForMembershipRequest>) -> Answer {
        let act = self.0.open(request)?;
        let applied = async {
            let network = ask(super::network(&self.0, &act.request.network).await)?;
            let ground = ask(ground(&self.0, &network, &act.request.city).await)?;
            let id =
                membership::id_of(network.name.id, ask(RecordName::parse(&act.request.city, "cities", "city"))?.id);
            ask(ground.is_own(&act.caller))?;
            let command =
                self.0.make(&act, RecordName::new(Membership::COLLECTION, id), move |before, asked, caller, _| {
                    membership::apply(before, asked, &ground, caller)
                });
            self.0.done(&act, command).await
        };
        self.0.once::<Membership, _>(&act, applied).await
    }

    async fn get_membership(&self, request: Request<GetMembershipRequest>) -> Answer {
        self.0.get::<Membership, _>(&request, &request.get_ref().name).await
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let (asked, tenant) = (request.get_ref(), self.0.caller(&request)?.tenant);
        let question = format!("memberships {tenant} {} {} {}", asked.network, asked.city, asked.state);
        let page = ask(Page::of(asked, &question))?;
        let found = ask(views::membership::list(self.0.journal().store(), tenant, asked, &page).await)?;
        let (memberships, next_page_token) = self.0.listed::<Membership, _>(&request, &page, found).await?;
        Ok(Response::new(ListMembershipsResponse { memberships, next_page_token }))
    }

    async fn approve_membership(&self, request: Request<ApproveMembershipRequest>) -> Answer {
        self.0.step(request, membership::approve).await
    }

    async fn decline_membership(&self, request: Request<DeclineMembershipRequest>) -> Answer {
        self.0.step(request, timeless(membership::decline)).await
    }

    async fn suspend_membership(&self, request: Request<SuspendMembershipRequest>) -> Answer {
        self.0.step(request, timeless(membership::suspend)).await
    }

    async fn reinstate_membership(&self, request: Request<ReinstateMembershipRequest>) -> Answer {
        self.0.step(request, timeless(membership::reinstate)).await
    }

    async fn leave_membership(&self, request: Request<LeaveMembershipRequest>) -> Answer {
        let name = named::<Membership>("name", &request.get_ref().name)?;
        let notice = match ask(self.0.journal().load::<Membership>(&name).await)? {
            Some(found) => ask(super::network(&self.0, found.state.network()).await)?.state.get().notice_months,
            // The desk says that it is not there.
            None => 0,
        };
        let leave = move |state: &Membership, _: &_, caller: &_, at| membership::leave(state, notice, caller, at);
        self.0.step(request, leave).await
    }

    async fn expel_membership(&self, request: Request<ExpelMembershipRequest>) -> Answer {
        self.0.step(request, membership::expel).await
    }
}
