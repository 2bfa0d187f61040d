//! The state that all parts of an open journal share: store, keys, clock, record types, caches, and the channels to relay and
//! work queues.

use crate::{
    clock::Clock,
    crypto::node_key::NodeKeys,
    record::erased::{ErasedRecord, ErasedState, fold_changes, rebuild_generation},
    store::{
        Backend, Store,
        dirty_keys::PendingKeys,
        error::{JournalError, StoreError},
        loader::Loader,
        outbox_message::OutboxMessage,
        tables::{change, mirror, record},
    },
};
use hansa_kernel::{FoldError, ReasonClass, RecordName, Refusal, envelope};
use hansa_proto::types::ChangeEnvelope;
use moka::sync::Cache;
use prost::Message;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, atomic::AtomicI64},
};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// A record as the cache holds it.
pub(crate) struct CachedRecord {
    pub name: RecordName,
    pub version: u64,
    pub head: Vec<u8>,
    pub state: ErasedState,
    /// The rebuild generation of the row that the state was read from or written to.
    pub rebuild_generation: i32,
}

/// The shared state of one journal.
pub(crate) struct Core {
    pub service: &'static str,
    pub store: Store,
    pub node: NodeKeys,
    pub clock: Arc<dyn Clock>,
    /// The record types by collection.
    pub records: HashMap<&'static str, Arc<dyn ErasedRecord>>,
    /// States as this process wrote or locked them last. Only the writer fills it.
    pub cache: Cache<Uuid, Arc<CachedRecord>>,
    pub record_loader: Loader<record::Model>,
    pub mirror_loader: Loader<mirror::Model>,
    /// The next position of the feed. Used on SQLite only, where the writer assigns positions.
    pub next_position: AtomicI64,
    /// Hands committed changes to the relay, if there is one.
    pub outbox: OnceLock<mpsc::Sender<Vec<OutboxMessage>>>,
    /// Counts committed changes; readers of the feed wait for it to rise.
    pub committed: watch::Sender<i64>,
    pub pending: PendingKeys,
}

impl Core {
    /// Reads the present state of a record; `None` if there is none of this name.
    pub(crate) async fn load(&self, name: &RecordName) -> Result<Option<Arc<CachedRecord>>, JournalError> {
        let Some(record) = self.records.get(name.collection()) else { return Ok(None) };
        // On PostgreSQL another replica may have written since; on SQLite this process is the only writer.
        let is_current = self.store.backend() == Backend::Sqlite;
        if is_current && let Some(cached) = self.cache.get(&name.id.0) {
            return Ok((cached.name == *name).then_some(cached));
        }
        let row = self.record_loader.get(name.id.0).await?;
        let Some(row) = row.filter(|row| row.name == name.as_str()) else { return Ok(None) };
        let state = match record.decode(row.revision, &row.state) {
            Some(state) => state,
            None => self
                .refold(self.store.reader(), record.as_ref(), row.record)
                .await?
                .map_err(|error| unreadable(name, &error))?,
        };
        // A reader never fills the cache: it could overwrite a newer state that the writer has just put there.
        Ok(Some(Arc::new(CachedRecord {
            name: name.clone(),
            version: row.version.cast_unsigned(),
            head: row.head,
            state,
            rebuild_generation: rebuild_generation(row.revision),
        })))
    }

    /// Folds the state of a record as of a version from its changes; `None` if it has no change up to that version.
    pub(crate) async fn load_at(&self, name: &RecordName, version: u64) -> Result<Option<CachedRecord>, JournalError> {
        let record = &self.records[name.collection()];
        let rows = change::Entity::find()
            .filter(change::Column::Record.eq(name.id.0))
            .filter(change::Column::Version.lte(version.cast_signed()))
            .order_by_asc(change::Column::Version)
            .all(self.store.reader())
            .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let (version, head) = (last.version.cast_unsigned(), envelope::hash(&last.envelope).to_vec());
        // A stored receipt knows only the id; the envelope contains the full name.
        let name = ChangeEnvelope::decode(last.envelope.as_slice())
            .ok()
            .and_then(|envelope| RecordName::parse_any(&envelope.record, "record").ok())
            .unwrap_or_else(|| name.clone());
        let state = fold_changes(record.as_ref(), rows.iter().map(|row| row.envelope.as_slice()))
            .map_err(|error| unreadable(&name, &error))?;
        Ok(Some(CachedRecord { name, version, head, state, rebuild_generation: 0 }))
    }

    /// Folds a record from its first change, because its snapshot has another revision.
    pub(crate) async fn refold(
        &self,
        db: &impl ConnectionTrait,
        record: &dyn ErasedRecord,
        id: Uuid,
    ) -> Result<Result<ErasedState, FoldError>, StoreError> {
        let rows = change::Entity::find()
            .filter(change::Column::Record.eq(id))
            .order_by_asc(change::Column::Version)
            .all(db)
            .await?;
        Ok(fold_changes(record, rows.iter().map(|row| row.envelope.as_slice())))
    }
}

fn unreadable(name: &RecordName, error: &FoldError) -> Refusal {
    tracing::error!(record = %name, %error, "the changes of a record cannot be folded");
    Refusal::because(ReasonClass::Frozen, "PL-3", "RECORD_UNREADABLE", format!("{name} cannot be read"))
}
