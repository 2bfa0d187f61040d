//! Timers: what a record does by itself when it is due, exactly once, also after days of downtime. Also deletes expired idempotency
//! keys.

use crate::{
    journal::Journal,
    limits::{IDEMPOTENCY_RETENTION, IDEMPOTENCY_SWEEP, TIMER_BATCH, TIMER_PAUSE, TIMER_PERIOD},
    store::{
        error::JournalError,
        tables::{record, request},
    },
    workers::{health_metrics::HealthMetrics, worker::Worker},
};
use async_trait::async_trait;
use chrono::DateTime;
use futures::{StreamExt, stream::FuturesUnordered};
use hansa_kernel::{RecordName, Refusal};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::{sync::watch, time::Instant};
use tracing::Instrument;

impl Journal {
    /// Fires up to `TIMER_BATCH` due timers, in the order of their instants. Returns how many it fired. A record that is due again
    /// after that fires in the next call.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable. Timers that did not fire are still due.
    pub async fn fire_due(&self) -> Result<usize, JournalError> {
        let now = self.clock().now().timestamp_micros();
        let due = record::Entity::find()
            .filter(record::Column::DueAt.lte(now))
            .filter(record::Column::Frozen.is_null())
            .order_by_asc(record::Column::DueAt)
            .limit(TIMER_BATCH)
            .all(self.store().reader())
            .await?;
        let mut firing = FuturesUnordered::new();
        for row in due {
            let at = row.due_at.and_then(DateTime::from_timestamp_micros).unwrap_or_default();
            let span = tracing::info_span!("timer", record = %row.name);
            firing.push(self.fire(RecordName::parse_any(&row.name, "record")?, at).instrument(span));
        }
        let mut fired = 0;
        while let Some(result) = firing.next().await {
            match result {
                Ok(()) => fired += 1,
                Err(error) => tracing::warn!(%error, "a timer did not fire; it is still due"),
            }
        }
        Ok(fired)
    }

    /// Deletes idempotency keys that are older than `IDEMPOTENCY_RETENTION`. Returns how many it deleted.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn expire_idempotency_keys(&self) -> Result<u64, JournalError> {
        let before = self.clock().now() - IDEMPOTENCY_RETENTION;
        let tx = self.store().begin().await?;
        let deleted = request::Entity::delete_many()
            .filter(request::Column::CreatedAt.lt(before.timestamp_micros()))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected)
    }

    /// Returns the workers that every journal needs: timers, expiry of idempotency keys, and health metrics.
    #[must_use]
    pub fn workers(&self) -> Vec<Box<dyn Worker>> {
        let timers = Timers { journal: self.clone(), committed: self.committed(), last_read: Instant::now() };
        vec![Box::new(timers), Box::new(IdempotencyExpiry(self.clone())), Box::new(HealthMetrics(self.clone()))]
    }
}

/// Fires timers. Reads due timers after a commit, and every `TIMER_PERIOD`.
struct Timers {
    journal: Journal,
    committed: watch::Receiver<i64>,
    last_read: Instant,
}

#[async_trait]
impl Worker for Timers {
    fn name(&self) -> String {
        format!("timers of {}", self.journal.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        self.committed.mark_unchanged();
        self.last_read = Instant::now();
        Ok(self.journal.fire_due().await?)
    }

    async fn rest(&mut self) {
        let _ = tokio::time::timeout(TIMER_PERIOD, self.committed.changed()).await;
        // Under load one read serves many commits; after a quiet period a commit is read immediately.
        tokio::time::sleep_until(self.last_read + TIMER_PAUSE).await;
    }
}

/// Deletes expired idempotency keys every `IDEMPOTENCY_SWEEP`.
struct IdempotencyExpiry(Journal);

#[async_trait]
impl Worker for IdempotencyExpiry {
    fn name(&self) -> String {
        format!("expiry of idempotency keys of {}", self.0.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        let deleted = self.0.expire_idempotency_keys().await?;
        Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
    }

    async fn rest(&mut self) {
        tokio::time::sleep(IDEMPOTENCY_SWEEP).await;
    }
}
