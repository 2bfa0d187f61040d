//! Evaluates each city that something has touched (ST-6), and every city when a new day begins.

use crate::{
    portfolio,
    subscriptions::{EVALUATE, EVALUATE_COUNTRY, EVALUATE_PARTNERS, register::Countries},
    views::joined_city,
};
use hansa_journal::{Author, Command, Journal, Mirrors, Worker, trace};
use hansa_kernel::{RecordId, RecordName, Refused};
use hansa_strategy_domain::{Rubric, evaluate, evaluation};
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
            self.journal.queue(EVALUATE_COUNTRY, move |country| countries.clone().touch_country(country)),
            self.journal.queue(EVALUATE_PARTNERS, move |city| partners.clone().touch_partners(city)),
            self.journal.queue(EVALUATE, move |city| cities.clone().evaluate(city)),
        ]
    }

    async fn touch_country(self: Arc<Self>, country: Uuid) -> Refused<()> {
        let Some(known) = Mirrors::<Countries>::of(&self.journal).get(RecordId(country)).await? else {
            return Ok(());
        };
        let cities = joined_city::touched_by_country(self.journal.store(), &known.iso2).await?;
        self.journal.mark(EVALUATE, cities).await
    }

    async fn touch_partners(self: Arc<Self>, city: Uuid) -> Refused<()> {
        let partners = joined_city::partners_of(self.journal.store(), RecordId(city)).await?;
        if partners.is_empty() {
            return Ok(());
        }
        self.journal.mark(EVALUATE, partners).await
    }

    /// Evaluates one city as of today, and records the result where it is a new one.
    async fn evaluate(self: Arc<Self>, city: Uuid) -> Refused<()> {
        let today = self.journal.clock().moment().today();
        let Some(standing) = portfolio::of(&self.journal, RecordId(city), today).await? else { return Ok(()) };
        let result = evaluate(&self.rubric, &standing.portfolio, standing.strategy.as_deref(), today);
        let name = evaluation::name_of(&RecordName::new("cities", RecordId(city)));
        let tenant = standing.tenant;
        let author = Author { tenant: Some(tenant), trace: trace::current(), ..Author::default() };
        let command = Command::new(name, author, move |state, _| evaluation::record(state, result.clone(), tenant));
        self.journal.submit(command, false).await.map(drop)
    }
}

/// Has every joined city evaluated when a new day begins: some findings come by the calendar alone.
#[must_use]
pub fn sweep(journal: &Journal) -> Box<dyn Worker> {
    let store = journal.store().clone();
    journal.daily(EVALUATE, move |_| {
        let store = store.clone();
        async move { joined_city::all(&store).await }
    })
}
