//! Strategies: ST-1, ST-3, ST-4.

use crate::{portfolio, subscriptions::partnerships::Ties, views};
use hansa_chassis::{Act, Desk, Page, ask, bounded, desk::new_id, named, timeless};
use hansa_journal::{Command, Mirrors, Together, limits::COMMAND_RECORDS};
use hansa_kernel::{Record, RecordId, RecordName, Refusal};
use hansa_proto::strategy::{
    self as proto, AdoptStrategyRequest, CreateStrategyRequest, DeleteStrategyRequest, GetStrategyRequest,
    LinkToolRequest, ListStrategiesRequest, ListStrategiesResponse, PutGoalRequest, RemoveGoalRequest, StrategyState,
    UnlinkToolRequest, UpdateStrategyRequest,
    strategy_service_server::{StrategyService, StrategyServiceServer},
};
use hansa_strategy_domain::{Ground, Strategy, strategy};
use tonic::{Request, Response, Status};

struct Strategies(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> StrategyServiceServer<impl StrategyService> {
    bounded!(StrategyServiceServer::new(Strategies(desk)))
}

impl Strategies {
    /// Gives way to a newer strategy: each other one of the city. Drafts are among them, for one of them may be adopted at
    /// this very moment; the rule leaves those that are still drafts alone.
    async fn give_way(
        &self,
        act: &Act<AdoptStrategyRequest>,
        (city, new): (RecordId, &RecordName),
    ) -> Result<Vec<Together>, Status> {
        let store = self.0.journal().store();
        let mut others = ask(views::strategy::standing(store, act.caller.tenant, city).await)?;
        others.retain(|(id, _)| *id != new.id);
        others.sort_by_key(|(_, state)| *state == StrategyState::Draft);
        others.truncate(COMMAND_RECORDS - 1);
        let give_way = |(id, _): (RecordId, StrategyState)| {
            let by = new.to_string();
            let command: Command<Strategy> =
                self.0.on(act, RecordName::new(Strategy::COLLECTION, id), "", move |state: &Strategy, _, _, _| {
                    strategy::supersede(state, &by)
                });
            Together::from(command)
        };
        Ok(others.into_iter().map(give_way).collect())
    }
}

#[tonic::async_trait]
impl StrategyService for Strategies {
    async fn create_strategy(
        &self,
        request: Request<CreateStrategyRequest>,
    ) -> Result<Response<proto::Strategy>, Status> {
        let act = self.0.open(request)?;
        let city = act.request.strategy.as_ref().map(|asked| asked.city.as_str()).unwrap_or_default();
        let city_tenant = match RecordName::parse(city, "cities", "strategy.city") {
            Ok(city) => ask(portfolio::tenant_of(self.0.journal(), city.id).await)?,
            // The rule says what is wrong with it.
            Err(_) => None,
        };
        let ground = Ground { city_tenant, grace_months: strategy::GRACE_MONTHS };
        let id = new_id();
        let command = self.0.make(
            &act,
            RecordName::new(Strategy::COLLECTION, id),
            move |_: Option<&Strategy>, asked, caller, _| strategy::create(asked, id, ground, caller),
        );
        self.0.done(&act, command.fresh()).await
    }

    async fn get_strategy(&self, request: Request<GetStrategyRequest>) -> Result<Response<proto::Strategy>, Status> {
        self.0.get::<Strategy, _>(&request, &request.get_ref().name).await
    }

    async fn list_strategies(
        &self,
        request: Request<ListStrategiesRequest>,
    ) -> Result<Response<ListStrategiesResponse>, Status> {
        let tenant = self.0.caller(&request)?.tenant;
        let asked = request.get_ref();
        let page = ask(Page::of(asked, &format!("strategies {tenant} {} {}", asked.city, asked.state)))?;
        let found = ask(views::strategy::list(self.0.journal().store(), tenant, asked, &page).await)?;
        let (strategies, next_page_token) = self.0.listed::<Strategy, _>(&request, &page, found).await?;
        Ok(Response::new(ListStrategiesResponse { strategies, next_page_token }))
    }

    async fn update_strategy(
        &self,
        request: Request<UpdateStrategyRequest>,
    ) -> Result<Response<proto::Strategy>, Status> {
        self.0.step(request, timeless(strategy::update)).await
    }

    async fn delete_strategy(&self, request: Request<DeleteStrategyRequest>) -> Result<Response<()>, Status> {
        self.0.remove(request, strategy::delete).await
    }

    async fn put_goal(&self, request: Request<PutGoalRequest>) -> Result<Response<proto::Strategy>, Status> {
        self.0.step(request, timeless(strategy::put_goal)).await
    }

    async fn remove_goal(&self, request: Request<RemoveGoalRequest>) -> Result<Response<proto::Strategy>, Status> {
        self.0.step(request, timeless(strategy::remove_goal)).await
    }

    async fn link_tool(&self, request: Request<LinkToolRequest>) -> Result<Response<proto::Strategy>, Status> {
        let act = self.0.open(request)?;
        let name = named::<Strategy>("name", &act.request.name)?;
        let tool = act.request.link.as_ref().map(|link| link.tool.clone()).unwrap_or_default();
        let tie = match RecordName::parse(&tool, "agreements", "link.tool") {
            Ok(tool) => ask(Mirrors::<Ties>::of(self.0.journal()).get(tool.id).await)?,
            // The rule says what is wrong with it.
            Err(_) => None,
        };
        let command = self.0.on(&act, name, &act.request.etag, move |state: &Strategy, asked, caller, _| {
            let decision = strategy::link_tool(state, asked, caller)?;
            portfolio::must_be_own(&tool, tie.as_deref(), state)?;
            Ok(decision)
        });
        self.0.done(&act, command).await
    }

    async fn unlink_tool(&self, request: Request<UnlinkToolRequest>) -> Result<Response<proto::Strategy>, Status> {
        self.0.step(request, timeless(strategy::unlink_tool)).await
    }

    async fn adopt_strategy(
        &self,
        request: Request<AdoptStrategyRequest>,
    ) -> Result<Response<proto::Strategy>, Status> {
        let act = self.0.open(request)?;
        let name = named::<Strategy>("name", &act.request.name)?;
        let adopted = async {
            let draft = ask(self.0.journal().load::<Strategy>(&name).await)?;
            let draft = ask(draft.ok_or_else(|| Refusal::not_found(&name)))?;
            let city = super::city_name(draft.state.city(), "city")?.id;
            let election = ask(portfolio::next_election(self.0.journal(), city).await)?;
            let others = self.give_way(&act, (city, &name)).await?;
            let command = self.0.on(&act, name, &act.request.etag, move |state, asked, caller, at| {
                strategy::adopt(state, asked, election, caller, at)
            });
            self.0.done_with(&act, command, others).await
        };
        self.0.once::<Strategy, _>(&act, adopted).await
    }
}
