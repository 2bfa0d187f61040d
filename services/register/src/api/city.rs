//! Cities: CT-1, CT-2, CT-4, CT-10, CT-11, CT-13.

use super::{cities, known};
use crate::views;
use hansa_chassis::{Act, Desk, Page, ask, bounded, desk::new_id, named};
use hansa_journal::{Command, Receipt, Together};
use hansa_kernel::{Caller, Moment, RecordId, RecordName, Refusal, limits, time};
use hansa_proto::{
    WriteRequest,
    register::{
        self as proto, BatchImportCitiesRequest, BatchImportCitiesResponse, CityRow, CreateCityRequest,
        DeleteCityRequest, EndTermRequest, GetCityRequest, ImportOutcome, ImportedRow, ListCitiesRequest,
        ListCitiesResponse, MergeCitiesRequest, RecordTermRequest, RenameCityRequest, SetFactRequest, SplitCityRequest,
        UpdateCityRequest,
        city_service_server::{CityService, CityServiceServer},
    },
};
use hansa_register_domain::{City, city, fact, succession, term};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tonic::{Request, Response, Status};

struct Cities(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> CityServiceServer<impl CityService> {
    bounded!(CityServiceServer::new(Cities(desk)))
}

impl Cities {
    /// A command on several cities at once. `rule` decides over all of them; each record takes its own part, with its
    /// present state in place of what was read before.
    async fn across<Q, F>(
        &self,
        act: &Act<Q>,
        (name, etag): (&str, &str),
        others: &[String],
        field: &str,
        rule: F,
    ) -> Result<Response<proto::City>, Status>
    where
        Q: Send + Sync + 'static,
        F: Fn((RecordId, &City), &BTreeMap<RecordId, City>, &Q, &Caller) -> succession::Across
            + Copy
            + Send
            + Sync
            + 'static,
    {
        let first = named::<City>("name", name)?;
        let others = others.iter().map(|other| named::<City>(field, other)).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<RecordId> = others.iter().map(|other| other.id).collect();
        let read = Arc::new(cities(&self.0, &ids).await?);
        let Some(main) = cities(&self.0, &[first.id]).await?.remove(&first.id) else {
            return Err(hansa_chassis::to_status(&Refusal::not_found(&first)));
        };
        let id = first.id;
        let seen = read.clone();
        let command = self.0.on(act, first, etag, move |city: &City, asked: &Q, caller: &Caller, _: Moment| {
            succession::part(rule((id, city), &seen, asked, caller), id)
        });
        let mut together: Vec<Together> = Vec::new();
        for other in others.into_iter().filter(|other| read.contains_key(&other.id)) {
            let (seen, main, part) = (read.clone(), main.clone(), other.id);
            let command: Command<City> =
                self.0.on(act, other, "", move |city: &City, asked: &Q, caller: &Caller, _: Moment| {
                    let mut all = (*seen).clone();
                    all.insert(part, city.clone());
                    succession::part(rule((id, &main), &all, asked, caller), part)
                });
            together.push(command.into());
        }
        self.0.done_with(act, command, together).await
    }
}

#[tonic::async_trait]
impl CityService for Cities {
    async fn get_city(&self, request: Request<GetCityRequest>) -> Result<Response<proto::City>, Status> {
        let name = named::<City>("name", &request.get_ref().name)?;
        let day = ask(time::day_if_any("as_of_date", request.get_ref().as_of_date.as_ref()))?;
        let city = self.0.read::<City, _>(&request, &name).await?;
        let state = match day {
            None => Some((*city.state).clone()),
            Some(day) => city.state.as_of(day),
        };
        let state = ask(state.ok_or_else(|| Refusal::not_found(&name)))?;
        let mut shown = self.0.resolve(vec![state.resource(&name, &city.etag)]).await?;
        Ok(Response::new(shown.swap_remove(0)))
    }

    async fn list_cities(&self, request: Request<ListCitiesRequest>) -> Result<Response<ListCitiesResponse>, Status> {
        let asked = request.get_ref();
        let page = ask(Page::of(asked, &views::city::question(asked)))?;
        let found = ask(views::city::list(self.0.journal().store(), asked, &page).await)?;
        let (cities, next_page_token) = self.0.listed::<City, _>(&request, &page, found).await?;
        Ok(Response::new(ListCitiesResponse { cities, next_page_token }))
    }

    async fn create_city(&self, request: Request<CreateCityRequest>) -> Result<Response<proto::City>, Status> {
        let act = self.0.open(request)?;
        let asked = act.request.city.clone().unwrap_or_default();
        let known = known(&self.0, &ask(city::mentioned(&asked))?).await?;
        let id = city::id_of(&asked, new_id());
        let command = self.0.make(&act, RecordName::new("cities", id), move |city, asked, caller, _| {
            city::create(city, id, asked, &known, caller)
        });
        self.0.done(&act, command).await
    }

    async fn update_city(&self, request: Request<UpdateCityRequest>) -> Result<Response<proto::City>, Status> {
        let act = self.0.open(request)?;
        let asked = act.request.city.clone().unwrap_or_default();
        let name = named::<City>("city.name", &asked.name)?;
        let (known, id) = (known(&self.0, &ask(city::mentioned(&asked))?).await?, name.id);
        let command = self.0.on(&act, name, act.request.etag(), move |city, asked, caller, at| {
            city::update(city, id, asked, &known, caller, at)
        });
        self.0.done(&act, command).await
    }

    async fn rename_city(&self, request: Request<RenameCityRequest>) -> Result<Response<proto::City>, Status> {
        self.0.step(request, city::rename).await
    }

    async fn record_term(&self, request: Request<RecordTermRequest>) -> Result<Response<proto::City>, Status> {
        self.0.step(request, term::record).await
    }

    async fn end_term(&self, request: Request<EndTermRequest>) -> Result<Response<proto::City>, Status> {
        self.0.step(request, term::end).await
    }

    async fn set_fact(&self, request: Request<SetFactRequest>) -> Result<Response<proto::City>, Status> {
        self.0.step(request, fact::set).await
    }

    async fn merge_cities(&self, request: Request<MergeCitiesRequest>) -> Result<Response<proto::City>, Status> {
        let act = self.0.open(request)?;
        let asked = &act.request;
        let merged =
            self.across(&act, (&asked.name, &asked.etag), &asked.predecessors, "predecessors", succession::merge);
        self.0.once::<City, _>(&act, merged).await
    }

    async fn split_city(&self, request: Request<SplitCityRequest>) -> Result<Response<proto::City>, Status> {
        let act = self.0.open(request)?;
        let asked = &act.request;
        let split = self.across(&act, (&asked.name, &asked.etag), &asked.successors, "successors", succession::split);
        self.0.once::<City, _>(&act, split).await
    }

    async fn delete_city(&self, request: Request<DeleteCityRequest>) -> Result<Response<()>, Status> {
        self.0.remove(request, city::delete).await
    }

    async fn batch_import_cities(
        &self,
        request: Request<BatchImportCitiesRequest>,
    ) -> Result<Response<BatchImportCitiesResponse>, Status> {
        let act = self.0.open(request)?;
        let asked = act.request.clone();
        ask(limits::rows(asked.rows.len(), city::IMPORT_ROWS))?;
        let mut commands = Vec::with_capacity(asked.rows.len());
        let mut answers = Vec::with_capacity(asked.rows.len());
        for row in &asked.rows {
            match city::row_id(row) {
                Ok(id) => {
                    let outcome = Arc::new(Mutex::new(ImportOutcome::Unspecified));
                    answers.push(Ok((id, outcome.clone())));
                    commands.push(self.import(&act, id, row.clone(), outcome));
                }
                Err(refusal) => answers.push(Err(refusal)),
            }
        }
        let mut receipts = self.0.journal().submit_each(commands, act.validate_only).await.into_iter();
        let rows = answers
            .into_iter()
            .map(|answer| match answer {
                Ok((id, outcome)) => imported(id, &outcome, receipts.next()),
                Err(refusal) => refused(String::new(), &refusal),
            })
            .collect();
        Ok(Response::new(BatchImportCitiesResponse { rows }))
    }
}

type Outcome = Arc<Mutex<ImportOutcome>>;

impl Cities {
    fn import(
        &self,
        act: &Act<BatchImportCitiesRequest>,
        id: RecordId,
        row: CityRow,
        outcome: Outcome,
    ) -> Command<City> {
        let rule = move |before: Option<&City>, asked: &BatchImportCitiesRequest, caller: &Caller, at: Moment| {
            let decision = city::import(before, &row, &asked.source, caller, at);
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = city::outcome(before, &decision, at);
            decision
        };
        // The rows are the request's own idempotency: one that is there already changes nothing.
        self.0.make(act, RecordName::new("cities", id), rule).once(None)
    }
}

fn imported(id: RecordId, outcome: &Outcome, receipt: Option<Result<Receipt<City>, Refusal>>) -> ImportedRow {
    let name = RecordName::new("cities", id).to_string();
    match receipt {
        Some(Err(refusal)) => refused(name, &refusal),
        _ => {
            let outcome = *outcome.lock().unwrap_or_else(PoisonError::into_inner);
            ImportedRow { name, outcome: outcome as i32, reason: String::new() }
        }
    }
}

fn refused(name: String, refusal: &Refusal) -> ImportedRow {
    ImportedRow { name, outcome: ImportOutcome::Refused as i32, reason: refusal.to_string() }
}
