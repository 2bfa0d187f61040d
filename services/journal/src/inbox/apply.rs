//! Applies deliveries to mirrors in one transaction: `load -> fold -> write`.

use crate::{
    inbox::{
        batch::{Applied, InboxBatch, LoadedMirror, MirrorTypes},
        mirror::{ErasedMirror, TOMBSTONE, read},
        mirror_cache::MirrorCache,
        source::{Delivery, Source},
    },
    journal::Journal,
    store::{
        Backend,
        batch::SqlBatch,
        error::{JournalError, StoreError},
        tables::dirty,
    },
    trace,
};
use hansa_kernel::{RecordName, envelope};
use hansa_proto::types::ChangeEnvelope;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, FromQueryResult, SqlErr, Statement, Value};
use std::collections::BTreeSet;
use tracing::Instrument;
use uuid::Uuid;

/// Takes the lock of a subscription for the transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || $1))";

/// Increments the fencing token, which fences replicas that write without the lock.
const ADVANCE_FENCE: &str = "INSERT INTO cursors (subscription, position) VALUES ($1, 1) \
    ON CONFLICT (subscription) DO UPDATE SET position = cursors.position + 1";

/// Applies deliveries for one subscription.
pub(crate) struct Applier<'a> {
    pub subscription: &'static str,
    pub journal: &'a Journal,
    pub types: &'a MirrorTypes,
}

impl Applier<'_> {
    /// Applies deliveries, if possible by the optimistic path.
    pub(crate) async fn apply(
        &self,
        source: &mut dyn Source,
        deliveries: &[Delivery],
        cache: MirrorCache,
    ) -> Result<Applied, JournalError> {
        match self.journal.store().backend() {
            // One process owns the file, so that its cache is current under lock as well.
            Backend::Sqlite => self.apply_locked(source, deliveries, cache).await,
            Backend::Postgres if source.by_position() => {
                self.apply_locked(source, deliveries, MirrorCache::default()).await
            }
            Backend::Postgres => match self.apply_optimistic(source, deliveries, cache).await? {
                Some(applied) => Ok(applied),
                None => self.apply_locked(source, deliveries, MirrorCache::default()).await,
            },
        }
    }

    /// Folds over cached or unlocked mirrors and writes by one statement, fenced by the subscription's token. Returns `None` if
    /// nothing was written and the locked path must apply the deliveries.
    async fn apply_optimistic(
        &self,
        source: &mut dyn Source,
        deliveries: &[Delivery],
        cache: MirrorCache,
    ) -> Result<Option<Applied>, JournalError> {
        let store = self.journal.store();
        let mut batch = self.load(store.reader(), deliveries, cache).await?;
        let Some(fence) = batch.cache.fence else { return Ok(None) };
        self.fold_all(source, &mut batch, deliveries).await?;
        let mut sql = SqlBatch::fenced(store.engine());
        let mut applied = batch.write(self.subscription, self.types, None, &mut sql);
        if sql.is_empty() {
            return Ok(Some(applied));
        }
        if !sql.is_single_statement() {
            return Ok(None);
        }
        applied.cache.fence = Some(fence + 1);
        match sql.run_fenced(store.writer(), &self.fence_cursor(), fence).await {
            Ok(Some(rows)) => {
                let keys = rows.iter().filter_map(|row| dirty::Model::from_query_result(row, "").ok()).collect();
                Ok(Some(Applied { keys, ..applied }))
            }
            Ok(None) => Ok(None),
            // A view row exists that should not, for example because an operator emptied the table of mirrors.
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Applies deliveries in a transaction that excludes other replicas.
    async fn apply_locked(
        &self,
        source: &mut dyn Source,
        deliveries: &[Delivery],
        cache: MirrorCache,
    ) -> Result<Applied, JournalError> {
        let tx = self.journal.store().begin().await?;
        let applied = self.apply_in(&tx, source, deliveries, cache).await?;
        tx.commit().await?;
        Ok(applied)
    }

    /// Applies deliveries in a transaction of the caller, which must commit it.
    pub(crate) async fn apply_in(
        &self,
        tx: &DatabaseTransaction,
        source: &mut dyn Source,
        deliveries: &[Delivery],
        cache: MirrorCache,
    ) -> Result<Applied, JournalError> {
        self.lock(tx).await?;
        let mut batch = self.load(tx, deliveries, cache).await?;
        batch.is_locked = true;
        self.fold_all(source, &mut batch, deliveries).await?;
        let position = deliveries.iter().map(|d| d.position).max().filter(|position| *position > 0);
        let mut sql = SqlBatch::new(tx.get_database_backend());
        let applied = batch.write(self.subscription, self.types, position.filter(|_| source.by_position()), &mut sql);
        sql.run(tx).await?;
        Ok(applied)
    }

    /// Returns the name of the cursor that holds the fencing token.
    fn fence_cursor(&self) -> String {
        format!("{}/turn", self.subscription)
    }

    /// Excludes other replicas: two that fold one record at the same time would lose one of the changes.
    async fn lock(&self, tx: &DatabaseTransaction) -> Result<(), StoreError> {
        if self.journal.store().backend() == Backend::Postgres {
            let statement = |sql, value| Statement::from_sql_and_values(DbBackend::Postgres, sql, [Value::from(value)]);
            tx.execute_raw(statement(LOCK, format!(".{}", self.subscription))).await?;
            tx.execute_raw(statement(ADVANCE_FENCE, self.fence_cursor())).await?;
        }
        Ok(())
    }

    /// Loads the mirrors that the deliveries are about, from the cache if it is valid.
    async fn load(
        &self,
        db: &impl ConnectionTrait,
        deliveries: &[Delivery],
        cache: MirrorCache,
    ) -> Result<InboxBatch, StoreError> {
        let mut wanted: BTreeSet<(&'static str, Uuid)> = BTreeSet::new();
        for delivery in deliveries {
            if let Some((mirror, name)) = self.mirror_of(&delivery.envelope) {
                wanted.insert((mirror.collection(), name.id.0));
            }
        }
        let mut batch = InboxBatch::default();
        batch.cache = cache;
        let missing = Vec::from_iter(wanted.iter().filter(|(_, id)| batch.cache.get(*id).is_none()).copied());
        let fence_cursor = self.fence_cursor();
        let read = async |records: &[_]| read(db, (self.subscription, &fence_cursor), records).await;
        let mut rows = read(&missing).await?;
        if rows.first().is_some_and(|row| batch.cache.fence.is_some() && row.fence != batch.cache.fence) {
            // Another replica has written since; the cache may be out of date.
            batch.cache = MirrorCache::default();
            rows = read(&Vec::from_iter(wanted.iter().copied())).await?;
        }
        for (id, cached) in wanted.iter().filter_map(|(_, id)| Some((*id, batch.cache.get(*id)?))) {
            batch.mirrors.insert(id, LoadedMirror::from_cache(cached));
        }
        for row in rows {
            batch.cache.fence = row.fence;
            if row.quarantined.is_some() {
                batch.quarantined.insert(row.record);
            }
            let Some(mirror) = self.types.get(row.collection.as_str()) else { continue };
            if let (Some(version), Some(revision), Some(bytes)) = (row.version, row.revision, row.state) {
                let is_deleted = revision == mirror.revision() && bytes == TOMBSTONE;
                let state = if is_deleted { None } else { mirror.decode(revision, &bytes) };
                // A mirror of another revision counts as version 0, so that it is folded again from the first change.
                let version = if is_deleted || state.is_some() { version.cast_unsigned() } else { 0 };
                let loaded = LoadedMirror { state, is_stored: true, version, is_deleted, ..LoadedMirror::default() };
                batch.mirrors.insert(row.record, loaded);
            }
        }
        Ok(batch)
    }

    async fn fold_all(
        &self,
        source: &mut dyn Source,
        batch: &mut InboxBatch,
        deliveries: &[Delivery],
    ) -> Result<(), JournalError> {
        for delivery in deliveries {
            batch.trace.clone_from(&delivery.trace);
            let span =
                tracing::info_span!("apply", subscription = self.subscription, record = %delivery.envelope.record);
            trace::follow(&span, delivery.trace.as_deref());
            self.fold_one(source, batch, &delivery.envelope).instrument(span).await?;
        }
        Ok(())
    }

    /// Folds one change. Skips it if its version has been applied; fetches missing versions from the owner first.
    async fn fold_one(
        &self,
        source: &mut dyn Source,
        batch: &mut InboxBatch,
        envelope: &ChangeEnvelope,
    ) -> Result<(), JournalError> {
        let Some((mirror, name)) = self.mirror_of(envelope) else { return Ok(()) };
        let version = envelope::version(envelope);
        let (applied, now) = (batch.version(name.id.0), self.journal.clock().now());
        if batch.quarantined.contains(&name.id.0) || version <= applied {
            return Ok(());
        }
        if version == applied + 1 {
            batch.fold(self.subscription, mirror, &name, envelope, now);
            return Ok(());
        }
        for missing in source.history(&name, applied).await? {
            if envelope::version(&missing) <= version && !batch.quarantined.contains(&name.id.0) {
                batch.fold(self.subscription, mirror, &name, &missing, now);
            }
        }
        Ok(())
    }

    /// Returns the mirror and the record of a change; `None` if the subscription does not mirror the collection.
    pub(crate) fn mirror_of(&self, envelope: &ChangeEnvelope) -> Option<(&dyn ErasedMirror, RecordName)> {
        let name = RecordName::parse_any(&envelope.record, "record").ok()?;
        self.types.get(name.collection()).map(|mirror| (mirror.as_ref(), name))
    }
}
