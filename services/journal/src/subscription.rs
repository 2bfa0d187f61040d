//! Subscriptions: what happened in another service is applied here once, and in each record's order.
//!
//! A version seen is skipped; a gap is fetched from the owner; a change that cannot be applied puts its record into
//! quarantine while the others go on. Effects and marks commit together, and only then is the source told.

use crate::{
    bulk::{Writes, among},
    journal::Journal,
    kind::is_tombstone,
    metrics,
    mirror::{AnyMirror, Mirror, MirrorOf, TOMBSTONE},
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
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, Set, Statement};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
};
use tracing::Instrument;
use uuid::Uuid;

pub use crate::source::{Delivery, JournalSource, Source};

type AnyBox = Box<dyn Any + Send + Sync>;

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
    version: u64,
    touched: bool,
    deleted: bool,
}

impl Slot {
    /// What views may have of it. Mirrors can be emptied, to be made again, while their rows still stand.
    fn seen_before(&self) -> Before<'_> {
        self.before.as_ref().map_or(Before::Unknown, |state| Before::State(state.as_ref()))
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
        let tx = self.journal.store().begin().await.map_err(|e| storage(&e))?;
        self.alone(&tx).await.map_err(|e| storage(&e))?;
        let mut batch = self.begin(&tx, deliveries).await?;
        for delivery in deliveries {
            batch.trace.clone_from(&delivery.trace);
            let span = tracing::info_span!("apply", subscription = self.name, record = %delivery.envelope.record);
            trace::follow(&span, delivery.trace.as_deref());
            self.deliver(source, &mut batch, &delivery.envelope).instrument(span).await?;
        }
        let position = deliveries.iter().map(|d| d.position).max().filter(|_| source.by_position());
        let dirty = !batch.dirty.is_empty();
        self.write(&tx, batch, position).await.map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))?;
        if dirty {
            self.journal.wake();
        }
        if let Some(at) =
            deliveries.iter().filter_map(|delivery| delivery.envelope.claimed_time).map(seconds).reduce(f64::max)
        {
            let now = self.journal.clock().now().timestamp_micros() as f64 / 1e6;
            metrics::lag(self.name, (now - at).max(0.0));
        }
        Ok(())
    }

    /// Replicas apply a subscription's changes one after the other: two that fold one record at once would lose one fold.
    async fn alone(&self, tx: &DatabaseTransaction) -> Result<(), sea_orm::DbErr> {
        if self.journal.store().backend() == Backend::Postgres {
            let lock = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || $1))";
            let name = sea_orm::Value::from(format!(".{}", self.name));
            tx.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, lock, [name])).await?;
        }
        Ok(())
    }

    async fn begin(&self, tx: &DatabaseTransaction, deliveries: &[Delivery]) -> Result<Applying, Refusal> {
        let mut wanted: BTreeMap<&'static str, BTreeSet<Uuid>> = BTreeMap::new();
        for delivery in deliveries {
            if let Some((mirror, name)) = self.mirror_of(&delivery.envelope) {
                wanted.entry(mirror.collection()).or_default().insert(name.id.0);
            }
        }
        let (mut batch, mut all) = (Applying::default(), Vec::new());
        for (collection, ids) in wanted {
            let mirror = &self.mirrors[collection];
            let rows = mirror::Entity::find()
                .filter(mirror::Column::Subscription.eq(collection))
                .filter(among(tx.get_database_backend(), mirror::Column::Record, ids.iter().copied()))
                .all(tx)
                .await
                .map_err(|e| storage(&e))?;
            for row in rows {
                // Of another revision: folded anew from the first change, which counts as a gap.
                let deleted = row.revision == mirror.revision() && row.state == TOMBSTONE;
                let state = if deleted { None } else { mirror.decode(&row) };
                let version = if deleted || state.is_some() { row.version.cast_unsigned() } else { 0 };
                batch.slots.insert(row.record, Slot { state, version, deleted, ..Slot::default() });
            }
            all.extend(ids);
        }
        let stuck = quarantine::Entity::find()
            .filter(quarantine::Column::Subscription.eq(self.name))
            .filter(among(tx.get_database_backend(), quarantine::Column::Record, all))
            .all(tx)
            .await
            .map_err(|e| storage(&e))?;
        batch.quarantined.extend(stuck.into_iter().map(|row| row.record));
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
        let folded = match (slot.deleted, is_tombstone(&envelope.r#type)) {
            (true, _) => Err(Misfit("nothing follows a tombstone".into())),
            (false, true) => Ok(None),
            (false, false) => mirror.fold(slot.state.as_deref(), envelope),
        };
        match folded {
            Ok(after) => {
                slot.deleted = is_tombstone(&envelope.r#type);
                if after.is_some() || slot.deleted {
                    let touched = mirror.touches(name.id, slot.state.as_deref(), after.as_deref());
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

    async fn write(
        &self,
        tx: &DatabaseTransaction,
        batch: Applying,
        position: Option<i64>,
    ) -> Result<(), sea_orm::DbErr> {
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
                    Some(state) => collector.add(*record, slot.seen_before(), state.as_ref()),
                    None => collector.remove(*record),
                }
            }
        }
        let mut writes = Writes::on(tx.get_database_backend());
        writes.upsert(&rows);
        for collector in views.into_values().flatten() {
            collector.write(&mut writes);
        }
        mark_dirty(&mut writes, batch.dirty);
        writes.insert(&batch.stuck);
        let cursor =
            |position| cursor::ActiveModel { subscription: Set(self.name.to_owned()), position: Set(position) };
        writes.upsert(&position.map(cursor).into_iter().collect::<Vec<_>>());
        writes.run(tx).await
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
        for delivery in &deliveries {
            self.deliver(source, &mut batch, &delivery.envelope).await?;
        }
        self.write(&tx, batch, None).await.map_err(|e| storage(&e))?;
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
}
