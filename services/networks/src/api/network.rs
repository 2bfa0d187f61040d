//! The handlers of `NetworkService` (NW-1, NW-2).

use super::application_facts;
use crate::views;
use hansa_chassis::{ApiError, ApiResult, Page, new_id, rpc_handlers};
use hansa_kernel::{Caller, RecordName, Relation};
use hansa_networks_domain::{Network, criteria, network};
use hansa_proto::handlers::NetworkServiceHandler;
use hansa_proto::networks::{
    self as proto, CheckEligibilityRequest, CheckEligibilityResponse, CreateNetworkRequest, CriteriaModel,
    CriterionOutcome, GetCriteriaModelRequest, GetNetworkRequest, ListNetworksRequest, ListNetworksResponse,
    UpdateNetworkRequest,
};
use hansa_proto::types::ExpressionVariable;
use tonic::{Request, Response};

rpc_handlers!(
    /// Handles the rpcs of `NetworkService`.
    Networks
);

impl NetworkServiceHandler for Networks {
    type Error = ApiError;

    async fn create_network(&self, request: Request<CreateNetworkRequest>) -> ApiResult<proto::Network> {
        let context = self.commands.accept(request)?;
        let name = RecordName::new("networks", new_id());
        let command =
            self.commands.create(&context, name, |_: Option<&Network>, request, _, _| network::found(request));
        self.commands.respond(&context, command.new_record()).await
    }

    async fn get_network(&self, request: Request<GetNetworkRequest>) -> ApiResult<proto::Network> {
        self.queries.get::<Network, _>(&request, &request.get_ref().name).await
    }

    async fn list_networks(&self, request: Request<ListNetworksRequest>) -> ApiResult<ListNetworksResponse> {
        let query = request.get_ref();
        let page = Page::of(query)?;
        let ids = views::network::list(self.journal.store(), query, &page).await?;
        let (networks, next_page_token) =
            self.queries.list::<Network, _>(&request, &page, ids, request.get_ref().view()).await?;
        Ok(Response::new(ListNetworksResponse { networks, next_page_token }))
    }

    async fn update_network(&self, request: Request<UpdateNetworkRequest>) -> ApiResult<proto::Network> {
        self.commands
            .execute(request, |state: &Network, request: &UpdateNetworkRequest, _: &Caller| {
                network::update(state, request)
            })
            .await
    }

    async fn check_eligibility(
        &self,
        request: Request<CheckEligibilityRequest>,
    ) -> ApiResult<CheckEligibilityResponse> {
        let query = request.get_ref();
        self.queries.permit(&request, Relation::Public, &query.network)?;
        let network = super::network(&self.journal, &query.network).await?;
        let results = application_facts(&self.journal, &network, &query.city).await?.eligibility;
        let eligible = results.iter().all(|one| one.outcome() != CriterionOutcome::NotMet);
        Ok(Response::new(CheckEligibilityResponse { results, eligible }))
    }

    async fn get_criteria_model(&self, request: Request<GetCriteriaModelRequest>) -> ApiResult<CriteriaModel> {
        self.queries.permit(&request, Relation::Public, "criteriaModel")?;
        let variables = criteria::VARIABLES.iter().map(|variable| ExpressionVariable {
            variable: variable.name.into(),
            cel_type: variable.kind.as_cel().into(),
            description: variable.description.into(),
        });
        Ok(Response::new(CriteriaModel { variables: variables.collect() }))
    }
}
