//! Subscriptions: what happened in another service is applied here once, and in each record's order.
//!
//! A version seen is skipped; a gap is fetched from the owner; a change that cannot be applied puts its record into
//! quarantine while the others go on. Effects and marks commit together, and only then is the source told.
//!
//! What the broker brings is applied by two statements: one reads mirrors, quarantine and whose turn it is, one writes where
//! nobody else has had the turn since. The first is left out for mirrors that are remembered as of that turn. Where somebody
//! has had it, or one statement is not enough, it is applied under lock.

use crate::{
    applying::{Applied, Applying, Slot},
    bulk::Writes,
    following::Following,
    journal::Journal,
    kind::is_tombstone,
    metrics,
    mirror::{AnyMirror, Mirror, MirrorOf, TOMBSTONE, read},
    panics,
    queue::mark_dirty,
    remembered::Remembered,
    store::{Backend, storage},
    tables::{cursor, dirty, mirror, quarantine},
    trace,
    view::{Before, Collector, View},
    worker::Worker,
};
use hansa_kernel::{Misfit, RecordId, RecordName, Reference, Refusal};
use hansa_proto::types::ChangeEnvelope;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult, QueryFilter, Set,
    SqlErr, Statement,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracing::Instrument;
use uuid::Uuid;

pub use crate::source::{Delivery, JournalSource, Source};

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
    /// Taken out by who applies something, and put back once that is durable: who is cut off leaves nothing.
    remembered: Mutex<Remembered>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Subscription {
    /// A subscription of the service that owns `journal`; its name is durable.
    #[must_use]
    pub fn new(name: &'static str, journal: &Journal) -> Self {
        Self { name, journal: journal.clone(), mirrors: HashMap::new(), remembered: Mutex::default() }
    }

    /// Its durable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The collections that it keeps something of, sorted.
    pub(crate) fn collections(&self) -> Vec<&'static str> {
        let mut collections: Vec<&'static str> = self.mirrors.keys().copied().collect();
        collections.sort_unstable();
        collections
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
        Box::new(Following::new(self, source))
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
                writes.upsert(vec![start]);
                writes.run(&tx).await.map_err(|e| storage(&e))?;
                tx.commit().await.map_err(|e| storage(&e))?;
                *self.remembered() = Remembered::default();
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
        let after = if source.by_position() { self.known_position().await? } else { 0 };
        let deliveries = source.next(after).await?;
        if !deliveries.is_empty() {
            self.apply(source, &deliveries).await?;
        }
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

    async fn known_position(&self) -> Result<i64, Refusal> {
        let known = self.remembered().position;
        match known {
            Some(position) => Ok(position),
            None => self.position().await,
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn apply(&self, source: &mut dyn Source, deliveries: &[Delivery]) -> Result<(), Refusal> {
        if !source.by_position() && !deliveries.iter().any(|delivery| self.mirror_of(&delivery.envelope).is_some()) {
            return Ok(());
        }
        let known = std::mem::take(&mut *self.remembered());
        let applied = match self.journal.store().backend() {
            // One process has the file for itself.
            Backend::Sqlite => self.under_lock(source, deliveries, known).await?,
            Backend::Postgres if source.by_position() => {
                self.under_lock(source, deliveries, Remembered::default()).await?
            }
            Backend::Postgres => match self.at_once(source, deliveries, known).await? {
                Some(applied) => applied,
                None => self.under_lock(source, deliveries, Remembered::default()).await?,
            },
        };
        *self.remembered() = applied.known;
        self.journal.hand(applied.marked, applied.handed);
        if let Some(at) =
            deliveries.iter().filter_map(|delivery| delivery.envelope.claimed_time).map(seconds).reduce(f64::max)
        {
            let now = self.journal.clock().now().timestamp_micros() as f64 / 1e6;
            metrics::lag(self.name, (now - at).max(0.0));
        }
        Ok(())
    }

    /// Applies changes by what is known or read before, and writes where nobody else did meanwhile. Answers nothing where
    /// nothing was written.
    async fn at_once(
        &self,
        source: &mut dyn Source,
        deliveries: &[Delivery],
        known: Remembered,
    ) -> Result<Option<Applied>, Refusal> {
        let store = self.journal.store();
        let mut batch = self.begin(store.reader(), deliveries, known).await?;
        let Some(turn) = batch.known.turn else { return Ok(None) };
        self.deliver_all(source, &mut batch, deliveries).await?;
        let mut writes = Writes::in_turn(store.engine());
        let mut applied = self.write(&mut writes, batch, None);
        if writes.is_empty() {
            return Ok(Some(applied));
        }
        if !writes.at_once() {
            return Ok(None);
        }
        applied.known.turn = Some(turn + 1);
        match writes.run_in_turn(store.writer(), &self.turn(), turn).await {
            Ok(Some(rows)) => {
                let handed = rows.iter().filter_map(|row| dirty::Model::from_query_result(row, "").ok()).collect();
                Ok(Some(Applied { handed, ..applied }))
            }
            Ok(None) => Ok(None),
            // There is a row where none should be.
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(None),
            Err(error) => Err(storage(&error)),
        }
    }

    /// The same in a transaction, while nobody else applies anything.
    async fn under_lock(
        &self,
        source: &mut dyn Source,
        deliveries: &[Delivery],
        known: Remembered,
    ) -> Result<Applied, Refusal> {
        let tx = self.journal.store().begin().await.map_err(|e| storage(&e))?;
        self.alone(&tx).await.map_err(|e| storage(&e))?;
        let mut batch = self.begin(&tx, deliveries, known).await?;
        batch.under_lock = true;
        self.deliver_all(source, &mut batch, deliveries).await?;
        let position = deliveries.iter().map(|d| d.position).max().filter(|_| source.by_position());
        let mut writes = Writes::on(tx.get_database_backend());
        let applied = self.write(&mut writes, batch, position);
        writes.run(&tx).await.map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))?;
        Ok(applied)
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

    /// Looks up what the changes are about, as far as it is not known.
    async fn begin(
        &self,
        db: &impl ConnectionTrait,
        deliveries: &[Delivery],
        known: Remembered,
    ) -> Result<Applying, Refusal> {
        let mut wanted: BTreeSet<(&'static str, Uuid)> = BTreeSet::new();
        for delivery in deliveries {
            if let Some((mirror, name)) = self.mirror_of(&delivery.envelope) {
                wanted.insert((mirror.collection(), name.id.0));
            }
        }
        let mut batch = Applying { known, ..Applying::default() };
        let lacking = Vec::from_iter(wanted.iter().filter(|(_, id)| batch.known.get(*id).is_none()).copied());
        let turn = self.turn();
        let seen = async |records: &[_]| read(db, (self.name, &turn), records).await.map_err(|e| storage(&e));
        let mut rows = seen(&lacking).await?;
        if rows.first().is_some_and(|row| batch.known.turn.is_some() && row.turn != batch.known.turn) {
            // Somebody else has had a turn: what is remembered may be old.
            batch.known = Remembered::default();
            rows = seen(&Vec::from_iter(wanted.iter().copied())).await?;
        }
        for (id, mirrored) in wanted.iter().filter_map(|(_, id)| Some((*id, batch.known.get(*id)?))) {
            batch.slots.insert(id, Slot::of(mirrored));
        }
        for row in rows {
            batch.known.turn = row.turn;
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
            if let Some(after) = &after {
                // A view that panics shall do so here, where no other record is at stake.
                let mut views = mirror.collectors();
                views.iter_mut().for_each(|view| view.add(name.id.0, Before::Unknown, after.as_ref()));
            }
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

    /// Hands over what is to be written. Answers what is so once it is written.
    fn write(&self, writes: &mut Writes, mut batch: Applying, position: Option<i64>) -> Applied {
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
        writes.upsert(rows);
        for collector in views.into_values().flatten() {
            collector.write(writes);
        }
        let mut applied = Applied {
            marked: batch.dirty.keys().map(|(queue, _)| *queue).collect(),
            handed: Vec::new(),
            known: std::mem::take(&mut batch.known),
        };
        mark_dirty(writes, std::mem::take(&mut batch.dirty));
        writes.insert(std::mem::take(&mut batch.stuck));
        let cursor =
            |position| cursor::ActiveModel { subscription: Set(self.name.to_owned()), position: Set(position) };
        writes.upsert(position.map(cursor).into_iter().collect::<Vec<_>>());
        applied.known.position = position.or(applied.known.position);
        batch.quarantined.iter().for_each(|record| applied.known.forget(*record));
        applied.known.keep(batch.stands());
        applied
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
        *self.remembered() = Remembered::default();
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
        let mut batch = self.begin(&tx, &deliveries, Remembered::default()).await?;
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

fn seconds(at: prost_types::Timestamp) -> f64 {
    at.seconds as f64 + f64::from(at.nanos) / 1e9
}
