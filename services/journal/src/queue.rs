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
use tokio::{sync::watch, time::Instant};
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
/// marks them again would otherwise each wait for the other. The commit does not wait for the disk: a key that comes back
/// after a crash is worked on once more, and nothing else.
///
/// One that is gone already was marked again and worked off by another replica meanwhile. Whose result came last is not
/// known, and it may be the older one: it is marked once more.
const CLEAN: &str = "
    WITH held AS (
        SELECT key, given.marks FROM dirty JOIN UNNEST($2, $3) AS given(key, marks) USING (key)
        WHERE queue = $1 ORDER BY key FOR UPDATE OF dirty
    ), cleaned AS (
        DELETE FROM dirty USING held, (SELECT set_config('synchronous_commit', 'off', TRUE)) AS unhurried
        WHERE queue = $1 AND dirty.key = held.key AND dirty.marks = held.marks RETURNING dirty.key
    )
    INSERT INTO dirty (queue, key, marks) SELECT DISTINCT $1, key, 1 FROM UNNEST($2) AS given(key)
    WHERE key NOT IN (SELECT key FROM cleaned) ON CONFLICT DO NOTHING";

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
    writes.insert_or_answering(rows, RAISE, "queue, key, marks, trace");
}

/// What waits in a queue, as far as it is known without a look into the database.
#[derive(Default)]
struct Known {
    /// How often it was marked.
    marks: u64,
    keys: BTreeMap<Uuid, dirty::Model>,
    /// Whether there may be others.
    more: bool,
}

impl Known {
    /// Takes a key in, by its latest mark.
    fn keep(&mut self, row: dirty::Model) {
        if self.keys.len() as u64 >= QUEUE_TOGETHER && !self.keys.contains_key(&row.key) {
            self.more = true;
        } else if self.keys.get(&row.key).is_none_or(|known| known.marks < row.marks) {
            self.keys.insert(row.key, row);
        }
    }
}

/// The queues of a journal. Those who work them off wait here.
#[derive(Default)]
pub(crate) struct Queues(watch::Sender<HashMap<&'static str, Known>>);

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
        let clean = Statement::from_sql_and_values(self.store().engine(), CLEAN, values);
        if self.store().writer().execute_raw(clean).await?.rows_affected() > 0 {
            self.wake([queue]);
        }
        Ok(())
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
        self.hand(queues, Vec::new());
    }

    /// The same, with the keys as they stand there, so that they need not be looked for. A queue of which none is handed over
    /// is looked into.
    pub(crate) fn hand(&self, queues: impl IntoIterator<Item = &'static str>, keys: Vec<dirty::Model>) {
        let mut queues = queues.into_iter().peekable();
        if queues.peek().is_none() {
            return;
        }
        self.inner.queues.0.send_modify(|known| {
            for queue in queues {
                let known = known.entry(queue).or_default();
                known.marks += 1;
                let mut own = keys.iter().filter(|row| row.queue == queue).peekable();
                known.more |= own.peek().is_none();
                own.for_each(|row| known.keep(row.clone()));
            }
        });
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
        let marked = self.inner.queues.0.subscribe();
        Box::new(Queue {
            journal: self.clone(),
            queue,
            work,
            marked,
            look: true,
            looked: None,
            seen: 0,
            done: Vec::new(),
        })
    }
}

/// A queue, and what is done with its keys.
struct Queue<F> {
    journal: Journal,
    queue: &'static str,
    work: F,
    marked: watch::Receiver<HashMap<&'static str, Known>>,
    /// Whether the database may hold keys that nobody handed over. So it is while a step goes on: it may be cut off.
    look: bool,
    /// When that was last looked for.
    looked: Option<Instant>,
    /// How often the queue had been marked when keys were last taken.
    seen: u64,
    /// Keys that are worked off and not taken off yet, with their marks.
    done: Vec<(Uuid, i64)>,
}

impl<F> Queue<F> {
    /// The next keys: those that were handed over, or what the database has where there may be others.
    async fn take(&mut self) -> Result<Vec<dirty::Model>, Refusal> {
        let known = self.known();
        self.seen = known.marks;
        // Another replica may mark something and end before it is worked off. A file has none.
        let shared = self.journal.store().backend() == Backend::Postgres;
        let due = shared && self.looked.is_none_or(|looked| looked.elapsed() >= SUBSCRIPTION_PERIOD);
        if !known.more && !self.look && !due {
            return Ok(known.keys.into_values().collect());
        }
        self.look = true;
        self.clean().await?;
        let rows = self.journal.waiting(self.queue, QUEUE_TOGETHER).await?;
        self.look = rows.len() as u64 >= QUEUE_TOGETHER;
        self.looked = Some(Instant::now());
        Ok(rows)
    }

    /// Takes over what is known; nobody else has it then.
    fn known(&self) -> Known {
        let mut taken = Known::default();
        self.journal.inner.queues.0.send_if_modified(|known| {
            if let Some(known) = known.get_mut(self.queue) {
                let more = std::mem::take(&mut known.more);
                taken = Known { marks: known.marks, keys: std::mem::take(&mut known.keys), more };
            }
            false
        });
        taken
    }

    /// Whether more was marked since keys were last taken.
    fn marked(&self) -> bool {
        marks(&self.marked.borrow(), self.queue) != self.seen
    }

    /// Takes off what is worked off.
    async fn clean(&mut self) -> Result<(), Refusal> {
        if !self.done.is_empty() {
            self.journal.clean(self.queue, &self.done).await?;
            self.done.clear();
        }
        Ok(())
    }
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
        let rows = self.take().await?;
        metrics::queue(self.journal.service(), self.queue, rows.len());
        if rows.is_empty() {
            self.clean().await?;
            return Ok(0);
        }
        let look = std::mem::replace(&mut self.look, true);
        let key = |row: &dirty::Model| {
            let span = tracing::info_span!("work", queue = self.queue, key = %row.key);
            trace::follow(&span, row.trace.as_deref());
            Waiting { key: row.key, span }
        };
        let answers = (self.work)(rows.iter().map(key).collect()).await;
        let (before, asked) = (self.done.len(), rows.len());
        for (row, answer) in rows.into_iter().zip(answers) {
            match answer {
                Ok(()) => self.done.push((row.key, row.marks)),
                Err(refusal) => tracing::warn!(queue = self.queue, key = %row.key, %refusal, "a key of a queue waits"),
            }
        }
        let done = self.done.len() - before;
        // While more waits, that goes first: a key that is taken off late is at worst worked on once more.
        if self.done.len() as u64 >= QUEUE_TOGETHER || !self.marked() {
            self.clean().await?;
        }
        self.look = look || done < asked;
        Ok(done)
    }

    async fn rest(&mut self) {
        let (queue, seen) = (self.queue, self.seen);
        let marked = self.marked.wait_for(|known| marks(known, queue) != seen);
        self.look |= tokio::time::timeout(SUBSCRIPTION_PERIOD, marked).await.is_err();
    }
}

fn marks(known: &HashMap<&'static str, Known>, queue: &str) -> u64 {
    known.get(queue).map(|known| known.marks).unwrap_or_default()
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
