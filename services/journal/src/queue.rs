//! Queues of keys that must be worked on again after something moved, such as cities to evaluate. A key stands once in a
//! queue however often it is marked, so work is never done twice for one burst of changes.

use crate::{
    bulk::{Writes, among},
    journal::Journal,
    limits::{QUEUE_AT_ONCE, QUEUE_TOGETHER, SUBSCRIPTION_PERIOD},
    metrics,
    store::{Backend, StoreError, storage},
    tables::dirty,
    trace,
    worker::Worker,
};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use hansa_kernel::Refusal;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set, Statement, Value};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tokio::sync::watch;
use tracing::{Instrument, Span};
use uuid::Uuid;

/// A key of a queue that is to be worked on.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The key.
    pub key: Uuid,
    /// What is done for it belongs to the trace of what marked it.
    pub span: Span,
}

/// Keys to be marked, with the trace of what marks them.
pub(crate) type Marks = BTreeMap<(&'static str, Uuid), Option<String>>;

/// What a mark does to one that is there.
const RAISE: &str = "(queue, key) DO UPDATE SET marks = dirty.marks + 1, trace = excluded.trace";

/// Takes keys off a queue on PostgreSQL. They are locked in the order in which they are marked: who takes them off and who
/// marks them again would otherwise each wait for the other.
const CLEAN: &str = "
    WITH held AS (
        SELECT key, given.marks FROM dirty JOIN UNNEST($2, $3) AS given(key, marks) USING (key)
        WHERE queue = $1 ORDER BY key FOR UPDATE OF dirty
    )
    DELETE FROM dirty USING held WHERE queue = $1 AND dirty.key = held.key AND dirty.marks = held.marks";

/// Marks keys as to be worked on again.
pub(crate) fn mark_dirty(writes: &mut Writes, keys: Marks) {
    let rows: Vec<dirty::ActiveModel> = keys
        .into_iter()
        .map(|((queue, key), trace)| dirty::ActiveModel {
            queue: Set(queue.to_owned()),
            key: Set(key),
            marks: Set(1),
            trace: Set(trace),
        })
        .collect();
    writes.insert_or(&rows, RAISE);
}

impl Journal {
    /// Keys of a queue that wait to be worked on, with the marks they had when they were read.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn dirty(&self, queue: &'static str, most: u64) -> Result<Vec<(Uuid, i64)>, Refusal> {
        Ok(self.waiting(queue, most).await?.into_iter().map(|row| (row.key, row.marks)).collect())
    }

    async fn waiting(&self, queue: &'static str, most: u64) -> Result<Vec<dirty::Model>, Refusal> {
        dirty::Entity::find()
            .filter(dirty::Column::Queue.eq(queue))
            .order_by_asc(dirty::Column::Key)
            .limit(most)
            .all(self.store().reader())
            .await
            .map_err(|e| storage(&e))
    }

    /// Takes keys off a queue, but those that were marked again since.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn clean(&self, queue: &'static str, keys: &[(Uuid, i64)]) -> Result<(), Refusal> {
        let cleaned = match self.store().backend() {
            Backend::Postgres => self.clean_at_once(queue, keys).await,
            Backend::Sqlite => self.clean_by_marks(queue, keys).await,
        };
        cleaned.map_err(|e| storage(&e))
    }

    async fn clean_at_once(&self, queue: &'static str, keys: &[(Uuid, i64)]) -> Result<(), StoreError> {
        let (keys, marks): (Vec<Uuid>, Vec<i64>) = keys.iter().copied().unzip();
        let values = [Value::from(queue), Value::from(keys), Value::from(marks)];
        let db = self.store().writer();
        db.execute_raw(Statement::from_sql_and_values(self.store().engine(), CLEAN, values)).await.map(drop)
    }

    async fn clean_by_marks(&self, queue: &'static str, keys: &[(Uuid, i64)]) -> Result<(), StoreError> {
        // Most were marked equally often: those go together.
        let mut by_marks: BTreeMap<i64, Vec<Uuid>> = BTreeMap::new();
        for (key, marks) in keys {
            by_marks.entry(*marks).or_default().push(*key);
        }
        let tx = self.store().begin().await?;
        for (marks, keys) in by_marks {
            dirty::Entity::delete_many()
                .filter(dirty::Column::Queue.eq(queue))
                .filter(among(self.store().engine(), dirty::Column::Key, keys))
                .filter(dirty::Column::Marks.eq(marks))
                .exec(&tx)
                .await?;
        }
        tx.commit().await
    }

    /// Puts keys on a queue.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn mark(&self, queue: &'static str, keys: impl IntoIterator<Item = Uuid>) -> Result<(), Refusal> {
        let trace = trace::current();
        let keys: Marks = keys.into_iter().map(|key| ((queue, key), trace.clone())).collect();
        let tx = self.store().begin().await.map_err(|e| storage(&e))?;
        let mut writes = Writes::on(self.store().engine());
        mark_dirty(&mut writes, keys);
        writes.run(&tx).await.map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))?;
        self.wake([queue]);
        Ok(())
    }

    /// Tells those who work these queues off that something was marked.
    pub(crate) fn wake(&self, queues: impl IntoIterator<Item = &'static str>) {
        let mut queues = queues.into_iter().peekable();
        if queues.peek().is_some() {
            self.inner.marked.send_modify(|counts| queues.for_each(|queue| *counts.entry(queue).or_default() += 1));
        }
    }

    /// Works a queue off: `work` is called with each key, and a key for which it succeeds is taken off. One that fails waits
    /// for the next round, and the others go on.
    #[must_use]
    pub fn queue<F, W>(&self, queue: &'static str, work: F) -> Box<dyn Worker>
    where
        F: Fn(Uuid) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let work = Arc::new(work);
        self.queue_together(queue, move |keys| {
            let work = work.clone();
            async move { one_by_one(keys, work.as_ref()).await }
        })
    }

    /// The same, with `work` called with as many keys as wait. It answers for each of them, in their order.
    #[must_use]
    pub fn queue_together<F, W>(&self, queue: &'static str, work: F) -> Box<dyn Worker>
    where
        F: Fn(Vec<Waiting>) -> W + Send + Sync + 'static,
        W: Future<Output = Vec<Result<(), Refusal>>> + Send + 'static,
    {
        let marked = self.inner.marked.subscribe();
        Box::new(Queue { journal: self.clone(), queue, work, marked, seen: 0, next: Vec::new() })
    }
}

/// A queue, and what is done with its keys.
struct Queue<F> {
    journal: Journal,
    queue: &'static str,
    work: F,
    marked: watch::Receiver<HashMap<&'static str, u64>>,
    /// How often the queue had been marked when it was last looked at.
    seen: u64,
    /// What was found to wait while the last keys were taken off.
    next: Vec<dirty::Model>,
}

#[async_trait]
impl<F, W> Worker for Queue<F>
where
    F: Fn(Vec<Waiting>) -> W + Send + Sync,
    W: Future<Output = Vec<Result<(), Refusal>>> + Send + 'static,
{
    fn name(&self) -> String {
        format!("queue {} of {}", self.queue, self.journal.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        let mut rows = std::mem::take(&mut self.next);
        if rows.is_empty() {
            self.seen = marks(&self.marked.borrow_and_update(), self.queue);
            rows = self.journal.waiting(self.queue, QUEUE_TOGETHER).await?;
        }
        metrics::queue(self.journal.service(), self.queue, rows.len());
        if rows.is_empty() {
            return Ok(0);
        }
        let key = |row: &dirty::Model| {
            let span = tracing::info_span!("work", queue = self.queue, key = %row.key);
            trace::follow(&span, row.trace.as_deref());
            Waiting { key: row.key, span }
        };
        let answers = (self.work)(rows.iter().map(key).collect()).await;
        let mut done = Vec::with_capacity(rows.len());
        for (row, answer) in rows.into_iter().zip(answers) {
            match answer {
                Ok(()) => done.push((row.key, row.marks)),
                Err(refusal) => tracing::warn!(queue = self.queue, key = %row.key, %refusal, "a key of a queue waits"),
            }
        }
        if !done.is_empty() {
            self.seen = marks(&self.marked.borrow_and_update(), self.queue);
            let (cleaned, next) =
                tokio::join!(self.journal.clean(self.queue, &done), self.journal.waiting(self.queue, QUEUE_TOGETHER));
            cleaned?;
            self.next = next?;
            self.next.retain(|row| !done.contains(&(row.key, row.marks)));
        }
        Ok(done.len())
    }

    async fn rest(&mut self) {
        let (queue, seen) = (self.queue, self.seen);
        let marked = self.marked.wait_for(|counts| marks(counts, queue) != seen);
        let _ = tokio::time::timeout(SUBSCRIPTION_PERIOD, marked).await;
    }
}

fn marks(counts: &HashMap<&'static str, u64>, queue: &str) -> u64 {
    counts.get(queue).copied().unwrap_or_default()
}

/// Works on keys each for itself, some at once, so that what they commit shares transactions.
async fn one_by_one<F, W>(keys: Vec<Waiting>, work: &F) -> Vec<Result<(), Refusal>>
where
    F: Fn(Uuid) -> W,
    W: Future<Output = Result<(), Refusal>>,
{
    let working: Vec<_> = keys.into_iter().map(|waiting| work(waiting.key).instrument(waiting.span)).collect();
    stream::iter(working).buffered(QUEUE_AT_ONCE).collect().await
}
