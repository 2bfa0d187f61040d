//! The handlers of `EvaluationService`: evaluations, findings, simulations and rubrics (ST-6 to ST-9).

use super::{city_name, latest, watch};
use crate::portfolio::{self, Standing};
use chrono::NaiveDate;
use futures::Stream;
use hansa_chassis::{ApiError, ApiResult, Handlers, Page, QueryHandler, parse_name};
use hansa_journal::{Journal, Loaded, PastChange};
use hansa_kernel::{Record, RecordName, Refusal, Refused, Relation, time};
use hansa_proto::ChangeSet;
use hansa_proto::handlers::EvaluationServiceHandler;
use hansa_proto::strategy::evaluation_change::Change;
use hansa_proto::strategy::{
    Evaluation, GetEvaluationRequest, GetRubricRequest, ListEvaluationsRequest, ListEvaluationsResponse,
    ListFindingsRequest, ListFindingsResponse, Rubric as RubricResource, SimulatePortfolioRequest,
    SimulatePortfolioResponse, WatchEvaluationsRequest, WatchEvaluationsResponse,
};
use hansa_strategy_domain::{Evaluations, Rubric, evaluate, evaluation, simulate};
use std::{pin::Pin, sync::Arc};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Handles the rpcs of `EvaluationService`.
#[derive(Clone, Debug)]
pub struct EvaluationHandler {
    queries: QueryHandler,
    journal: Journal,
    rubric: Arc<Rubric>,
    drain: CancellationToken,
}

impl EvaluationHandler {
    /// Creates the handler. Its streams end when the process drains.
    pub fn new(Handlers { queries, journal, drain, .. }: Handlers, rubric: Arc<Rubric>) -> Self {
        Self { queries, journal, rubric, drain }
    }

    /// Reads the portfolio and the strategy of a city on a day.
    ///
    /// # Errors
    /// `NOT_FOUND` if the city does not exist or is not the caller's own.
    async fn standing<Q>(&self, request: &Request<Q>, city: &RecordName, day: NaiveDate) -> Refused<Standing> {
        let caller = self.queries.caller(request)?;
        let found = portfolio::of(&self.journal, city.id, day).await?;
        let relation = found.as_ref().map_or(Relation::Stranger, |found| found.relation(&caller));
        self.queries.permit(request, relation, city.as_str())?;
        found.ok_or_else(|| Refusal::not_found(city))
    }

    /// Returns the rubric with this name. A node has one rubric so far, and the empty name refers to it.
    fn rubric(&self, name: &str) -> Refused<&Rubric> {
        if name.is_empty() || name == self.rubric.name() {
            return Ok(&self.rubric);
        }
        let refusal = Refusal::not_found(hansa_kernel::text::excerpt(name)).under("ST-8");
        Err(refusal.help(format!("This node evaluates by {}.", self.rubric.name())))
    }

    fn today(&self) -> NaiveDate {
        self.journal.clock().moment().today()
    }
}

/// Returns the evaluation that an earlier change recorded.
fn past_evaluation(found: &Loaded<Evaluations>, change: &PastChange) -> Option<Evaluation> {
    let (etag, envelope) = (change.etag(), &change.envelope);
    let Change::Recorded(recorded) = Change::decode(&envelope.payload_type, &envelope.payload).ok()??;
    let create_time = Some(time::timestamp(found.times.0));
    Some(Evaluation { etag, create_time, update_time: envelope.claim_time, ..recorded.evaluation? })
}

impl EvaluationServiceHandler for EvaluationHandler {
    type Error = ApiError;
    type WatchEvaluationsStream = Pin<Box<dyn Stream<Item = Result<WatchEvaluationsResponse, Status>> + Send>>;

    async fn get_evaluation(&self, request: Request<GetEvaluationRequest>) -> ApiResult<Evaluation> {
        let query = request.get_ref();
        if !query.name.is_empty() {
            let name = parse_name::<Evaluations>("name", &query.name)?;
            let found = self.queries.load::<Evaluations, _>(&request, &name).await?;
            return Ok(Response::new(latest(&found)));
        }
        let city = city_name(&query.city, "city")?;
        let name = evaluation::name_of(&city);
        if let Some(found) = self.journal.load::<Evaluations>(&name).await? {
            // The refusal names the city, not the evaluation, so that a stranger cannot tell whether the city has one.
            let relation = found.state.relation(&self.queries.caller(&request)?);
            self.queries.permit(&request, relation, city.as_str())?;
            return Ok(Response::new(latest(&found)));
        }
        // The city has just joined and has no recorded evaluation yet. Evaluate it now.
        let today = self.today();
        let standing = self.standing(&request, &city, today).await?;
        let result = evaluate(&self.rubric, &standing.portfolio, standing.strategy.as_deref(), today);
        Ok(Response::new(result))
    }

    async fn list_evaluations(&self, request: Request<ListEvaluationsRequest>) -> ApiResult<ListEvaluationsResponse> {
        let query = request.get_ref();
        let name = evaluation::name_of(&city_name(&query.city, "city")?);
        let found = self.queries.load::<Evaluations, _>(&request, &name).await?;
        let page = Page::of(query)?;
        // The token names the oldest version of the page before.
        let before = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(found.version + 1);
        let last = before.min(found.version + 1).saturating_sub(1);
        let first = last.saturating_sub(page.size) + 1;
        let past = self.journal.history(name.id, first - 1, last + 1 - first).await?;
        let evaluations = past.iter().rev().filter_map(|change| past_evaluation(&found, change)).collect();
        let next_page_token = page.next_token((first > 1 && last > 0).then(|| vec![first.to_string()]));
        Ok(Response::new(ListEvaluationsResponse { evaluations, next_page_token }))
    }

    async fn list_findings(&self, request: Request<ListFindingsRequest>) -> ApiResult<ListFindingsResponse> {
        let query = request.get_ref();
        let name = parse_name::<Evaluations>("parent", &query.parent)?;
        let found = self.queries.load::<Evaluations, _>(&request, &name).await?;
        // A page token is valid only for the same version, because positions differ between versions.
        let page = Page::of_version(query, found.etag.as_bytes())?;
        let after = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0_usize);
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let mut findings: Vec<_> = found.state.latest().findings;
        findings.retain(|finding| finding.severity >= query.min_severity);
        let next = after.saturating_add(size);
        let more = next < findings.len();
        let findings = findings.into_iter().skip(after).take(size).collect();
        let next_page_token = page.next_token(more.then(|| vec![next.to_string()]));
        Ok(Response::new(ListFindingsResponse { findings, next_page_token }))
    }

    async fn watch_evaluations(
        &self,
        request: Request<WatchEvaluationsRequest>,
    ) -> ApiResult<Self::WatchEvaluationsStream> {
        let query = request.get_ref();
        let caller = self.queries.caller(&request)?;
        let city = if query.city.is_empty() { None } else { Some(city_name(&query.city, "city")?) };
        let relation = match &city {
            Some(city) if portfolio::tenant_of(&self.journal, city.id).await? != Some(caller.tenant) => {
                Relation::Stranger
            }
            _ => Relation::Owner,
        };
        let subject = city.as_ref().map_or_else(|| caller.tenant.name(), RecordName::to_string);
        self.queries.permit(&request, relation, &subject)?;
        let sent = watch::parse_token(&query.resume_token)?;
        let watch = watch::Watch::new(&self.journal, caller.tenant, city, sent, self.drain.clone());
        Ok(Response::new(Box::pin(watch.stream())))
    }

    async fn simulate_portfolio(
        &self,
        request: Request<SimulatePortfolioRequest>,
    ) -> ApiResult<SimulatePortfolioResponse> {
        let query = request.get_ref();
        let city = city_name(&query.city, "city")?;
        let day = time::day_if_any("evaluation_date", query.evaluation_date.as_ref())?.unwrap_or_else(|| self.today());
        let standing = self.standing(&request, &city, day).await?;
        let rubric = self.rubric(&query.rubric)?;
        // The rule refuses more steps than the limit, so the handler does not read the partners of later steps.
        let named = simulate::partners_of(&query.steps).take(simulate::STEPS);
        let partners = portfolio::partners(&self.journal, named, day).await?;
        let strategy = standing.strategy.as_deref();
        let response = simulate::simulate(rubric, &standing.portfolio, strategy, &query.steps, &partners, day);
        Ok(Response::new(response?))
    }

    async fn get_rubric(&self, request: Request<GetRubricRequest>) -> ApiResult<RubricResource> {
        let name = &request.get_ref().name;
        self.queries.permit(&request, Relation::Public, name)?;
        if name.is_empty() {
            return Err(Refusal::field("name", "is required").into());
        }
        Ok(Response::new(self.rubric(name)?.to_proto()))
    }
}
