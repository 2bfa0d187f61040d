//! Timers: what records have to do by themselves, each exactly once, also after days of downtime.

use crate::{
    journal::Journal,
    limits::{REQUEST_MEMORY, REQUEST_SWEEP, TIMER_PERIOD, TIMERS_A_ROUND},
    store::storage,
    tables::{record, request},
};
use chrono::DateTime;
use futures::{StreamExt, stream::FuturesUnordered};
use hansa_kernel::{RecordName, Refusal};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio_util::sync::CancellationToken;
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

    /// Fires timers until it is told to stop. It wakes when something was committed, and now and then by itself.
    pub async fn run_timers(self, stop: CancellationToken) {
        let mut committed = self.committed();
        let mut forget = tokio::time::interval(REQUEST_SWEEP);
        loop {
            let fired = self.fire_due().await.unwrap_or_else(|refusal| {
                tracing::warn!(%refusal, "timers wait");
                0
            });
            if fired > 0 && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TIMER_PERIOD) => {}
                _ = forget.tick() => {
                    if let Err(refusal) = self.forget_requests().await {
                        tracing::warn!(%refusal, "request ids are kept for now");
                    }
                }
                gone = committed.changed() => if gone.is_err() { return },
            }
        }
    }
}
