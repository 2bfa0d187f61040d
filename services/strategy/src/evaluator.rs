//! The evaluator: evaluates a city again when one of its inputs has changed (ST-6), and every city at the start of a
//! day.

use crate::{
    portfolio::{self, Standing},
    subscriptions::{EVALUATE, EVALUATE_COUNTRY, EVALUATE_PARTNERS},
    views::joined_city,
};
use chrono::NaiveDate;
use hansa_journal::{Author, Command, Journal, Mirrors, PendingKey, Worker, trace};
use hansa_kernel::{RecordId, RecordName, Refused};
use hansa_register_domain::reference::CountryReference;
use hansa_strategy_domain::{Evaluations, Rubric, evaluate, evaluation};
use std::sync::Arc;
use uuid::Uuid;

/// Processes the work queues of evaluations.
#[derive(Clone, Debug)]
pub struct Evaluator {
    journal: Journal,
    rubric: Arc<Rubric>,
}

impl Evaluator {
    /// Creates an evaluator that uses this rubric and records its results in the journal.
    #[must_use]
    pub fn new(journal: &Journal, rubric: Arc<Rubric>) -> Self {
        Self { journal: journal.clone(), rubric }
    }

    /// Returns the work queues. A change that affects many cities goes through a queue that adds each of them to the
    /// city queue.
    #[must_use]
    pub fn queues(self: &Arc<Self>) -> Vec<Box<dyn Worker>> {
        let (countries, partners, cities) = (self.clone(), self.clone(), self.clone());
        vec![
            self.journal.work_queue(EVALUATE_COUNTRY, move |country| countries.clone().touch_country(country)),
            self.journal.work_queue(EVALUATE_PARTNERS, move |city| partners.clone().touch_partners(city)),
            self.journal.batched_work_queue(EVALUATE, move |some| cities.clone().evaluate(some)),
        ]
    }

    async fn touch_country(self: Arc<Self>, country: Uuid) -> Refused<()> {
        let Some(known) = Mirrors::<CountryReference>::new(&self.journal).get(RecordId(country)).await? else {
            return Ok(());
        };
        let cities = joined_city::touched_by_country(self.journal.store(), &known.iso2).await?;
        Ok(self.journal.mark(EVALUATE, cities).await?)
    }

    async fn touch_partners(self: Arc<Self>, city: Uuid) -> Refused<()> {
        let partners = joined_city::partners_of(self.journal.store(), RecordId(city)).await?;
        if partners.is_empty() {
            return Ok(());
        }
        Ok(self.journal.mark(EVALUATE, partners).await?)
    }

    /// Evaluates cities as of today, and records each result that differs from the latest. Reads the inputs of all
    /// cities together and submits all results together.
    async fn evaluate(self: Arc<Self>, cities: Vec<PendingKey>) -> Vec<Refused<()>> {
        let today = self.journal.clock().moment().today();
        let ids: Vec<Uuid> = cities.iter().map(|city| city.key).collect();
        let mut standing = match portfolio::of_each(&self.journal, &ids, today).await {
            Ok(standing) => standing,
            Err(refusal) => return vec![Err(refusal); cities.len()],
        };
        let of = |city: &PendingKey| Some(self.command(city, standing.remove(&city.key)?, today));
        let commands: Vec<Option<Command<Evaluations>>> = cities.iter().map(of).collect();
        let evaluated: Vec<bool> = commands.iter().map(Option::is_some).collect();
        let mut answers = self.journal.submit_each(commands.into_iter().flatten().collect(), false).await.into_iter();
        let mut answer = |evaluated| if evaluated { answers.next() } else { None };
        evaluated.into_iter().map(|evaluated| answer(evaluated).map_or(Ok(()), |answer| answer.map(drop))).collect()
    }

    /// Evaluates one city, and returns the command that records the result.
    fn command(&self, city: &PendingKey, standing: Standing, today: NaiveDate) -> Command<Evaluations> {
        let Standing { tenant, portfolio, strategy } = standing;
        let result = evaluate(&self.rubric, &portfolio, strategy.as_deref(), today);
        let name = evaluation::name_of(&RecordName::new("cities", RecordId(city.key)));
        let author = Author { tenant: Some(tenant), trace: city.span.in_scope(trace::current), ..Author::default() };
        Command::new(name, author, move |state, _| evaluation::record(state, result.clone(), tenant))
    }
}

/// Returns the worker that enqueues every joined city at the start of a day, because some findings depend on the date.
#[must_use]
pub fn sweep(journal: &Journal) -> Box<dyn Worker> {
    let store = journal.store().clone();
    journal.daily(EVALUATE, move |_| {
        let store = store.clone();
        async move { Ok(joined_city::all(&store).await?) }
    })
}
