//! Evaluations, findings, simulations, rubrics: ST-6 to ST-9.

use super::{city_name, watch};
use crate::portfolio::{self, Standing};
use chrono::NaiveDate;
use futures::Stream;
use hansa_chassis::{Desk, Page, ask, bounded, named};
use hansa_kernel::{Record, RecordName, Refusal, Relation, time};
use hansa_proto::strategy::{
    Evaluation, GetEvaluationRequest, GetRubricRequest, ListFindingsRequest, ListFindingsResponse,
    Rubric as RubricShown, SimulatePortfolioRequest, SimulatePortfolioResponse, WatchEvaluationsRequest,
    WatchEvaluationsResponse,
    evaluation_service_server::{EvaluationService, EvaluationServiceServer},
};
use hansa_strategy_domain::{Evaluations, Rubric, evaluate, evaluation, simulate};
use std::{pin::Pin, sync::Arc};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

struct Desks {
    desk: Desk,
    rubric: Arc<Rubric>,
    drain: CancellationToken,
}

/// The gRPC service; its streams end when `drain` is cancelled.
pub fn server(
    desk: Desk,
    rubric: Arc<Rubric>,
    drain: CancellationToken,
) -> EvaluationServiceServer<impl EvaluationService> {
    bounded!(EvaluationServiceServer::new(Desks { desk, rubric, drain }))
}

impl Desks {
    /// How a city of the caller's own stands on a day. A city of others is not told from one that is not there.
    async fn standing<Q>(&self, request: &Request<Q>, city: &RecordName, day: NaiveDate) -> Result<Standing, Status> {
        let caller = self.desk.caller(request)?;
        let found = ask(portfolio::of(self.desk.journal(), city.id, day).await)?;
        let relation = found.as_ref().map_or(Relation::Stranger, |found| found.relation(&caller));
        self.desk.permit(request, relation, city.as_str())?;
        ask(found.ok_or_else(|| Refusal::not_found(city)))
    }

    /// The node has one rubric so far; another name is refused with the name of that one.
    fn rubric(&self, name: &str) -> Result<&Rubric, Status> {
        if name.is_empty() || name == self.rubric.name() {
            return Ok(&self.rubric);
        }
        let refusal = Refusal::not_found(hansa_kernel::text::excerpt(name)).under("ST-8");
        ask(Err(refusal.help(format!("This node evaluates by {}.", self.rubric.name()))))
    }

    fn today(&self) -> NaiveDate {
        self.desk.journal().clock().moment().today()
    }
}

#[tonic::async_trait]
impl EvaluationService for Desks {
    async fn get_evaluation(&self, request: Request<GetEvaluationRequest>) -> Result<Response<Evaluation>, Status> {
        let asked = request.get_ref();
        if !asked.name.is_empty() {
            let name = named::<Evaluations>("name", &asked.name)?;
            let found = self.desk.read::<Evaluations, _>(&request, &name).await?;
            return Ok(Response::new(found.state.latest()));
        }
        let city = city_name(&asked.city, "city")?;
        let name = evaluation::name_of(&city);
        if let Some(found) = ask(self.desk.journal().load::<Evaluations>(&name).await)? {
            // By the name that was asked: a city that has an evaluation is not told from one that is not there.
            let relation = found.state.relation(&self.desk.caller(&request)?);
            self.desk.permit(&request, relation, city.as_str())?;
            return Ok(Response::new(found.state.latest()));
        }
        // None is recorded yet: the city has only just joined. It need not wait for the evaluator.
        let today = self.today();
        let standing = self.standing(&request, &city, today).await?;
        let result = evaluate(&self.rubric, &standing.portfolio, standing.strategy.as_deref(), today);
        Ok(Response::new(result))
    }

    async fn list_findings(
        &self,
        request: Request<ListFindingsRequest>,
    ) -> Result<Response<ListFindingsResponse>, Status> {
        let asked = request.get_ref();
        let name = named::<Evaluations>("evaluation", &asked.evaluation)?;
        let found = self.desk.read::<Evaluations, _>(&request, &name).await?;
        // A page goes on in the same result alone: in another one the same place is another finding.
        let page = ask(Page::of(asked, &format!("findings {name} {} {}", found.etag, asked.least_severity)))?;
        let after = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0_usize);
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let mut findings: Vec<_> = found.state.latest().findings;
        findings.retain(|finding| finding.severity >= asked.least_severity);
        let next = after.saturating_add(size);
        let more = next < findings.len();
        let findings = findings.into_iter().skip(after).take(size).collect();
        let next_page_token = page.next(more.then(|| vec![next.to_string()]));
        Ok(Response::new(ListFindingsResponse { findings, next_page_token }))
    }

    type WatchEvaluationsStream = Pin<Box<dyn Stream<Item = Result<WatchEvaluationsResponse, Status>> + Send>>;

    async fn watch_evaluations(
        &self,
        request: Request<WatchEvaluationsRequest>,
    ) -> Result<Response<Self::WatchEvaluationsStream>, Status> {
        let asked = request.get_ref();
        let caller = self.desk.caller(&request)?;
        let city = if asked.city.is_empty() { None } else { Some(city_name(&asked.city, "city")?) };
        let relation = match &city {
            Some(city) if ask(portfolio::tenant_of(self.desk.journal(), city.id).await)? != Some(caller.tenant) => {
                Relation::Stranger
            }
            _ => Relation::Owner,
        };
        let subject = city.as_ref().map_or_else(|| caller.tenant.name(), RecordName::to_string);
        self.desk.permit(&request, relation, &subject)?;
        let watch = watch::Watch::new(self.desk.journal(), caller.tenant, city, self.drain.clone());
        Ok(Response::new(Box::pin(watch.stream())))
    }

    async fn simulate_portfolio(
        &self,
        request: Request<SimulatePortfolioRequest>,
    ) -> Result<Response<SimulatePortfolioResponse>, Status> {
        let asked = request.get_ref();
        let city = city_name(&asked.city, "city")?;
        let day = ask(time::day_if_any("date", asked.date.as_ref()))?.unwrap_or_else(|| self.today());
        let standing = self.standing(&request, &city, day).await?;
        let rubric = self.rubric(&asked.rubric)?;
        // Beyond the limit of steps the rule refuses, whatever else they name.
        let named = simulate::partners_of(&asked.steps).take(simulate::STEPS);
        let partners = ask(portfolio::partners(self.desk.journal(), named, day).await)?;
        let strategy = standing.strategy.as_deref();
        let answer = simulate::simulate(rubric, &standing.portfolio, strategy, &asked.steps, &partners, day);
        Ok(Response::new(ask(answer)?))
    }

    async fn get_rubric(&self, request: Request<GetRubricRequest>) -> Result<Response<RubricShown>, Status> {
        let name = &request.get_ref().name;
        self.desk.permit(&request, Relation::Public, name)?;
        if name.is_empty() {
            return ask(Err(Refusal::field("name", "is required")));
        }
        Ok(Response::new(self.rubric(name)?.to_proto()))
    }
}
