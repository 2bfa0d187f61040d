//! Evaluates each city that something has touched (ST-6), and every city when a new day begins.

use crate::{
    portfolio,
    subscriptions::{EVALUATE, EVALUATE_COUNTRY, EVALUATE_PARTNERS, register::Countries},
    views::joined_city,
};
use chrono::NaiveDate;
use hansa_journal::{Author, Command, Journal, Mirrors, trace};
use hansa_kernel::{RecordId, RecordName, Refused};
use hansa_strategy_domain::{Rubric, evaluate, evaluation};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the sweep looks whether a new day has begun.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);

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

    /// Works until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let journal = || self.journal.clone();
        tokio::join!(
            journal().run_queue(EVALUATE_COUNTRY, stop.clone(), |country| self.touch_country(country)),
            journal().run_queue(EVALUATE_PARTNERS, stop.clone(), |city| self.touch_partners(city)),
            journal().run_queue(EVALUATE, stop, |city| self.evaluate(city)),
        );
    }

    /// One round of each queue. Answers how many keys were worked off.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn step(&self) -> Refused<usize> {
        let countries = self.journal.work_queue(EVALUATE_COUNTRY, &|country| self.touch_country(country)).await?;
        let partners = self.journal.work_queue(EVALUATE_PARTNERS, &|city| self.touch_partners(city)).await?;
        let cities = self.journal.work_queue(EVALUATE, &|city| self.evaluate(city)).await?;
        Ok(countries + partners + cities)
    }

    async fn touch_country(&self, country: Uuid) -> Refused<()> {
        let Some(known) = Mirrors::<Countries>::of(&self.journal).get(RecordId(country)).await? else {
            return Ok(());
        };
        let cities = joined_city::touched_by_country(self.journal.store(), &known.iso2).await?;
        self.journal.mark(EVALUATE, cities).await
    }

    async fn touch_partners(&self, city: Uuid) -> Refused<()> {
        let partners = joined_city::partners_of(self.journal.store(), RecordId(city)).await?;
        if partners.is_empty() {
            return Ok(());
        }
        self.journal.mark(EVALUATE, partners).await
    }

    /// Evaluates one city as of today, and records the result where it is a new one.
    async fn evaluate(&self, city: Uuid) -> Refused<()> {
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
#[derive(Debug)]
pub struct Sweep {
    journal: Journal,
    swept: Option<NaiveDate>,
}

impl Sweep {
    /// A sweep that has not yet swept: the day may have changed while the service was away.
    #[must_use]
    pub fn new(journal: &Journal) -> Self {
        Self { journal: journal.clone(), swept: None }
    }

    /// Looks at the clock. Answers whether a new day had begun.
    ///
    /// # Errors
    /// Where the database is away; the day counts as not yet swept then.
    pub async fn step(&mut self) -> Refused<bool> {
        let today = self.journal.clock().moment().today();
        if self.swept == Some(today) {
            return Ok(false);
        }
        let cities = joined_city::all(self.journal.store()).await?;
        if !cities.is_empty() {
            self.journal.mark(EVALUATE, cities).await?;
        }
        self.swept = Some(today);
        Ok(true)
    }

    /// Sweeps until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(SWEEP_PERIOD);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(refusal) = self.step().await {
                tracing::warn!(%refusal, "the daily sweep waits");
            }
        }
    }
}
