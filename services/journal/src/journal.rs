//! A service's journal: the handle that takes commands, and the builder that opens it.

use crate::{
    clock::Clock,
    core::Core,
    crypto::node_key::NodeKeys,
    limits::{CACHED_STATES, COMMAND_RECORDS, LOOKUP_BATCH_MAX, QUEUED_COMMANDS},
    metrics,
    privacy::erasure::Erasure,
    record::{
        erased::{ErasedRecord, RecordType, erased_view, shared, times},
        view::View,
    },
    store::{
        Backend, Store,
        dirty_keys::PendingKeys,
        error::{JournalError, StoreError},
        loader::Loader,
        tables::{feed, request},
    },
    trace,
    write::{
        command::{Command, ErasedCommand, IdempotencyKey, Receipt},
        queued::{CommandKind, Outcome, Preloaded, QueuedCommand},
        writer,
    },
};
use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use hansa_kernel::{ReasonClass, Record, RecordId, RecordName, Refusal};
use moka::sync::Cache;
use sea_orm::{ColumnTrait, EntityTrait, QuerySelect};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, OnceLock, atomic::AtomicI64},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};

/// A handle on a service's journal; cheap to clone. The writer ends when the last handle is dropped.
#[derive(Clone)]
pub struct Journal {
    pub(crate) core: Arc<Core>,
    queue: mpsc::UnboundedSender<QueuedCommand>,
    /// Bounds `queue`: one permit per waiting command.
    permits: Arc<Semaphore>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("service", &self.core.service).finish_non_exhaustive()
    }
}

/// Collects the record types and views of a journal before it opens.
pub struct JournalBuilder {
    service: &'static str,
    records: HashMap<&'static str, Box<dyn ErasedRecord>>,
}

impl std::fmt::Debug for JournalBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalBuilder").field("service", &self.service).finish_non_exhaustive()
    }
}

impl JournalBuilder {
    /// Adds a record type.
    #[must_use]
    pub fn record<R: Record>(mut self) -> Self {
        self.records.entry(R::COLLECTION).or_insert_with(|| Box::new(RecordType::<R>::new()));
        self
    }

    /// Adds a view, and its record type if it has not been added. A record type can have any number of views.
    #[must_use]
    pub fn view<V: View>(self) -> Self
    where
        V::State: Record,
    {
        let mut builder = self.record::<V::State>();
        let collection = <V::State as Record>::COLLECTION;
        builder.records.entry(collection).and_modify(|record| record.add_view(erased_view::<V>()));
        builder
    }

    /// Opens the journal and starts its writer on the current runtime.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open(self, store: Store, node: NodeKeys, clock: Arc<dyn Clock>) -> Result<Journal, StoreError> {
        let last: Option<Option<i64>> = feed::Entity::find()
            .select_only()
            .column_as(feed::Column::Position.max(), "last")
            .into_tuple()
            .one(store.reader())
            .await?;
        let (queue, commands) = mpsc::unbounded_channel();
        let records = self.records.into_iter().map(|(collection, record)| (collection, Arc::from(record))).collect();
        let core = Arc::new(Core {
            service: self.service,
            record_loader: Loader::start(&store),
            mirror_loader: Loader::start(&store),
            store,
            node,
            clock,
            records,
            cache: Cache::new(CACHED_STATES),
            next_position: AtomicI64::new(last.flatten().unwrap_or(0) + 1),
            outbox: OnceLock::new(),
            committed: watch::Sender::new(0),
            pending: PendingKeys::default(),
        });
        tokio::spawn(writer::run(core.clone(), commands));
        Ok(Journal { core, queue, permits: Arc::new(Semaphore::new(QUEUED_COMMANDS)) })
    }
}

impl Journal {
    /// Starts to build the journal of a service. Every journal contains the erasures of its own texts.
    #[must_use]
    pub fn builder(service: &'static str) -> JournalBuilder {
        JournalBuilder { service, records: HashMap::new() }.record::<Erasure>()
    }

    /// Returns the service that owns the journal.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.core.service
    }

    /// Returns the database, for queries over views.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.core.store
    }

    /// Returns the node's keys.
    #[must_use]
    pub fn node(&self) -> &NodeKeys {
        &self.core.node
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.core.clock.as_ref()
    }

    /// Returns a receiver that wakes up at each commit of this process.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.core.committed.subscribe()
    }

    /// Waits until the writer has ended. Neither a panic of a rule nor a failed transaction ends it.
    pub async fn writer_ended(self) {
        self.queue.closed().await;
    }

    /// Decides a command. When this returns `Ok`, the changes are durable. With `validate_only` it returns the same receipt and
    /// writes nothing (PL-4).
    ///
    /// # Errors
    /// The rule's refusal, or `STALE`, `LIMIT` or `UNAVAILABLE` under PL-4. Except after `UNAVAILABLE`, whose outcome is unknown,
    /// nothing was changed.
    pub async fn submit<R: Record>(&self, command: Command<R>, validate_only: bool) -> Result<Receipt<R>, Refusal> {
        self.submit_atomically(command, Vec::new(), validate_only).await
    }

    /// Decides several commands that take effect together or not at all. The receipt is that of the first.
    ///
    /// # Errors
    /// The first refusal among them, as `submit`; nothing was changed.
    pub async fn submit_atomically<R: Record>(
        &self,
        first: Command<R>,
        others: Vec<BoxedCommand>,
        validate_only: bool,
    ) -> Result<Receipt<R>, Refusal> {
        if others.len() >= COMMAND_RECORDS {
            return Err(Refusal::because(
                ReasonClass::Limit,
                "PL-4",
                "TOO_MANY_RECORDS",
                "the command touches too many records",
            )
            .help("Send it in parts."));
        }
        let mut commands: Vec<Box<dyn ErasedCommand>> = vec![Box::new(first)];
        commands.extend(others.into_iter().map(|other| other.0));
        let reply = self.enqueue(commands, validate_only).await?;
        self.receipt(reply).await
    }

    /// Decides a command that may have nothing to do on a record that does not exist; `None` in that case.
    ///
    /// # Errors
    /// As `submit`.
    pub async fn submit_if_any<R: Record>(
        &self,
        command: Command<R>,
        validate_only: bool,
    ) -> Result<Option<Receipt<R>>, Refusal> {
        let outcomes = self.enqueue(vec![Box::new(command)], validate_only).await?.await.map_err(|_| stopped())??;
        let first = outcomes.into_iter().next().ok_or_else(stopped)?;
        if first.version == 0 { Ok(None) } else { self.receipt_of(first).await.map(Some) }
    }

    /// Decides many independent commands, in as few transactions as possible. Returns the results in the order of the commands.
    pub async fn submit_each<R: Record>(
        &self,
        commands: Vec<Command<R>>,
        validate_only: bool,
    ) -> Vec<Result<Receipt<R>, Refusal>> {
        let mut replies = Vec::with_capacity(commands.len());
        for command in commands {
            let kind = CommandKind::Commands { commands: vec![Box::new(command)], validate_only };
            // Waiting for a permit is bounded here: the caller already holds all of the commands.
            replies.push(self.enqueue_waiting(kind).await);
        }
        let mut receipts = Vec::with_capacity(replies.len());
        for reply in replies {
            receipts.push(match reply {
                Ok(reply) => self.receipt(reply).await,
                Err(refusal) => Err(refusal),
            });
        }
        receipts
    }

    /// Returns the receipt of a request that was answered before; `None` if it was not.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` if its id was used for another request; `UNAVAILABLE` if the database is unavailable.
    pub async fn replayed_receipt<R: Record>(&self, key: &IdempotencyKey) -> Result<Option<Receipt<R>>, JournalError> {
        let row = request::Entity::find_by_id((key.tenant.0, key.id)).one(self.store().reader()).await?;
        let Some(row) = row else { return Ok(None) };
        key.check_matches(&row)?;
        let (name, version) = (RecordName::new(R::COLLECTION, RecordId(row.record)), row.version.cast_unsigned());
        let outcome = Outcome { name, version, head: Vec::new(), changes: 0, state: None, replayed: true };
        Ok(Some(self.receipt_of(outcome).await?))
    }

    /// Queues commands, or refuses them immediately if too many wait.
    async fn enqueue(&self, commands: Vec<Box<dyn ErasedCommand>>, validate_only: bool) -> Result<Reply, Refusal> {
        let permit = self.permits.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => {
                let refusal =
                    Refusal::because(ReasonClass::Limit, "PL-4", "QUEUE_FULL", "too many commands are waiting")
                        .retryable();
                refusal.help("Try again in a second.")
            }
            TryAcquireError::Closed => stopped(),
        })?;
        let preloaded = self.preload(&commands).await;
        let kind = CommandKind::Commands { commands, validate_only };
        match preloaded {
            Ok(preloaded) => self.send(kind, preloaded, permit),
            Err(refusal) => {
                metrics::command(self.core.service, kind.outcome_label(&Err(refusal.clone())));
                Err(refusal)
            }
        }
    }

    /// Reads the records that are not cached while the writer commits other batches. On SQLite the writer reads them itself.
    async fn preload(&self, commands: &[Box<dyn ErasedCommand>]) -> Result<Preloaded, Refusal> {
        if self.core.store.backend() == Backend::Sqlite {
            return Ok(Preloaded::new());
        }
        let id = |command: &dyn ErasedCommand| command.name().id.0;
        let (new, others): (Vec<_>, Vec<_>) = commands.iter().partition(|command| command.is_new_record());
        let missing = BTreeSet::from_iter(
            others.into_iter().map(|one| id(one.as_ref())).filter(|id| !self.core.cache.contains_key(id)),
        );
        let mut preloaded = Preloaded::new();
        // For more than a few, one statement of the writer is faster.
        if missing.len() <= LOOKUP_BATCH_MAX {
            let read = missing.into_iter().map(|id| async move { Ok((id, self.core.record_loader.get(id).await?)) });
            preloaded.extend(try_join_all(read).await.map_err(|error: JournalError| Refusal::from(error))?);
        }
        preloaded.extend(new.into_iter().map(|one| (id(one.as_ref()), None)));
        Ok(preloaded)
    }

    /// Queues a command, and waits for a permit if too many wait.
    async fn enqueue_waiting(&self, kind: CommandKind) -> Result<Reply, Refusal> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| stopped())?;
        self.send(kind, Preloaded::new(), permit)
    }

    fn send(&self, kind: CommandKind, preloaded: Preloaded, permit: OwnedSemaphorePermit) -> Result<Reply, Refusal> {
        let (reply, wait) = oneshot::channel();
        let command = QueuedCommand { kind, reply, tries: 0, preloaded, _permit: permit };
        self.queue.send(command).map_err(|_| stopped())?;
        Ok(wait)
    }

    /// Fires the timer of a record that is due at `due`.
    pub(crate) async fn fire(&self, name: RecordName, due: DateTime<Utc>) -> Result<(), Refusal> {
        let reply = self.enqueue_waiting(CommandKind::Timer { name, due, trace: trace::current() }).await?;
        reply.await.map_err(|_| stopped())?.map(|_| ())
    }

    async fn receipt<R: Record>(&self, reply: Reply) -> Result<Receipt<R>, Refusal> {
        let outcomes = reply.await.map_err(|_| stopped())??;
        self.receipt_of(outcomes.into_iter().next().ok_or_else(stopped)?).await
    }

    /// Converts an outcome into a receipt. The state of a replayed request is folded as of the version of its first answer.
    async fn receipt_of<R: Record>(&self, outcome: Outcome) -> Result<Receipt<R>, Refusal> {
        if let Some(state) = &outcome.state {
            return Ok(Receipt {
                state: shared::<R>(state),
                times: times::<R>(state),
                version: outcome.version,
                etag: hex::encode(&outcome.head),
                changes: outcome.changes,
                replayed: outcome.replayed,
                name: outcome.name,
            });
        }
        let then = self.core.load_at(&outcome.name, outcome.version).await?;
        let then = then.ok_or_else(|| Refusal::not_found(&outcome.name))?;
        Ok(Receipt {
            state: shared::<R>(&then.state),
            times: times::<R>(&then.state),
            version: then.version,
            etag: hex::encode(&then.head),
            changes: 0,
            replayed: true,
            name: then.name,
        })
    }
}

/// The channel on which the writer replies.
type Reply = oneshot::Receiver<Result<Vec<Outcome>, Refusal>>;

/// A command without its type, for `submit_atomically`.
pub struct BoxedCommand(Box<dyn ErasedCommand>);

impl std::fmt::Debug for BoxedCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BoxedCommand").field(self.0.name()).finish()
    }
}

impl<R: Record> From<Command<R>> for BoxedCommand {
    fn from(command: Command<R>) -> Self {
        Self(Box::new(command))
    }
}

fn stopped() -> Refusal {
    let message = "the service stopped before it confirmed the command, which may or may not have been applied";
    Refusal::because(ReasonClass::Unavailable, "PL-4", "COMMAND_UNCONFIRMED", message)
        .help("Retry with the same request_id; a command that was already applied is not applied twice.")
}
