//! Keys that work queues must process, such as cities to evaluate again: their rows, and what is known of them in memory.

use crate::{
    limits::QUEUE_BATCH,
    store::{batch::SqlBatch, tables::dirty},
};
use sea_orm::Set;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::watch;
use uuid::Uuid;

/// Keys to enqueue by queue, each with the trace context of its cause.
pub(crate) type DirtyKeys = BTreeMap<(&'static str, Uuid), Option<String>>;

/// The `ON CONFLICT` clause for a key that is enqueued already: its mark count rises, so that a running job notices.
const RAISE_MARKS: &str = "(queue, key) DO UPDATE SET marks = dirty.marks + 1, trace = excluded.trace";

/// Adds the rows that enqueue `keys`.
pub(crate) fn mark_dirty(batch: &mut SqlBatch, keys: DirtyKeys) {
    let rows: Vec<dirty::ActiveModel> = keys
        .into_iter()
        .map(|((queue, key), trace)| dirty::ActiveModel {
            queue: Set(queue.to_owned()),
            key: Set(key),
            marks: Set(1),
            trace: Set(trace),
        })
        .collect();
    batch.insert_or_returning(rows, RAISE_MARKS, "queue, key, marks, trace");
}

/// What this process knows of one queue without reading the database.
#[derive(Default)]
pub(crate) struct KnownKeys {
    /// How often the queue was marked; the worker compares it with the count that it saw last.
    pub marks: u64,
    /// At most `QUEUE_BATCH` keys.
    pub keys: BTreeMap<Uuid, dirty::Model>,
    /// Whether the database may contain keys that are not in `keys`.
    pub incomplete: bool,
}

impl KnownKeys {
    /// Adds a key, or replaces it if this mark is later.
    fn add(&mut self, row: dirty::Model) {
        if self.keys.len() as u64 >= QUEUE_BATCH && !self.keys.contains_key(&row.key) {
            self.incomplete = true;
        } else if self.keys.get(&row.key).is_none_or(|known| known.marks < row.marks) {
            self.keys.insert(row.key, row);
        }
    }
}

/// The in-memory handover from those who mark keys to the workers of the queues.
#[derive(Default)]
pub(crate) struct PendingKeys(watch::Sender<HashMap<&'static str, KnownKeys>>);

impl PendingKeys {
    /// Returns a receiver that wakes up when a queue is marked.
    pub(crate) fn subscribe(&self) -> watch::Receiver<HashMap<&'static str, KnownKeys>> {
        self.0.subscribe()
    }

    /// Takes the known keys of a queue out, and leaves its mark count.
    pub(crate) fn take(&self, queue: &'static str) -> Option<(BTreeMap<Uuid, dirty::Model>, bool, u64)> {
        let mut taken = None;
        self.0.send_if_modified(|queues| {
            if let Some(known) = queues.get_mut(queue) {
                taken = Some((std::mem::take(&mut known.keys), std::mem::take(&mut known.incomplete), known.marks));
            }
            false
        });
        taken
    }

    /// Wakes the workers of these queues and makes them read the database.
    pub(crate) fn notify(&self, queues: impl IntoIterator<Item = &'static str>) {
        self.hand_over(queues, Vec::new());
    }

    /// Wakes the workers of these queues and hands them `keys` as written, so that they need not read the database. The worker of
    /// a queue without a key among them reads the database.
    pub(crate) fn hand_over(&self, queues: impl IntoIterator<Item = &'static str>, keys: Vec<dirty::Model>) {
        let mut queues = queues.into_iter().peekable();
        if queues.peek().is_none() {
            return;
        }
        self.0.send_modify(|known| {
            for queue in queues {
                let known = known.entry(queue).or_default();
                known.marks += 1;
                let mut own = keys.iter().filter(|row| row.queue == queue).peekable();
                known.incomplete |= own.peek().is_none();
                own.for_each(|row| known.add(row.clone()));
            }
        });
    }
}
