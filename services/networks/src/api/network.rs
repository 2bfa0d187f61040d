//! Networks: NW-1, NW-2.

use super::ground;
use crate::views;
use hansa_chassis::{Desk, Page, ask, bounded, desk::new_id};
use hansa_kernel::{RecordName, Relation};
use hansa_networks_domain::{Network, criteria, network};
use hansa_proto::networks::{
    self as proto, CheckEligibilityRequest, CheckEligibilityResponse, CreateNetworkRequest, CriteriaModel,
    CriteriaVariable, CriterionOutcome, GetCriteriaModelRequest, GetNetworkRequest, ListNetworksRequest,
    ListNetworksResponse, UpdateNetworkRequest,
    network_service_server::{NetworkService, NetworkServiceServer},
};
use tonic::{Request, Response, Status};

struct Networks(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> NetworkServiceServer<impl NetworkService> {
    bounded!(NetworkServiceServer::new(Networks(desk)))
}

#[tonic::async_trait]
impl NetworkService for Networks {
    async fn create_network(&self, request: Request<CreateNetworkRequest>) -> Result<Response<proto::Network>, Status> {
        let act = self.0.open(request)?;
        let name = RecordName::new("networks", new_id());
        let command = self.0.make(&act, name, |_: Option<&Network>, asked, _, _| network::found(asked));
        self.0.done(&act, command.fresh()).await
    }

    async fn get_network(&self, request: Request<GetNetworkRequest>) -> Result<Response<proto::Network>, Status> {
        self.0.get::<Network, _>(&request, &request.get_ref().name).await
    }

    async fn list_networks(
        &self,
        request: Request<ListNetworksRequest>,
    ) -> Result<Response<ListNetworksResponse>, Status> {
        let asked = request.get_ref();
        let page = ask(Page::of(asked, &format!("networks {} {}", asked.kind, asked.scope)))?;
        let found = ask(views::network::list(self.0.journal().store(), asked, &page).await)?;
        let (networks, next_page_token) = self.0.listed::<Network, _>(&request, &page, found).await?;
        Ok(Response::new(ListNetworksResponse { networks, next_page_token }))
    }

    async fn update_network(&self, request: Request<UpdateNetworkRequest>) -> Result<Response<proto::Network>, Status> {
        self.0.step(request, |state: &Network, asked, _, _| network::update(state, asked)).await
    }

    async fn check_eligibility(
        &self,
        request: Request<CheckEligibilityRequest>,
    ) -> Result<Response<CheckEligibilityResponse>, Status> {
        let asked = request.get_ref();
        self.0.permit(&request, Relation::Public, &asked.network)?;
        let network = ask(super::network(&self.0, &asked.network).await)?;
        let results = ask(ground(&self.0, &network, &asked.city).await)?.eligibility;
        let eligible = results.iter().all(|one| one.outcome() != CriterionOutcome::NotMet);
        Ok(Response::new(CheckEligibilityResponse { results, eligible }))
    }

    async fn get_criteria_model(
        &self,
        request: Request<GetCriteriaModelRequest>,
    ) -> Result<Response<CriteriaModel>, Status> {
        self.0.permit(&request, Relation::Public, "criteriaModel")?;
        let shown = criteria::VARIABLES.iter().map(|variable| CriteriaVariable {
            name: variable.name.into(),
            r#type: variable.kind.as_cel().into(),
            description: variable.description.into(),
        });
        Ok(Response::new(CriteriaModel { variables: shown.collect() }))
    }
}
