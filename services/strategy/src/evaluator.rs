//! Evaluates each city that something has touched (ST-6), and every city when a new day begins.

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

/// Works off the queues of what must be evaluated again.
#[derive(Clone, Debug)]
pub struct Evaluator {
    journal: Journal,
    rubric: Arc<Rubric>,
}

impl Evaluator {
    /// An evaluator over the service's own journal, by the node's rubric.
    #[must_use]
    pub fn new(journal: &Journal, rubric: Arc<Rubric>) -> Self {
        Self { journal: journal.clone(), rubric }
    }

    /// Its queues. What touches many cities puts each of them on the queue of cities.
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

    /// Evaluates cities as of today, and records the results that are new ones. What they need is read together, and what
    /// comes of it is written together.
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

    /// What records the result of one city.
    fn command(&self, city: &PendingKey, standing: Standing, today: NaiveDate) -> Command<Evaluations> {
        let Standing { tenant, portfolio, strategy } = standing;
        let result = evaluate(&self.rubric, &portfolio, strategy.as_deref(), today);
        let name = evaluation::name_of(&RecordName::new("cities", RecordId(city.key)));
        let author = Author { tenant: Some(tenant), trace: city.span.in_scope(trace::current), ..Author::default() };
        Command::new(name, author, move |state, _| evaluation::record(state, result.clone(), tenant))
    }
}

/// Has every joined city evaluated when a new day begins: some findings come by the calendar alone.
#[must_use]
pub fn sweep(journal: &Journal) -> Box<dyn Worker> {
    let store = journal.store().clone();
    journal.daily(EVALUATE, move |_| {
        let store = store.clone();
        async move { Ok(joined_city::all(&store).await?) }
    })
}
