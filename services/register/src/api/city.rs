//! Cities: CT-1, CT-2, CT-4, CT-10, CT-11, CT-13.

use super::{cities, known};
use crate::views;
use hansa_chassis::{
    ApiError, ApiResult, CommandContext, Page, new_id, parse_name, row_result, rpc_handlers, undecided, with_times,
};
use hansa_journal::{BoxedCommand, Command, Receipt};
use hansa_kernel::{Caller, Moment, RecordId, RecordName, Refusal, limits, time};
use hansa_proto::handlers::CityServiceHandler;
use hansa_proto::{
    WriteRequest,
    register::{
        self as proto, BatchImportCitiesRequest, CityRow, CreateCityRequest, EndMayorTermRequest, GetCityRequest,
        ListCitiesRequest, ListCitiesResponse, MergeCitiesRequest, RecordMayorTermRequest, RenameCityRequest,
        RetractCityRequest, SetFactRequest, SplitCityRequest, UpdateCityRequest,
    },
    types::{RowOutcome, RowResults},
};
use hansa_register_domain::{City, city, fact, succession, term};
use std::{collections::BTreeMap, sync::Arc};
use tonic::{Request, Response};

rpc_handlers!(
    /// Handles the rpcs of `CityService`.
    Cities
);

impl Cities {
    /// Submits one atomic command over several cities. `rule` decides for all of them together. Each record takes its
    /// own part of the decision, which the rule computes with the present state of that record instead of the state
    /// read before.
    async fn across<Q, F>(
        &self,
        context: &CommandContext<Q>,
        (named_by, name, etag): (&str, &str, &str),
        others: &[String],
        field: &str,
        rule: F,
    ) -> ApiResult<proto::City>
    where
        Q: Send + Sync + 'static,
        F: Fn((RecordId, &City), &BTreeMap<RecordId, City>, &Q, &Caller) -> succession::Across
            + Copy
            + Send
            + Sync
            + 'static,
    {
        let first = parse_name::<City>(named_by, name)?;
        let others = others.iter().map(|other| parse_name::<City>(field, other)).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<RecordId> = others.iter().map(|other| other.id).collect();
        let read = Arc::new(cities(&self.journal, &ids).await?);
        let main = super::city(&self.journal, first.id).await?;
        let (id, seen) = (first.id, read.clone());
        let command =
            self.commands.update(context, first, etag, move |city: &City, request: &Q, caller: &Caller, _| {
                succession::part(rule((id, city), &seen, request, caller), id)
            });
        let mut parts: Vec<BoxedCommand> = Vec::new();
        for other in others.into_iter().filter(|other| read.contains_key(&other.id)) {
            let (seen, main, part) = (read.clone(), main.clone(), other.id);
            let command: Command<City> =
                self.commands.update(context, other, "", move |city: &City, request: &Q, caller: &Caller, _| {
                    let mut all = (*seen).clone();
                    all.insert(part, city.clone());
                    succession::part(rule((id, &main), &all, request, caller), part)
                });
            parts.push(command.into());
        }
        self.commands.respond_atomically(context, command, parts).await
    }
}

impl CityServiceHandler for Cities {
    type Error = ApiError;

    async fn get_city(&self, request: Request<GetCityRequest>) -> ApiResult<proto::City> {
        let name = parse_name::<City>("name", &request.get_ref().name)?;
        let day = time::day_if_any("as_of_date", request.get_ref().as_of_date.as_ref())?;
        let city = self.queries.load::<City, _>(&request, &name).await?;
        let state = match day {
            None => Some((*city.state).clone()),
            Some(day) => city.state.as_of(day),
        };
        let state = state.ok_or_else(|| Refusal::not_found(&name))?;
        let mut resources =
            self.queries.resolve(vec![with_times(state.resource(&name, &city.etag), city.times)]).await?;
        Ok(Response::new(resources.swap_remove(0)))
    }

    async fn list_cities(&self, request: Request<ListCitiesRequest>) -> ApiResult<ListCitiesResponse> {
        let query = request.get_ref();
        let page = Page::of(query)?;
        let ids = views::city::list(self.journal.store(), query, &page).await?;
        let (cities, next_page_token) =
            self.queries.list::<City, _>(&request, &page, ids, request.get_ref().view()).await?;
        Ok(Response::new(ListCitiesResponse { cities, next_page_token }))
    }

    async fn create_city(&self, request: Request<CreateCityRequest>) -> ApiResult<proto::City> {
        let context = self.commands.accept(request)?;
        let entry = context.request.city.clone().unwrap_or_default();
        let known = known(&self.journal, &city::mentioned(&entry)?).await?;
        let id = city::id_of(&entry, new_id());
        let command = self.commands.create(&context, RecordName::new("cities", id), move |city, request, caller, _| {
            city::create(city, id, request, &known, caller)
        });
        self.commands.respond(&context, command).await
    }

    async fn update_city(&self, request: Request<UpdateCityRequest>) -> ApiResult<proto::City> {
        let context = self.commands.accept(request)?;
        let entry = context.request.city.clone().unwrap_or_default();
        let name = parse_name::<City>("city.name", &entry.name)?;
        let (known, id) = (known(&self.journal, &city::mentioned(&entry)?).await?, name.id);
        let command =
            self.commands.update(&context, name, context.request.etag(), move |city, request, caller, now| {
                city::update(city, id, request, &known, caller, now)
            });
        self.commands.respond(&context, command).await
    }

    async fn rename_city(&self, request: Request<RenameCityRequest>) -> ApiResult<proto::City> {
        self.commands.execute(request, city::rename).await
    }

    async fn record_mayor_term(&self, request: Request<RecordMayorTermRequest>) -> ApiResult<proto::City> {
        self.commands.execute(request, term::record).await
    }

    async fn end_mayor_term(&self, request: Request<EndMayorTermRequest>) -> ApiResult<proto::City> {
        self.commands.execute(request, term::end).await
    }

    async fn set_fact(&self, request: Request<SetFactRequest>) -> ApiResult<proto::City> {
        self.commands.execute(request, fact::set).await
    }

    async fn merge_cities(&self, request: Request<MergeCitiesRequest>) -> ApiResult<proto::City> {
        let context = self.commands.accept(request)?;
        let request = &context.request;
        let merged = self.across(
            &context,
            ("successor", &request.successor, &request.etag),
            &request.predecessors,
            "predecessors",
            succession::merge,
        );
        self.commands.replay_or::<City, _>(&context, merged).await
    }

    async fn split_city(&self, request: Request<SplitCityRequest>) -> ApiResult<proto::City> {
        let context = self.commands.accept(request)?;
        let request = &context.request;
        let split = self.across(
            &context,
            ("name", &request.name, &request.etag),
            &request.successors,
            "successors",
            succession::split,
        );
        self.commands.replay_or::<City, _>(&context, split).await
    }

    async fn retract_city(&self, request: Request<RetractCityRequest>) -> ApiResult<()> {
        self.commands.execute_delete(request, city::delete).await
    }

    async fn batch_import_cities(&self, request: Request<BatchImportCitiesRequest>) -> ApiResult<RowResults> {
        let context = self.commands.accept(request)?;
        let request = context.request.clone();
        limits::rows(request.rows.len(), city::IMPORT_ROWS)?;
        let (mut commands, mut ids) = (Vec::with_capacity(request.rows.len()), Vec::with_capacity(request.rows.len()));
        for row in &request.rows {
            let id = city::row_id(row);
            if let Ok(id) = &id {
                commands.push(self.import(&context, *id, row.clone()));
            }
            ids.push(id);
        }
        let now = self.journal.clock().moment();
        let mut receipts = self.journal.submit_each(commands, context.validate_only).await.into_iter();
        let rows = ids.into_iter().enumerate().map(|(index, id)| {
            let name = id.as_ref().map(|id| RecordName::new("cities", *id).to_string()).unwrap_or_default();
            let receipt = id.and_then(|_| receipts.next().unwrap_or_else(|| Err(undecided())));
            row_result(index, name, receipt.map(|receipt| outcome(&receipt, now)))
        });
        Ok(Response::new(RowResults { rows: rows.collect() }))
    }
}

impl Cities {
    fn import(&self, context: &CommandContext<BatchImportCitiesRequest>, id: RecordId, row: CityRow) -> Command<City> {
        let rule = move |before: Option<&City>, request: &BatchImportCitiesRequest, caller: &Caller, now: Moment| {
            city::import(before, &row, &request.source, caller, now)
        };
        // A row needs no idempotency key: importing the same row again changes nothing.
        self.commands.create(context, RecordName::new("cities", id), rule).idempotent(None)
    }
}

fn outcome(receipt: &Receipt<City>, now: Moment) -> RowOutcome {
    let is_new = receipt.version == receipt.changes;
    let before = (!is_new).then_some(receipt.state.as_ref());
    city::outcome(before, receipt.changes > 0, now)
}
