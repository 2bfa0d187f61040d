//! Work queues: keys that must be processed again after something changed, such as cities to evaluate.
//!
//! A queue contains a key once, however often it is marked, so a burst of changes causes one run. Keys are processed at least once:
//! the work must lead to the same result if it is repeated. A key that is marked during its processing stays in the queue.
//!
//! A subscription that marks keys hands them to the worker in memory ([`PendingKeys`]). The worker reads the database at its start,
//! after a key failed, if the handover was incomplete, and every `SUBSCRIPTION_PERIOD` for keys that other replicas left behind.
//!
//! [`PendingKeys`]: crate::store::dirty_keys::PendingKeys

use crate::{
    journal::Journal,
    limits::{QUEUE_BATCH, QUEUE_CONCURRENCY, SUBSCRIPTION_PERIOD},
    metrics,
    store::{
        Backend,
        batch::{SqlBatch, is_any_of},
        dirty_keys::{DirtyKeys, KnownKeys, mark_dirty},
        error::{JournalError, StoreError},
        tables::dirty,
    },
    trace,
    workers::worker::Worker,
};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use hansa_kernel::Refusal;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement, Value};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument, Span};
use uuid::Uuid;

/// A key to process.
#[derive(Clone, Debug)]
pub struct PendingKey {
    /// The key.
    pub key: Uuid,
    /// The span of the work; it belongs to the trace of the mark.
    pub span: Span,
}

/// Removes processed keys from a queue on PostgreSQL.
///
/// It locks the keys in the order in which they are marked, so that it cannot deadlock with a subscription that marks them. The
/// commit is asynchronous: if it is lost in a crash, the keys are processed once more.
///
/// If a key is already gone, another replica has processed a later mark in the meantime. It is unknown whose result was written
/// last, and it may be the older one, so the key is marked once more.
const REMOVE: &str = "
    WITH held AS (
        SELECT key, given.marks FROM dirty JOIN UNNEST($2, $3) AS given(key, marks) USING (key)
        WHERE queue = $1 ORDER BY key FOR UPDATE OF dirty
    ), cleaned AS (
        DELETE FROM dirty USING held, (SELECT set_config('synchronous_commit', 'off', TRUE)) AS unhurried
        WHERE queue = $1 AND dirty.key = held.key AND dirty.marks = held.marks RETURNING dirty.key
    )
    INSERT INTO dirty (queue, key, marks) SELECT DISTINCT $1, key, 1 FROM UNNEST($2) AS given(key)
    WHERE key NOT IN (SELECT key FROM cleaned) ON CONFLICT DO NOTHING";

impl Journal {
    /// Reads up to `max` keys of a queue, with their mark counts.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn dirty(&self, queue: &'static str, max: u64) -> Result<Vec<(Uuid, i64)>, JournalError> {
        Ok(self.read_queue(queue, max).await?.into_iter().map(|row| (row.key, row.marks)).collect())
    }

    async fn read_queue(&self, queue: &'static str, max: u64) -> Result<Vec<dirty::Model>, StoreError> {
        dirty::Entity::find()
            .filter(dirty::Column::Queue.eq(queue))
            .order_by_asc(dirty::Column::Key)
            .limit(max)
            .all(self.store().reader())
            .await
    }

    /// Removes processed keys from a queue, except those that were marked again since they were read.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn clean(&self, queue: &'static str, keys: &[(Uuid, i64)]) -> Result<(), JournalError> {
        match self.store().backend() {
            Backend::Postgres => self.clean_postgres(queue, keys).await?,
            Backend::Sqlite => self.clean_sqlite(queue, keys).await?,
        }
        Ok(())
    }

    async fn clean_postgres(&self, queue: &'static str, keys: &[(Uuid, i64)]) -> Result<(), StoreError> {
        let (keys, marks): (Vec<Uuid>, Vec<i64>) = keys.iter().copied().unzip();
        let values = [Value::from(queue), Value::from(keys), Value::from(marks)];
        let remove = Statement::from_sql_and_values(self.store().engine(), REMOVE, values);
        use sea_orm::ConnectionTrait;
        if self.store().writer().execute_raw(remove).await?.rows_affected() > 0 {
            self.core.pending.notify([queue]);
        }
        Ok(())
    }

    async fn clean_sqlite(&self, queue: &'static str, keys: &[(Uuid, i64)]) -> Result<(), StoreError> {
        // Most keys have the same mark count; those are deleted together.
        let mut by_marks: BTreeMap<i64, Vec<Uuid>> = BTreeMap::new();
        for (key, marks) in keys {
            by_marks.entry(*marks).or_default().push(*key);
        }
        let tx = self.store().begin().await?;
        for (marks, keys) in by_marks {
            dirty::Entity::delete_many()
                .filter(dirty::Column::Queue.eq(queue))
                .filter(is_any_of(self.store().engine(), dirty::Column::Key, keys))
                .filter(dirty::Column::Marks.eq(marks))
                .exec(&tx)
                .await?;
        }
        tx.commit().await
    }

    /// Enqueues keys.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn mark(&self, queue: &'static str, keys: impl IntoIterator<Item = Uuid>) -> Result<(), JournalError> {
        let trace = trace::current();
        let keys: DirtyKeys = keys.into_iter().map(|key| ((queue, key), trace.clone())).collect();
        let tx = self.store().begin().await?;
        let mut sql = SqlBatch::new(self.store().engine());
        mark_dirty(&mut sql, keys);
        sql.run(&tx).await?;
        tx.commit().await?;
        self.core.pending.notify([queue]);
        Ok(())
    }

    /// Creates the worker of a queue, which calls `work` with each key, up to `QUEUE_CONCURRENCY` of them concurrently. If `work`
    /// fails, the key stays in the queue for the next round; other keys proceed.
    #[must_use]
    pub fn work_queue<F, W>(&self, queue: &'static str, work: F) -> Box<dyn Worker>
    where
        F: Fn(Uuid) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let work = Arc::new(work);
        self.batched_work_queue(queue, move |keys| {
            let work = work.clone();
            async move { one_by_one(keys, work.as_ref()).await }
        })
    }

    /// Creates the worker of a queue, which calls `work` with up to `QUEUE_BATCH` keys. `work` returns one result per key, in the
    /// order of the keys.
    #[must_use]
    pub fn batched_work_queue<F, W>(&self, queue: &'static str, work: F) -> Box<dyn Worker>
    where
        F: Fn(Vec<PendingKey>) -> W + Send + Sync + 'static,
        W: Future<Output = Vec<Result<(), Refusal>>> + Send + 'static,
    {
        Box::new(WorkQueue {
            journal: self.clone(),
            queue,
            work,
            known: self.core.pending.subscribe(),
            must_read: true,
            last_read: None,
            seen_marks: 0,
            done: Vec::new(),
        })
    }
}

/// The worker of a queue.
struct WorkQueue<F> {
    journal: Journal,
    queue: &'static str,
    work: F,
    known: watch::Receiver<HashMap<&'static str, KnownKeys>>,
    /// Whether the database may contain keys that were not handed over. It is true during a step, which may be cancelled.
    must_read: bool,
    last_read: Option<Instant>,
    /// The mark count of the queue when keys were last taken.
    seen_marks: u64,
    /// Keys that are processed but still in the queue, with their mark counts.
    done: Vec<(Uuid, i64)>,
}

impl<F> WorkQueue<F> {
    /// Takes the keys that were handed over, or reads keys if the database may contain others.
    async fn take(&mut self) -> Result<Vec<dirty::Model>, JournalError> {
        let (keys, incomplete, marks) = self.journal.core.pending.take(self.queue).unwrap_or_default();
        self.seen_marks = marks;
        // Another replica may mark a key and stop before it is processed. On SQLite there is no other replica.
        let is_shared = self.journal.store().backend() == Backend::Postgres;
        let is_due = is_shared && self.last_read.is_none_or(|read| read.elapsed() >= SUBSCRIPTION_PERIOD);
        if !incomplete && !self.must_read && !is_due {
            return Ok(keys.into_values().collect());
        }
        self.must_read = true;
        self.clean().await?;
        let rows = self.journal.read_queue(self.queue, QUEUE_BATCH).await?;
        self.must_read = rows.len() as u64 >= QUEUE_BATCH;
        self.last_read = Some(Instant::now());
        Ok(rows)
    }

    /// Returns whether keys were marked since keys were last taken.
    fn is_marked(&self) -> bool {
        mark_count(&self.known.borrow(), self.queue) != self.seen_marks
    }

    /// Removes the processed keys from the queue.
    async fn clean(&mut self) -> Result<(), JournalError> {
        if !self.done.is_empty() {
            self.journal.clean(self.queue, &self.done).await?;
            self.done.clear();
        }
        Ok(())
    }
}

#[async_trait]
impl<F, W> Worker for WorkQueue<F>
where
    F: Fn(Vec<PendingKey>) -> W + Send + Sync,
    W: Future<Output = Vec<Result<(), Refusal>>> + Send + 'static,
{
    fn name(&self) -> String {
        format!("queue {} of {}", self.queue, self.journal.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        let rows = self.take().await?;
        metrics::queue(self.journal.service(), self.queue, rows.len());
        if rows.is_empty() {
            self.clean().await?;
            return Ok(0);
        }
        let must_read = std::mem::replace(&mut self.must_read, true);
        let key = |row: &dirty::Model| {
            let span = tracing::info_span!("work", queue = self.queue, key = %row.key);
            trace::follow(&span, row.trace.as_deref());
            PendingKey { key: row.key, span }
        };
        let results = (self.work)(rows.iter().map(key).collect()).await;
        let (done_before, taken) = (self.done.len(), rows.len());
        for (row, result) in rows.into_iter().zip(results) {
            match result {
                Ok(()) => self.done.push((row.key, row.marks)),
                Err(error) => {
                    tracing::warn!(queue = self.queue, key = %row.key, %error, "a key failed; it stays in the queue");
                }
            }
        }
        let done = self.done.len() - done_before;
        // While more keys wait, they go first: a key that is removed late is at worst processed once more.
        if self.done.len() as u64 >= QUEUE_BATCH || !self.is_marked() {
            self.clean().await?;
        }
        self.must_read = must_read || done < taken;
        Ok(done)
    }

    async fn rest(&mut self) {
        let (queue, seen) = (self.queue, self.seen_marks);
        let marked = self.known.wait_for(|known| mark_count(known, queue) != seen);
        self.must_read |= tokio::time::timeout(SUBSCRIPTION_PERIOD, marked).await.is_err();
    }
}

fn mark_count(known: &HashMap<&'static str, KnownKeys>, queue: &str) -> u64 {
    known.get(queue).map(|known| known.marks).unwrap_or_default()
}

/// Processes keys independently and concurrently, so that what they commit shares transactions.
async fn one_by_one<F, W>(keys: Vec<PendingKey>, work: &F) -> Vec<Result<(), Refusal>>
where
    F: Fn(Uuid) -> W,
    W: Future<Output = Result<(), Refusal>>,
{
    let working: Vec<_> = keys.into_iter().map(|pending| work(pending.key).instrument(pending.span)).collect();
    stream::iter(working).buffered(QUEUE_CONCURRENCY).collect().await
}
