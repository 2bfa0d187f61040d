//! A service's journal: where commands go in, and where states and histories are read.

use crate::{
    clock::Clock,
    command::{AnyCommand, Command, Receipt, RequestKey},
    erasure::Erasure,
    job::{Done, Found, Job, Work},
    keys::NodeKeys,
    kind::{AnyKind, AnyState, KindOf, shared},
    limits::{CACHED_STATES, COMMAND_RECORDS, LOOKUP_FEW, QUEUED_COMMANDS},
    lookup::Lookup,
    metrics,
    queue::Queues,
    relay::Outgoing,
    slots::Slot,
    store::{Backend, Store, StoreError, storage},
    tables::{feed, mirror, record, request},
    trace,
    view::View,
    writer,
};
use futures::future::try_join_all;
use hansa_kernel::{Reason, Record, RecordId, RecordName, Refusal};
use moka::sync::Cache;
use sea_orm::{ColumnTrait, EntityTrait, QuerySelect};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, OnceLock, atomic::AtomicI64},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};
use uuid::Uuid;

/// A record as the cache keeps it.
pub(crate) struct Known {
    pub name: RecordName,
    pub version: u64,
    pub head: Vec<u8>,
    pub state: AnyState,
    /// How often its snapshot had been made again.
    pub mended: i32,
}

pub(crate) struct Inner {
    pub service: &'static str,
    pub store: Store,
    pub node: NodeKeys,
    pub clock: Arc<dyn Clock>,
    pub kinds: HashMap<&'static str, Arc<dyn AnyKind>>,
    pub cache: Cache<Uuid, Arc<Known>>,
    pub lookup: Lookup<record::Model>,
    pub mirrored: Lookup<mirror::Model>,
    pub next_position: AtomicI64,
    /// Takes what was committed to the relay, where there is one.
    pub outbox: OnceLock<mpsc::Sender<Vec<Outgoing>>>,
    /// Counts commits; readers of the feed wait on it.
    pub committed: watch::Sender<i64>,
    /// What is to be worked on again.
    pub queues: Queues,
}

impl Inner {
    pub(crate) fn remember(&self, slot: Slot) {
        let Slot { name, version, head, mended, .. } = slot;
        if let Some(state) = slot.state {
            self.cache.insert(name.id.0, Arc::new(Known { name, version, head, state, mended }));
        }
    }
}

/// A handle on a service's journal; cheap to clone. The writer ends when the last one is dropped.
#[derive(Clone)]
pub struct Journal {
    pub(crate) inner: Arc<Inner>,
    queue: mpsc::UnboundedSender<Job>,
    /// As many as may wait in `queue`.
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("service", &self.inner.service).finish_non_exhaustive()
    }
}

/// Collects what a journal holds before it opens.
pub struct JournalBuilder {
    service: &'static str,
    kinds: HashMap<&'static str, Arc<dyn AnyKind>>,
}

impl std::fmt::Debug for JournalBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalBuilder").field("service", &self.service).finish_non_exhaustive()
    }
}

impl JournalBuilder {
    /// A kind of record that is found by its name alone.
    #[must_use]
    pub fn record<R: Record>(mut self) -> Self {
        self.kinds.insert(R::COLLECTION, Arc::new(KindOf::<R>::new()));
        self
    }

    /// A kind of record with a view.
    #[must_use]
    pub fn viewed<V: View>(mut self) -> Self
    where
        V::State: Record,
    {
        self.kinds.insert(<V::State as Record>::COLLECTION, Arc::new(KindOf::<V::State>::new().with::<V>()));
        self
    }

    /// A kind of record with two views.
    #[must_use]
    pub fn viewed_twice<V: View, W: View<State = V::State>>(mut self) -> Self
    where
        V::State: Record,
    {
        let kind = KindOf::<V::State>::new().with::<V>().with::<W>();
        self.kinds.insert(<V::State as Record>::COLLECTION, Arc::new(kind));
        self
    }

    /// Opens the journal and starts its writer on the current runtime.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn open(self, store: Store, node: NodeKeys, clock: Arc<dyn Clock>) -> Result<Journal, StoreError> {
        let last: Option<Option<i64>> = feed::Entity::find()
            .select_only()
            .column_as(feed::Column::Position.max(), "last")
            .into_tuple()
            .one(store.reader())
            .await?;
        let (queue, jobs) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            service: self.service,
            lookup: Lookup::start(&store),
            mirrored: Lookup::start(&store),
            store,
            node,
            clock,
            kinds: self.kinds,
            cache: Cache::new(CACHED_STATES),
            next_position: AtomicI64::new(last.flatten().unwrap_or(0) + 1),
            outbox: OnceLock::new(),
            committed: watch::Sender::new(0),
            queues: Queues::default(),
        });
        tokio::spawn(writer::run(inner.clone(), jobs));
        Ok(Journal { inner, queue, places: Arc::new(Semaphore::new(QUEUED_COMMANDS)) })
    }
}

impl Journal {
    /// Begins to describe a service's journal. Each holds the erasures of its own texts.
    #[must_use]
    pub fn of(service: &'static str) -> JournalBuilder {
        JournalBuilder { service, kinds: HashMap::new() }.record::<Erasure>()
    }

    /// The service whose journal it is.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.inner.service
    }

    /// The database, for queries over views.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The node's identity.
    #[must_use]
    pub fn node(&self) -> &NodeKeys {
        &self.inner.node
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.inner.clock.as_ref()
    }

    /// Tells of each commit.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.inner.committed.subscribe()
    }

    /// Ends when the writer has, which no panic of a rule or a transaction makes it.
    pub async fn writer_ended(self) {
        self.queue.closed().await;
    }

    /// Decides a command. Once this answers, what it did is durable. With `validate_only` it answers the same and does
    /// nothing (PL-4).
    ///
    /// # Errors
    /// The rule's refusal, or one of the platform's (stale, limit, away). Nothing was changed then.
    pub async fn submit<R: Record>(&self, command: Command<R>, validate_only: bool) -> Result<Receipt<R>, Refusal> {
        self.submit_together(command, Vec::new(), validate_only).await
    }

    /// Decides several commands that take effect together or not at all. The answer is about the first.
    ///
    /// # Errors
    /// The first refusal among them; nothing was changed then.
    pub async fn submit_together<R: Record>(
        &self,
        first: Command<R>,
        others: Vec<Together>,
        validate_only: bool,
    ) -> Result<Receipt<R>, Refusal> {
        if others.len() >= COMMAND_RECORDS {
            return Err(Refusal::because(Reason::Limit, "PL-4", "the command touches too many records")
                .help("Send it in parts."));
        }
        let mut commands: Vec<Box<dyn AnyCommand>> = vec![Box::new(first)];
        commands.extend(others.into_iter().map(|other| other.0));
        let answer = self.enqueue(commands, validate_only).await?;
        self.receipt(answer).await
    }

    /// The same for a command that may find nothing to do on a record that is not there: `None` then.
    ///
    /// # Errors
    /// As `submit`.
    pub async fn submit_if_any<R: Record>(
        &self,
        command: Command<R>,
        validate_only: bool,
    ) -> Result<Option<Receipt<R>>, Refusal> {
        let done = self.enqueue(vec![Box::new(command)], validate_only).await?.await.map_err(|_| closed())??;
        let first = done.into_iter().next().ok_or_else(closed)?;
        if first.version == 0 { Ok(None) } else { self.settled(first).await.map(Some) }
    }

    /// Decides many commands, each for itself, in as few transactions as may be. Answers stand in the order of the commands.
    pub async fn submit_each<R: Record>(
        &self,
        commands: Vec<Command<R>>,
        validate_only: bool,
    ) -> Vec<Result<Receipt<R>, Refusal>> {
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            let work = Work::Commands { commands: vec![Box::new(command)], validate_only };
            // Waiting for a place is right here: the caller asked for all of them and holds them already.
            answers.push(self.wait(work).await);
        }
        let mut out = Vec::with_capacity(answers.len());
        for answer in answers {
            out.push(match answer {
                Ok(wait) => self.receipt(wait).await,
                Err(refusal) => Err(refusal),
            });
        }
        out
    }

    /// What a request led to when it was made before; `None` where it was not.
    ///
    /// # Errors
    /// Where its id was used for another request; where the database is away.
    pub async fn first_answer<R: Record>(&self, key: &RequestKey) -> Result<Option<Receipt<R>>, Refusal> {
        let row = request::Entity::find_by_id((key.tenant.0, key.id)).one(self.store().reader()).await;
        let Some(row) = row.map_err(|e| storage(&e))? else { return Ok(None) };
        key.is_of(&row)?;
        let (name, version) = (RecordName::new(R::COLLECTION, RecordId(row.record)), row.version.cast_unsigned());
        self.settled(Done { name, version, head: Vec::new(), state: None, repeated: true }).await.map(Some)
    }

    async fn enqueue(&self, commands: Vec<Box<dyn AnyCommand>>, validate_only: bool) -> Result<Answer, Refusal> {
        let place = self.places.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => {
                let refusal = Refusal::because(Reason::Limit, "PL-4", "too many commands are waiting").passing();
                refusal.help("Try again in a second.")
            }
            TryAcquireError::Closed => closed(),
        })?;
        let found = self.look_up(&commands).await;
        let work = Work::Commands { commands, validate_only };
        match found {
            Ok(found) => self.send(work, found, place),
            Err(refusal) => {
                metrics::answered(self.inner.service, &work, &Err(refusal.clone()));
                Err(refusal)
            }
        }
    }

    /// Reads the records that are not known here, while the writer has others in hand. A file's writer reads them under its
    /// lock.
    async fn look_up(&self, commands: &[Box<dyn AnyCommand>]) -> Result<Found, Refusal> {
        if self.inner.store.backend() == Backend::Sqlite {
            return Ok(Found::new());
        }
        let id = |command: &dyn AnyCommand| command.name().id.0;
        let (fresh, others): (Vec<_>, Vec<_>) = commands.iter().partition(|command| command.is_fresh());
        let unknown = BTreeSet::from_iter(
            others.into_iter().map(|one| id(one.as_ref())).filter(|id| !self.inner.cache.contains_key(id)),
        );
        let mut found = Found::new();
        // Many have a statement of their own, when it is their turn.
        if unknown.len() <= LOOKUP_FEW {
            let read = unknown.into_iter().map(|id| async move { Ok((id, self.inner.lookup.get(id).await?)) });
            found.extend(try_join_all(read).await?);
        }
        found.extend(fresh.into_iter().map(|one| (id(one.as_ref()), None)));
        Ok(found)
    }

    /// Hands work to the writer, once there is a place.
    async fn wait(&self, work: Work) -> Result<Answer, Refusal> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| closed())?;
        self.send(work, Found::new(), place)
    }

    fn send(&self, work: Work, found: Found, place: OwnedSemaphorePermit) -> Result<Answer, Refusal> {
        let (answer, wait) = oneshot::channel();
        self.queue.send(Job { work, answer, tries: 0, found, _place: place }).map_err(|_| closed())?;
        Ok(wait)
    }

    pub(crate) async fn fire(&self, name: RecordName, due: chrono::DateTime<chrono::Utc>) -> Result<(), Refusal> {
        let answer = self.wait(Work::Timer { name, due, trace: trace::current() }).await?;
        answer.await.map_err(|_| closed())?.map(|_| ())
    }

    async fn receipt<R: Record>(&self, wait: Answer) -> Result<Receipt<R>, Refusal> {
        let done = wait.await.map_err(|_| closed())??;
        self.settled(done.into_iter().next().ok_or_else(closed)?).await
    }

    async fn settled<R: Record>(&self, first: Done) -> Result<Receipt<R>, Refusal> {
        if let Some(state) = &first.state {
            return Ok(Receipt {
                state: shared::<R>(state),
                version: first.version,
                etag: hex::encode(&first.head),
                repeated: first.repeated,
                name: first.name,
            });
        }
        let then =
            self.load_at::<R>(&first.name, first.version).await?.ok_or_else(|| Refusal::not_found(&first.name))?;
        Ok(Receipt { name: then.name, state: then.state, version: then.version, etag: then.etag, repeated: true })
    }
}

/// Where the writer's answer comes.
type Answer = oneshot::Receiver<Result<Vec<Done>, Refusal>>;

/// A command that takes effect together with others.
pub struct Together(Box<dyn AnyCommand>);

impl std::fmt::Debug for Together {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Together").field(self.0.name()).finish()
    }
}

impl<R: Record> From<Command<R>> for Together {
    fn from(command: Command<R>) -> Self {
        Self(Box::new(command))
    }
}

fn closed() -> Refusal {
    Refusal::because(Reason::Unavailable, "PL-4", "the service ends, or made a mistake: it is not known what stands")
        .help("Send the same again, with the same request_id: what was done already is not done twice.")
}
