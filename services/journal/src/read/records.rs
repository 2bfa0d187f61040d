//! Reads records and their histories.

use crate::{
    core::CachedRecord,
    journal::Journal,
    limits::{LOOKUP_BATCH_MAX, PAGE_DEFAULT, PAGE_MAX},
    record::erased::{deleted_at, rebuild_generation, shared, times},
    store::{
        Backend,
        error::JournalError,
        loader::Keyed,
        tables::{change, record},
    },
};
use chrono::{DateTime, Utc};
use hansa_kernel::{
    Disclosed, ReasonClass, Record, RecordId, RecordName, Refusal, Refused, Relation, TenantId, envelope,
};
use hansa_proto::types::{ChangeEnvelope, SignedChange};
use prost::Message;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// A record at one version.
#[derive(Clone, Debug)]
pub struct Loaded<R> {
    /// Its name.
    pub name: RecordName,
    /// Its state.
    pub state: Arc<R>,
    /// Its version.
    pub version: u64,
    /// Its etag.
    pub etag: String,
    /// When it was created, and when it last changed.
    pub times: (DateTime<Utc>, DateTime<Utc>),
    /// When it was deleted; `state` is then the last state before that (PL-8).
    pub deleted_at: Option<DateTime<Utc>>,
}

/// A stored change, with its canonical bytes.
#[derive(Clone, Debug)]
pub struct PastChange {
    /// The signed bytes.
    pub signed: SignedChange,
    /// The decoded envelope.
    pub envelope: ChangeEnvelope,
    /// When it was stored, in microseconds since 1970.
    pub received_at: i64,
}

impl PastChange {
    /// Returns the hash of the change in lower-case hex: the etag of the record at this version.
    #[must_use]
    pub fn etag(&self) -> String {
        hex::encode(envelope::hash(&self.signed.envelope))
    }

    pub(crate) fn from_row(row: change::Model) -> Refused<Self> {
        let broken = |error: prost::DecodeError| {
            tracing::error!(record = %row.record, version = row.version, %error, "a stored change cannot be decoded");
            Refusal::because(
                ReasonClass::Internal,
                "PL-3",
                "INTERNAL",
                "internal error: a stored change cannot be decoded",
            )
        };
        let envelope = ChangeEnvelope::decode(row.envelope.as_slice()).map_err(broken)?;
        let signatures = SignedChange::decode(row.signatures.as_slice()).map_err(broken)?.signatures;
        Ok(Self { signed: SignedChange { envelope: row.envelope, signatures }, envelope, received_at: row.received_at })
    }
}

/// Returns a page size within the limits; 0 stands for the default.
pub(crate) fn page_size(requested: u64) -> u64 {
    if requested == 0 { PAGE_DEFAULT } else { requested.min(PAGE_MAX) }
}

impl Journal {
    /// Reads the present state of a record; `None` if it does not exist or was deleted.
    ///
    /// # Errors
    /// `FROZEN` if the record cannot be folded; `UNAVAILABLE` if the database is unavailable.
    pub async fn load<R: Record>(&self, name: &RecordName) -> Result<Option<Loaded<R>>, JournalError> {
        Ok(self.load_or_tombstone(name).await?.filter(|loaded| loaded.deleted_at.is_none()))
    }

    /// Like `load`, but also returns a deleted record, for callers who could see it.
    ///
    /// # Errors
    /// As `load`.
    pub async fn load_or_tombstone<R: Record>(&self, name: &RecordName) -> Result<Option<Loaded<R>>, JournalError> {
        Ok(self.core.load(name).await?.map(|cached| loaded(&cached)))
    }

    /// Returns a record from the cache if this process wrote a version newer than `version`. It does not read the database, and
    /// does not see what other replicas wrote.
    #[must_use]
    pub fn written_since<R: Record>(&self, name: &RecordName, version: u64) -> Option<Loaded<R>> {
        let cached = self.core.cache.get(&name.id.0)?;
        let is_newer = cached.name == *name && cached.version > version;
        is_newer.then(|| loaded(&cached)).filter(|loaded| loaded.deleted_at.is_none())
    }

    /// Reads the present states of many records, in the order of the ids, without those that do not exist or were deleted.
    ///
    /// # Errors
    /// As `load`.
    pub async fn load_each<R: Record>(&self, ids: &[Uuid]) -> Result<Vec<Loaded<R>>, JournalError> {
        let record = &self.core.records[R::COLLECTION];
        let cache_is_current = self.store().backend() == Backend::Sqlite;
        let mut found: HashMap<Uuid, Loaded<R>> = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.core.cache.get(id).filter(|_| cache_is_current) {
                Some(cached) => drop(found.insert(*id, loaded(&cached))),
                None => missing.push(*id),
            }
        }
        let rows = if missing.len() <= LOOKUP_BATCH_MAX {
            self.core.record_loader.get_each(missing).await?
        } else {
            record::Model::read(self.store(), missing).await?.into_values().collect()
        };
        for row in rows {
            let name = RecordName::parse_any(&row.name, "name")?;
            let cached = match record.decode(row.revision, &row.state) {
                Some(state) => Some(Arc::new(CachedRecord {
                    name,
                    version: row.version.cast_unsigned(),
                    head: row.head,
                    state,
                    rebuild_generation: rebuild_generation(row.revision),
                })),
                None => self.core.load(&name).await?,
            };
            found.extend(cached.map(|cached| (row.record, loaded(&cached))));
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).filter(|loaded| loaded.deleted_at.is_none()).collect())
    }

    /// Reads a record as it was at a version; `None` if it did not exist.
    ///
    /// # Errors
    /// As `load`.
    pub async fn load_at<R: Record>(&self, name: &RecordName, version: u64) -> Result<Option<Loaded<R>>, JournalError> {
        Ok(self.core.load_at(name, version).await?.map(|cached| loaded(&cached)))
    }

    /// Reads a page of a record's history: the changes after a version, oldest first. A page size of 0 stands for
    /// `PAGE_DEFAULT`; it is capped at `PAGE_MAX`.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn history(&self, record: RecordId, after: u64, size: u64) -> Result<Vec<PastChange>, JournalError> {
        let rows = change::Entity::find()
            .filter(change::Column::Record.eq(record.0))
            .filter(change::Column::Version.gt(after.cast_signed()))
            .order_by_asc(change::Column::Version)
            .limit(page_size(size))
            .all(self.store().reader())
            .await?;
        Ok(rows.into_iter().map(PastChange::from_row).collect::<Refused<_>>()?)
    }

    /// Returns a tenant's relation to a record of any type; `None` if the record does not exist.
    ///
    /// # Errors
    /// As `load`.
    pub async fn relation(&self, name: &RecordName, tenant: TenantId) -> Result<Option<Relation>, JournalError> {
        let Some(cached) = self.core.load(name).await? else { return Ok(None) };
        let record = &self.core.records[name.collection()];
        Ok(Some(record.audience(&cached.state).relation(record.owner(&cached.state), tenant)))
    }

    /// Returns what of a change is disclosed to callers whose relation to the record is `Public`.
    #[must_use]
    pub fn disclosed(&self, collection: &str, type_name: &str, payload: &[u8]) -> Disclosed<Vec<u8>> {
        let record = self.core.records.get(collection);
        record.map_or(Disclosed::Hidden, |record| record.disclosed(type_name, payload))
    }
}

fn loaded<R: Record>(cached: &CachedRecord) -> Loaded<R> {
    Loaded {
        name: cached.name.clone(),
        state: shared::<R>(&cached.state),
        version: cached.version,
        etag: hex::encode(&cached.head),
        times: times::<R>(&cached.state),
        deleted_at: deleted_at::<R>(&cached.state),
    }
}

/// The result of a health check of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// All records.
    pub records: u64,
    /// Records that take no more commands.
    pub frozen: u64,
    /// Records whose timer has been due for more than an hour.
    pub overdue: u64,
}

impl Journal {
    /// Counts the records.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn count(&self) -> Result<u64, JournalError> {
        Ok(record::Entity::find().count(self.store().reader()).await?)
    }

    /// Checks the health of the journal.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn health(&self) -> Result<Health, JournalError> {
        let db = self.store().reader();
        let hour_ago = self.clock().now().timestamp_micros() - 3_600_000_000;
        Ok(Health {
            records: self.count().await?,
            frozen: record::Entity::find().filter(record::Column::Frozen.is_not_null()).count(db).await?,
            overdue: record::Entity::find().filter(record::Column::DueAt.lt(hour_ago)).count(db).await?,
        })
    }
}
