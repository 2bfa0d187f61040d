//! Queues of keys that must be worked on again after something moved, such as cities to evaluate. A key stands once in a
//! queue however often it is marked, so work is never done twice for one burst of changes.

use crate::{
    journal::Journal,
    limits::{QUEUE_AT_ONCE, SUBSCRIPTION_BATCH, SUBSCRIPTION_PERIOD},
    metrics,
    store::{StoreError, storage},
    tables::dirty,
    trace,
    worker::Worker,
};
use async_trait::async_trait;
use futures::{StreamExt, future, stream};
use hansa_kernel::Refusal;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Set,
    sea_query::{Expr, OnConflict},
};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tracing::Instrument;
use uuid::Uuid;

/// Keys to be marked, with the trace of what marks them.
pub(crate) type Marks = BTreeMap<(&'static str, Uuid), Option<String>>;

/// Marks keys as to be worked on again.
pub(crate) async fn mark_dirty(tx: &DatabaseTransaction, keys: Marks) -> Result<(), StoreError> {
    let rows: Vec<dirty::ActiveModel> = keys
        .into_iter()
        .map(|((queue, key), trace)| dirty::ActiveModel {
            queue: Set(queue.to_owned()),
            key: Set(key),
            marks: Set(1),
            trace: Set(trace),
        })
        .collect();
    let raise = OnConflict::columns([dirty::Column::Queue, dirty::Column::Key])
        .update_column(dirty::Column::Trace)
        .value(dirty::Column::Marks, Expr::col((dirty::Entity, dirty::Column::Marks)).add(1))
        .to_owned();
    for chunk in rows.chunks(1_000) {
        dirty::Entity::insert_many(chunk.to_vec()).on_conflict(raise.clone()).exec_without_returning(tx).await?;
    }
    Ok(())
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
        // Most were marked equally often: those go together.
        let mut by_marks: BTreeMap<i64, Vec<Uuid>> = BTreeMap::new();
        for (key, marks) in keys {
            by_marks.entry(*marks).or_default().push(*key);
        }
        let tx = self.store().begin().await.map_err(|e| storage(&e))?;
        for (marks, keys) in by_marks {
            dirty::Entity::delete_many()
                .filter(dirty::Column::Queue.eq(queue))
                .filter(dirty::Column::Key.is_in(keys))
                .filter(dirty::Column::Marks.eq(marks))
                .exec(&tx)
                .await
                .map_err(|e| storage(&e))?;
        }
        tx.commit().await.map_err(|e| storage(&e))
    }

    /// Puts keys on a queue.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn mark(&self, queue: &'static str, keys: impl IntoIterator<Item = Uuid>) -> Result<(), Refusal> {
        let trace = trace::current();
        let keys: Marks = keys.into_iter().map(|key| ((queue, key), trace.clone())).collect();
        let tx = self.store().begin().await.map_err(|e| storage(&e))?;
        mark_dirty(&tx, keys).await.map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))?;
        self.wake();
        Ok(())
    }

    /// Tells those who wait for commits that there is something new for them beside the journal.
    pub(crate) fn wake(&self) {
        self.inner.committed.send_modify(|_| {});
    }

    /// Works a queue off: `work` is called with each key, and a key for which it succeeds is taken off. One that fails waits
    /// for the next round, and the others go on.
    #[must_use]
    pub fn queue<F, W>(&self, queue: &'static str, work: F) -> Box<dyn Worker>
    where
        F: Fn(Uuid) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        Box::new(Queue { journal: self.clone(), queue, work, committed: self.committed() })
    }

    /// One round of a queue. Answers how many keys were worked off.
    async fn work_queue<F, W>(&self, queue: &'static str, work: &F) -> Result<usize, Refusal>
    where
        F: Fn(Uuid) -> W + Send + Sync,
        W: Future<Output = Result<(), Refusal>> + Send,
    {
        let waiting = self.waiting(queue, SUBSCRIPTION_BATCH).await?;
        metrics::queue(self.service(), queue, waiting.len());
        // Some at once, so that what they commit shares transactions.
        let worked = stream::iter(waiting.into_iter().map(|row| async move {
            let span = tracing::info_span!("work", queue, key = %row.key);
            trace::follow(&span, row.trace.as_deref());
            match work(row.key).instrument(span).await {
                Ok(()) => Some((row.key, row.marks)),
                Err(refusal) => {
                    tracing::warn!(queue, key = %row.key, %refusal, "a key of a queue waits");
                    None
                }
            }
        }));
        let done: Vec<(Uuid, i64)> = worked.buffer_unordered(QUEUE_AT_ONCE).filter_map(future::ready).collect().await;
        if !done.is_empty() {
            self.clean(queue, &done).await?;
        }
        Ok(done.len())
    }
}

/// A queue, and what is done with its keys.
struct Queue<F> {
    journal: Journal,
    queue: &'static str,
    work: F,
    committed: watch::Receiver<i64>,
}

#[async_trait]
impl<F, W> Worker for Queue<F>
where
    F: Fn(Uuid) -> W + Send + Sync,
    W: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    fn name(&self) -> String {
        format!("queue {} of {}", self.queue, self.journal.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        self.committed.mark_unchanged();
        self.journal.work_queue(self.queue, &self.work).await
    }

    async fn rest(&mut self) {
        let _ = tokio::time::timeout(SUBSCRIPTION_PERIOD, self.committed.changed()).await;
    }
}
