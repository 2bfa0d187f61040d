//! Timers: what records have to do by themselves, each exactly once, also after days of downtime.

use crate::{
    journal::Journal,
    limits::{REQUEST_MEMORY, REQUEST_SWEEP, TIMER_PAUSE, TIMER_PERIOD, TIMERS_A_ROUND},
    store::storage,
    tables::{record, request},
    vitals::Vitals,
    worker::Worker,
};
use async_trait::async_trait;
use chrono::DateTime;
use futures::{StreamExt, stream::FuturesUnordered};
use hansa_kernel::{RecordName, Refusal};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::{sync::watch, time::Instant};
use tracing::Instrument;

impl Journal {
    /// Fires what is due, in the order of its instants. Answers how many timers it looked at; what a firing makes due
    /// again comes in the next step.
    ///
    /// # Errors
    /// Where the database is away. What was not fired is still due.
    pub async fn fire_due(&self) -> Result<usize, Refusal> {
        let now = self.inner.clock.now().timestamp_micros();
        let due = record::Entity::find()
            .filter(record::Column::DueAt.lte(now))
            .filter(record::Column::Frozen.is_null())
            .order_by_asc(record::Column::DueAt)
            .limit(TIMERS_A_ROUND)
            .all(self.inner.store.reader())
            .await
            .map_err(|e| storage(&e))?;
        let mut firing = FuturesUnordered::new();
        for row in due {
            let at = row.due_at.and_then(DateTime::from_timestamp_micros).unwrap_or_default();
            let span = tracing::info_span!("timer", record = %row.name);
            firing.push(self.fire(RecordName::parse_any(&row.name, "record")?, at).instrument(span));
        }
        let mut fired = 0;
        while let Some(outcome) = firing.next().await {
            match outcome {
                Ok(()) => fired += 1,
                Err(refusal) => tracing::warn!(%refusal, "a timer did not fire"),
            }
        }
        Ok(fired)
    }

    /// Forgets request ids that are past their time. Answers how many.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn forget_requests(&self) -> Result<u64, Refusal> {
        let before = self.inner.clock.now() - REQUEST_MEMORY;
        let tx = self.inner.store.begin().await.map_err(|e| storage(&e))?;
        let forgotten = request::Entity::delete_many()
            .filter(request::Column::CreatedAt.lt(before.timestamp_micros()))
            .exec(&tx)
            .await
            .map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))?;
        Ok(forgotten.rows_affected)
    }

    /// What goes on in every journal: its timers, what it forgets, and how well it is.
    #[must_use]
    pub fn workers(&self) -> Vec<Box<dyn Worker>> {
        let timers = Timers { journal: self.clone(), committed: self.committed(), looked: Instant::now() };
        vec![Box::new(timers), Box::new(Forgetting(self.clone())), Box::new(Vitals(self.clone()))]
    }
}

/// Fires timers. It looks again when something was committed, and now and then by itself.
struct Timers {
    journal: Journal,
    committed: watch::Receiver<i64>,
    looked: Instant,
}

#[async_trait]
impl Worker for Timers {
    fn name(&self) -> String {
        format!("timers of {}", self.journal.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        self.committed.mark_unchanged();
        self.looked = Instant::now();
        self.journal.fire_due().await
    }

    async fn rest(&mut self) {
        let _ = tokio::time::timeout(TIMER_PERIOD, self.committed.changed()).await;
        // Under load one look serves many commits; what a lone command makes due is seen at once.
        tokio::time::sleep_until(self.looked + TIMER_PAUSE).await;
    }
}

/// Forgets request ids.
struct Forgetting(Journal);

#[async_trait]
impl Worker for Forgetting {
    fn name(&self) -> String {
        format!("memory of {}", self.0.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        self.0.forget_requests().await.map(|forgotten| usize::try_from(forgotten).unwrap_or(usize::MAX))
    }

    async fn rest(&mut self) {
        tokio::time::sleep(REQUEST_SWEEP).await;
    }
}
