//! Subscriptions: what happened in another service is applied here once, and in each record's order.
//!
//! A version seen is skipped; a gap is fetched from the owner; a change that cannot be applied puts its record into
//! quarantine while the others go on. Effects and marks commit together, and only then is the source told.
//!
//! What the broker brings is applied by two statements: one reads mirrors, quarantine and whose turn it is, one writes where
//! nobody else has had the turn since. Where somebody has, or one statement is not enough, it is applied under lock.

use crate::{
    bulk::Writes,
    journal::Journal,
    kind::is_tombstone,
    metrics,
    mirror::{AnyMirror, Mirror, MirrorOf, TOMBSTONE, read},
    panics,
    queue::{Marks, mark_dirty},
    store::{Backend, storage},
    tables::{cursor, mirror, quarantine},
    trace,
    view::{Before, Collector, View},
    worker::Worker,
};
use async_trait::async_trait;
use hansa_kernel::{Misfit, RecordId, RecordName, Reference, Refusal};
use hansa_proto::types::ChangeEnvelope;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, Set, SqlErr, Statement,
};
use std::{
    any::Any,
    collections::{BTreeSet, HashMap},
};
use tracing::Instrument;
use uuid::Uuid;

pub use crate::source::{Delivery, JournalSource, Source};

type AnyBox = Box<dyn Any + Send + Sync>;
type Queues = BTreeSet<&'static str>;

fn queues(dirty: &Marks) -> Queues {
    dirty.keys().map(|(queue, _)| *queue).collect()
}

/// Who applies a subscription's changes in a transaction holds this.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || $1))";

/// And takes the turn from those who do without one.
const TAKE_TURN: &str = "INSERT INTO cursors (subscription, position) VALUES ($1, 1) \
    ON CONFLICT (subscription) DO UPDATE SET position = cursors.position + 1";

/// What one service learns from another.
pub struct Subscription {
    name: &'static str,
    journal: Journal,
    mirrors: HashMap<&'static str, Box<dyn AnyMirror>>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A mirrored record within a batch.
#[derive(Default)]
struct Slot {
    /// The state that is stored, once another has taken its place.
    before: Option<AnyBox>,
    state: Option<AnyBox>,
    /// Whether the database holds a mirror of it, in whatever shape.
    stored: bool,
    version: u64,
    touched: bool,
    deleted: bool,
}

impl Slot {
    /// What views may have of it. Where there is no mirror there should be no row; who applies it under lock takes that for
    /// granted no more, since somebody may have emptied the mirrors.
    fn seen_before(&self, under_lock: bool) -> Before<'_> {
        match &self.before {
            Some(state) => Before::State(state.as_ref()),
            None if self.stored || under_lock => Before::Unknown,
            None => Before::Nothing,
        }
    }
}

impl Subscription {
    /// A subscription of the service that owns `journal`; its name is durable.
    #[must_use]
    pub fn new(name: &'static str, journal: &Journal) -> Self {
        Self { name, journal: journal.clone(), mirrors: HashMap::new() }
    }

    /// Its durable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Keeps a mirror that is found by its record's id alone.
    #[must_use]
    pub fn mirror<M: Mirror>(mut self) -> Self {
        self.mirrors.insert(M::State::COLLECTION, Box::new(MirrorOf::<M>::new()));
        self
    }

    /// Keeps a mirror with a view.
    #[must_use]
    pub fn viewed<M: Mirror, V: View<State = M::State>>(mut self) -> Self {
        self.mirrors.insert(M::State::COLLECTION, Box::new(MirrorOf::<M>::new().with::<V>()));
        self
    }

    /// Applies what a source brings, a step at a time.
    #[must_use]
    pub fn following(self, source: Box<dyn Source>) -> Box<dyn Worker> {
        Box::new(Following { subscription: self, source, refolded: false })
    }

    /// Where mirrors are of an older shape, has every change come again: those are folded anew, the others pass over what
    /// they have seen. Answers whether that was needed.
    ///
    /// # Errors
    /// Where the source or the database is away.
    pub async fn refold(&self, source: &mut dyn Source) -> Result<bool, Refusal> {
        let db = self.journal.store().reader();
        for (collection, mirror) in &self.mirrors {
            let old = mirror::Entity::find()
                .filter(mirror::Column::Subscription.eq(*collection))
                .filter(mirror::Column::Revision.ne(mirror.revision()))
                .one(db)
                .await
                .map_err(|e| storage(&e))?;
            if old.is_some() {
                let tx = self.journal.store().begin().await.map_err(|e| storage(&e))?;
                let start = cursor::ActiveModel { subscription: Set(self.name.to_owned()), position: Set(0) };
                let mut writes = Writes::on(self.journal.store().engine());
                writes.upsert(&[start]);
                writes.run(&tx).await.map_err(|e| storage(&e))?;
                tx.commit().await.map_err(|e| storage(&e))?;
                source.rewind().await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes what is new and applies it. Answers how many changes it saw.
    ///
    /// # Errors
    /// Where the source or the database is away; what was not applied comes again.
    pub async fn step(&self, source: &mut dyn Source) -> Result<usize, Refusal> {
        let after = if source.by_position() { self.position().await? } else { 0 };
        let deliveries = source.next(after).await?;
        if deliveries.is_empty() {
            return Ok(0);
        }
        self.apply(source, &deliveries).await?;
        source.applied().await?;
        Ok(deliveries.len())
    }

    /// How far the subscription has come at its source.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn position(&self) -> Result<i64, Refusal> {
        let row = cursor::Entity::find_by_id(self.name).one(self.journal.store().reader()).await;
        Ok(row.map_err(|e| storage(&e))?.map_or(0, |row| row.position))
    }

    async fn apply(&self, source: &mut dyn Source, deliveries: &[Delivery]) -> Result<(), Refusal> {
        if !source.by_position() && !deliveries.iter().any(|delivery| self.mirror_of(&delivery.envelope).is_some()) {
            return Ok(());
        }
        let at_once = self.journal.store().backend() == Backend::Postgres && !source.by_position();
        let marked = match if at_once { self.at_once(source, deliveries).await? } else { None } {
            Some(marked) => marked,
            None => self.under_lock(source, deliveries).await?,
        };
        self.journal.wake(marked);
        if let Some(at) =
            deliveries.iter().filter_map(|delivery| delivery.envelope.claimed_time).map(seconds).reduce(f64::max)
        {
            let now = self.journal.clock().now().timestamp_micros() as f64 / 1e6;
            metrics::lag(self.name, (now - at).max(0.0));
        }
        Ok(())
    }

    /// Applies changes by what is read before, and writes where nobody else did meanwhile. Answers which queues were
    /// marked; nothing where nothing was written.
    async fn at_once(&self, source: &mut dyn Source, deliveries: &[Delivery]) -> Result<Option<Queues>, Refusal> {
        let store = self.journal.store();
        let mut batch = self.begin(store.reader(), deliveries).await?;
        let Some(turn) = batch.turn else { return Ok(None) };
        self.deliver_all(source, &mut batch, deliveries).await?;
        let marked = queues(&batch.dirty);
        let mut writes = Writes::in_turn(store.engine());
        self.write(&mut writes, batch, None);
        if writes.is_empty() {
            return Ok(Some(marked));
        }
        if !writes.at_once() {
            return Ok(None);
        }
        match writes.run_in_turn(store.writer(), &self.turn(), turn).await {
            Ok(written) => Ok(written.then_some(marked)),
            // There is a row where none should be.
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(None),
            Err(error) => Err(storage(&error)),
        }
    }

    /// The same in a transaction, while nobody else applies anything.
    async fn under_lock(&self, source: &mut dyn Source, deliveries: &[Delivery]) -> Result<Queues, Refusal> {
        let tx = self.journal.store().begin().await.map_err(|e| storage(&e))?;
        self.alone(&tx).await.map_err(|e| storage(&e))?;
        let mut batch = self.begin(&tx, deliveries).await?;
        batch.under_lock = true;
        self.deliver_all(source, &mut batch, deliveries).await?;
        let position = deliveries.iter().map(|d| d.position).max().filter(|_| source.by_position());
        let marked = queues(&batch.dirty);
        let mut writes = Writes::on(tx.get_database_backend());
        self.write(&mut writes, batch, position);
        writes.run(&tx).await.map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))?;
        Ok(marked)
    }

    async fn deliver_all(
        &self,
        source: &mut dyn Source,
        batch: &mut Applying,
        deliveries: &[Delivery],
    ) -> Result<(), Refusal> {
        for delivery in deliveries {
            batch.trace.clone_from(&delivery.trace);
            let span = tracing::info_span!("apply", subscription = self.name, record = %delivery.envelope.record);
            trace::follow(&span, delivery.trace.as_deref());
            self.deliver(source, batch, &delivery.envelope).instrument(span).await?;
        }
        Ok(())
    }

    /// The cursor that counts whose turn it was.
    fn turn(&self) -> String {
        format!("{}/turn", self.name)
    }

    /// Replicas apply a subscription's changes one after the other: two that fold one record at once would lose one fold.
    async fn alone(&self, tx: &DatabaseTransaction) -> Result<(), sea_orm::DbErr> {
        if self.journal.store().backend() == Backend::Postgres {
            let say =
                |sql, value| Statement::from_sql_and_values(DbBackend::Postgres, sql, [sea_orm::Value::from(value)]);
            tx.execute_raw(say(LOCK, format!(".{}", self.name))).await?;
            tx.execute_raw(say(TAKE_TURN, self.turn())).await?;
        }
        Ok(())
    }

    async fn begin(&self, db: &impl ConnectionTrait, deliveries: &[Delivery]) -> Result<Applying, Refusal> {
        let mut wanted: BTreeSet<(&'static str, Uuid)> = BTreeSet::new();
        for delivery in deliveries {
            if let Some((mirror, name)) = self.mirror_of(&delivery.envelope) {
                wanted.insert((mirror.collection(), name.id.0));
            }
        }
        let mut batch = Applying::default();
        for row in read(db, (self.name, &self.turn()), &Vec::from_iter(wanted)).await.map_err(|e| storage(&e))? {
            batch.turn = row.turn;
            if row.stuck.is_some() {
                batch.quarantined.insert(row.record);
            }
            let Some(mirror) = self.mirrors.get(row.collection.as_str()) else { continue };
            if let (Some(version), Some(revision), Some(bytes)) = (row.version, row.revision, row.state) {
                // Of another revision: folded anew from the first change, which counts as a gap.
                let deleted = revision == mirror.revision() && bytes == TOMBSTONE;
                let state = if deleted { None } else { mirror.decode(revision, &bytes) };
                let version = if deleted || state.is_some() { version.cast_unsigned() } else { 0 };
                batch.slots.insert(row.record, Slot { state, stored: true, version, deleted, ..Slot::default() });
            }
        }
        Ok(batch)
    }

    fn mirror_of(&self, envelope: &ChangeEnvelope) -> Option<(&dyn AnyMirror, RecordName)> {
        let name = RecordName::parse_any(&envelope.record, "record").ok()?;
        self.mirrors.get(name.collection()).map(|mirror| (mirror.as_ref(), name))
    }

    async fn deliver(
        &self,
        source: &mut dyn Source,
        batch: &mut Applying,
        envelope: &ChangeEnvelope,
    ) -> Result<(), Refusal> {
        let Some((mirror, name)) = self.mirror_of(envelope) else { return Ok(()) };
        if batch.quarantined.contains(&name.id.0) {
            return Ok(());
        }
        let seen = batch.slots.get(&name.id.0).map_or(0, |slot| slot.version);
        if envelope.version <= seen {
            return Ok(());
        }
        if envelope.version == seen + 1 {
            self.fold(mirror, batch, &name, envelope);
            return Ok(());
        }
        for missing in source.history(&name, seen).await? {
            if missing.version <= envelope.version && !batch.quarantined.contains(&name.id.0) {
                self.fold(mirror, batch, &name, &missing);
            }
        }
        Ok(())
    }

    fn fold(&self, mirror: &dyn AnyMirror, batch: &mut Applying, name: &RecordName, envelope: &ChangeEnvelope) {
        let slot = batch.slots.entry(name.id.0).or_default();
        let ends = is_tombstone(&envelope.r#type);
        let folded = panics::folded(|| {
            let after = match (slot.deleted, ends) {
                (true, _) => return Err(Misfit("nothing follows a tombstone".into())),
                (false, true) => None,
                (false, false) => mirror.fold(slot.state.as_deref(), envelope)?,
            };
            let moved = after.is_some() || ends;
            let touches = || mirror.touches(name.id, slot.state.as_deref(), after.as_deref());
            Ok((moved.then(touches), after))
        });
        match folded {
            Ok((touched, after)) => {
                slot.deleted = ends;
                if let Some(touched) = touched {
                    batch.dirty.extend(touched.into_iter().map(|key| (key, batch.trace.clone())));
                    let before = std::mem::replace(&mut slot.state, after);
                    if !slot.touched {
                        slot.before = before;
                    }
                }
                slot.version = envelope.version;
                slot.touched = true;
                batch.collections.insert(name.id.0, mirror.collection());
            }
            Err(misfit) => {
                tracing::error!(subscription = self.name, record = %name, version = envelope.version, %misfit, "quarantined");
                batch.quarantined.insert(name.id.0);
                batch.stuck.push(quarantine::ActiveModel {
                    subscription: Set(self.name.to_owned()),
                    record: Set(name.id.0),
                    name: Set(name.as_str().to_owned()),
                    version: Set(envelope.version.cast_signed()),
                    reason: Set(misfit.to_string()),
                    since: Set(self.journal.clock().now().timestamp_micros()),
                });
            }
        }
    }

    fn write(&self, writes: &mut Writes, batch: Applying, position: Option<i64>) {
        let mut rows = Vec::new();
        let mut views: HashMap<&'static str, Vec<Box<dyn Collector>>> = HashMap::new();
        for (record, slot) in batch.slots.iter().filter(|(_, slot)| slot.touched) {
            let Some(collection) = batch.collections.get(record) else { continue };
            if slot.state.is_none() && !slot.deleted {
                continue;
            }
            let mirror = &self.mirrors[collection];
            rows.push(mirror::ActiveModel {
                subscription: Set((*collection).to_owned()),
                record: Set(*record),
                version: Set(slot.version.cast_signed()),
                revision: Set(mirror.revision()),
                state: Set(slot
                    .state
                    .as_ref()
                    .map_or_else(|| TOMBSTONE.to_vec(), |state| mirror.encode(state.as_ref()))),
            });
            for collector in views.entry(collection).or_insert_with(|| mirror.collectors()) {
                match &slot.state {
                    Some(state) => collector.add(*record, slot.seen_before(batch.under_lock), state.as_ref()),
                    None => collector.remove(*record),
                }
            }
        }
        writes.upsert(&rows);
        for collector in views.into_values().flatten() {
            collector.write(writes);
        }
        mark_dirty(writes, batch.dirty);
        writes.insert(&batch.stuck);
        let cursor =
            |position| cursor::ActiveModel { subscription: Set(self.name.to_owned()), position: Set(position) };
        writes.upsert(&position.map(cursor).into_iter().collect::<Vec<_>>());
    }

    /// The records that wait in quarantine, with the reason.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn quarantined(&self) -> Result<Vec<quarantine::Model>, Refusal> {
        quarantine::Entity::find()
            .filter(quarantine::Column::Subscription.eq(self.name))
            .all(self.journal.store().reader())
            .await
            .map_err(|e| storage(&e))
    }

    /// Takes a record out of quarantine and folds what it missed; it goes back where that fails again.
    ///
    /// # Errors
    /// Where the source or the database is away.
    pub async fn replay(&self, source: &mut dyn Source, record: RecordId) -> Result<(), Refusal> {
        let tx = self.journal.store().begin().await.map_err(|e| storage(&e))?;
        let key = (self.name.to_owned(), record.0);
        let Some(row) = quarantine::Entity::find_by_id(key.clone()).one(&tx).await.map_err(|e| storage(&e))? else {
            return Ok(());
        };
        quarantine::Entity::delete_by_id(key).exec(&tx).await.map_err(|e| storage(&e))?;
        let name = RecordName::parse_any(&row.name, "record")?;
        let deliveries: Vec<Delivery> = source
            .history(&name, row.version.cast_unsigned() - 1)
            .await?
            .into_iter()
            .map(|envelope| Delivery { position: 0, envelope, trace: None })
            .collect();
        self.alone(&tx).await.map_err(|e| storage(&e))?;
        let mut batch = self.begin(&tx, &deliveries).await?;
        batch.under_lock = true;
        for delivery in &deliveries {
            self.deliver(source, &mut batch, &delivery.envelope).await?;
        }
        let mut writes = Writes::on(tx.get_database_backend());
        self.write(&mut writes, batch, None);
        writes.run(&tx).await.map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))
    }
}

/// A subscription and where its changes come from.
struct Following {
    subscription: Subscription,
    source: Box<dyn Source>,
    /// Whether it was looked for mirrors of an older shape.
    refolded: bool,
}

#[async_trait]
impl Worker for Following {
    fn name(&self) -> String {
        format!("subscription {}", self.subscription.name)
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        if !self.refolded {
            self.subscription.refold(self.source.as_mut()).await?;
            self.refolded = true;
        }
        self.subscription.step(self.source.as_mut()).await
    }

    async fn rest(&mut self) {
        self.source.ready().await;
    }
}

fn seconds(at: prost_types::Timestamp) -> f64 {
    at.seconds as f64 + f64::from(at.nanos) / 1e9
}

/// One transaction's worth of deliveries.
#[derive(Default)]
struct Applying {
    slots: HashMap<Uuid, Slot>,
    collections: HashMap<Uuid, &'static str>,
    quarantined: BTreeSet<Uuid>,
    stuck: Vec<quarantine::ActiveModel>,
    dirty: Marks,
    /// Of the change that is being applied.
    trace: Option<String>,
    /// Where the cursor of turns stood.
    turn: Option<i64>,
    /// Whether nobody else applies anything meanwhile.
    under_lock: bool,
}
