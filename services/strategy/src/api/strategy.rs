//! The handlers of `StrategyService` (ST-1, ST-3, ST-4).

use crate::{portfolio, views};
use hansa_chassis::{ApiError, ApiResult, CommandContext, Page, new_id, parse_name, rpc_handlers};
use hansa_journal::{BoxedCommand, Command, Mirrors, limits::COMMAND_RECORDS};
use hansa_kernel::{Record, RecordId, RecordName, Refusal};
use hansa_partnerships_domain::ties::Tie;
use hansa_proto::handlers::StrategyServiceHandler;
use hansa_proto::strategy::{
    self as proto, AdoptStrategyRequest, CreateStrategyRequest, DeleteGoalRequest, DiscardStrategyRequest,
    GetStrategyRequest, LinkToolRequest, ListStrategiesRequest, ListStrategiesResponse, SetGoalRequest, StrategyState,
    UnlinkToolRequest, UpdateStrategyRequest,
};
use hansa_strategy_domain::{DraftFacts, Strategy, strategy};
use tonic::{Request, Response};

rpc_handlers!(
    /// Handles the rpcs of `StrategyService`.
    Strategies
);

impl Strategies {
    /// Builds the commands that supersede the city's other strategies. They include drafts, because a concurrent
    /// request may adopt one. The rule leaves a strategy unchanged if it is still a draft.
    async fn supersede_others(
        &self,
        context: &CommandContext<AdoptStrategyRequest>,
        (city, new): (RecordId, &RecordName),
    ) -> Result<Vec<BoxedCommand>, ApiError> {
        let store = self.journal.store();
        let mut others = views::strategy::standing(store, context.caller.tenant, city).await?;
        others.retain(|(id, _)| *id != new.id);
        others.sort_by_key(|(_, state)| *state == StrategyState::Draft);
        others.truncate(COMMAND_RECORDS - 1);
        let supersede = |(id, _): (RecordId, StrategyState)| {
            let by = new.to_string();
            let command: Command<Strategy> = self.commands.update(
                context,
                RecordName::new(Strategy::COLLECTION, id),
                "",
                move |state: &Strategy, _, _, _| strategy::supersede(state, &by),
            );
            BoxedCommand::from(command)
        };
        Ok(others.into_iter().map(supersede).collect())
    }
}

impl StrategyServiceHandler for Strategies {
    type Error = ApiError;

    async fn create_strategy(&self, request: Request<CreateStrategyRequest>) -> ApiResult<proto::Strategy> {
        let context = self.commands.accept(request)?;
        let city = context.request.strategy.as_ref().map(|request| request.city.as_str()).unwrap_or_default();
        let city_tenant = match RecordName::parse(city, "cities", "strategy.city") {
            Ok(city) => portfolio::tenant_of(&self.journal, city.id).await?,
            // The rule refuses the malformed name.
            Err(_) => None,
        };
        let facts = DraftFacts { city_tenant, grace_months: strategy::GRACE_MONTHS };
        let id = new_id();
        let command = self.commands.create(
            &context,
            RecordName::new(Strategy::COLLECTION, id),
            move |_: Option<&Strategy>, request, caller, _| strategy::create(request, id, facts, caller),
        );
        self.commands.respond(&context, command.new_record()).await
    }

    async fn get_strategy(&self, request: Request<GetStrategyRequest>) -> ApiResult<proto::Strategy> {
        self.queries.get::<Strategy, _>(&request, &request.get_ref().name).await
    }

    async fn list_strategies(&self, request: Request<ListStrategiesRequest>) -> ApiResult<ListStrategiesResponse> {
        let (query, tenant) = (request.get_ref(), self.queries.caller(&request)?.tenant);
        let page = Page::of_tenant(query, tenant)?;
        let ids = views::strategy::list(self.journal.store(), tenant, query, &page).await?;
        let (strategies, next_page_token) =
            self.queries.list::<Strategy, _>(&request, &page, ids, request.get_ref().view()).await?;
        Ok(Response::new(ListStrategiesResponse { strategies, next_page_token }))
    }

    async fn update_strategy(&self, request: Request<UpdateStrategyRequest>) -> ApiResult<proto::Strategy> {
        self.commands.execute(request, strategy::update).await
    }

    async fn discard_strategy(&self, request: Request<DiscardStrategyRequest>) -> ApiResult<()> {
        self.commands.execute_delete(request, strategy::delete).await
    }

    async fn set_goal(&self, request: Request<SetGoalRequest>) -> ApiResult<proto::Strategy> {
        self.commands.execute(request, strategy::set_goal).await
    }

    async fn delete_goal(&self, request: Request<DeleteGoalRequest>) -> ApiResult<proto::Strategy> {
        self.commands.execute(request, strategy::delete_goal).await
    }

    async fn link_tool(&self, request: Request<LinkToolRequest>) -> ApiResult<proto::Strategy> {
        let context = self.commands.accept(request)?;
        let name = parse_name::<Strategy>("name", &context.request.name)?;
        let tool = context.request.link.as_ref().map(|link| link.tool.clone()).unwrap_or_default();
        let tie = match RecordName::parse(&tool, "agreements", "link.tool") {
            Ok(tool) => Mirrors::<Tie>::new(&self.journal).get(tool.id).await?,
            // The rule refuses the malformed name.
            Err(_) => None,
        };
        let command =
            self.commands.update(&context, name, &context.request.etag, move |state: &Strategy, request, caller, _| {
                let decision = strategy::link_tool(state, request, caller)?;
                portfolio::must_be_own(&tool, tie.as_deref(), state)?;
                Ok(decision)
            });
        self.commands.respond(&context, command).await
    }

    async fn unlink_tool(&self, request: Request<UnlinkToolRequest>) -> ApiResult<proto::Strategy> {
        self.commands.execute(request, strategy::unlink_tool).await
    }

    async fn adopt_strategy(&self, request: Request<AdoptStrategyRequest>) -> ApiResult<proto::Strategy> {
        let context = self.commands.accept(request)?;
        let name = parse_name::<Strategy>("name", &context.request.name)?;
        let adopted = async {
            let draft = self.journal.load::<Strategy>(&name).await?.ok_or_else(|| Refusal::not_found(&name))?;
            let city = super::city_name(draft.state.city(), "city")?.id;
            let election = portfolio::next_election(&self.journal, city).await?;
            let others = self.supersede_others(&context, (city, &name)).await?;
            let command =
                self.commands.update(&context, name, &context.request.etag, move |state, request, caller, now| {
                    strategy::adopt(state, request, election, caller, now)
                });
            self.commands.respond_atomically(&context, command, others).await
        };
        self.commands.replay_or::<Strategy, _>(&context, adopted).await
    }
}
