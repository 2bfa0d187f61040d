//! Reading records and their histories.

use crate::{
    journal::{Inner, Journal, Known},
    kind::{AnyKind, AnyState, deleted_at, mended, shared},
    limits::{LOOKUP_FEW, PAGE_DEFAULT, PAGE_MOST},
    lookup::Keyed,
    store::{Backend, StoreError, storage},
    tables::{change, record},
};
use chrono::{DateTime, Utc};
use hansa_kernel::{Disclosed, Misfit, Record, RecordId, RecordName, Refusal, Relation, TenantId};
use hansa_proto::types::{ChangeEnvelope, SignedChange};
use prost::Message;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// A record as it is.
#[derive(Clone, Debug)]
pub struct Loaded<R> {
    /// Its name.
    pub name: RecordName,
    /// Its state.
    pub state: Arc<R>,
    /// Its version.
    pub version: u64,
    /// Its head.
    pub etag: String,
    /// When it was deleted; its state is then what stood before (PL-8).
    pub deleted_at: Option<DateTime<Utc>>,
}

/// A change of the past, with its canonical bytes.
#[derive(Clone, Debug)]
pub struct PastChange {
    /// What was signed.
    pub signed: SignedChange,
    /// The same, decoded.
    pub envelope: ChangeEnvelope,
    /// When it was stored, in microseconds since 1970.
    pub received_at: i64,
}

impl PastChange {
    pub(crate) fn read(row: change::Model) -> Result<Self, Refusal> {
        let broken = |error: prost::DecodeError| {
            tracing::error!(record = %row.record, version = row.version, %error, "a stored change cannot be read");
            Refusal::because(hansa_kernel::Reason::Internal, "PL-3", "a stored change cannot be read")
        };
        let envelope = ChangeEnvelope::decode(row.envelope.as_slice()).map_err(broken)?;
        let signatures = SignedChange::decode(row.signatures.as_slice()).map_err(broken)?.signatures;
        Ok(Self { signed: SignedChange { envelope: row.envelope, signatures }, envelope, received_at: row.received_at })
    }
}

/// A page size within the limits.
pub(crate) fn page(asked: u64) -> u64 {
    if asked == 0 { PAGE_DEFAULT } else { asked.min(PAGE_MOST) }
}

impl Inner {
    /// Folds a record from its first change on: its snapshot is of another revision.
    pub(crate) async fn fold_again(
        &self,
        db: &impl ConnectionTrait,
        kind: &dyn AnyKind,
        record: Uuid,
    ) -> Result<Result<AnyState, Misfit>, StoreError> {
        let rows = change::Entity::find()
            .filter(change::Column::Record.eq(record))
            .order_by_asc(change::Column::Version)
            .all(db)
            .await?;
        Ok(fold_rows(kind, rows))
    }

    pub(crate) async fn known(&self, name: &RecordName) -> Result<Option<Arc<Known>>, Refusal> {
        let Some(kind) = self.kinds.get(name.collection()) else { return Ok(None) };
        let alone = self.store.backend() == Backend::Sqlite;
        if alone && let Some(known) = self.cache.get(&name.id.0) {
            return Ok((known.name == *name).then_some(known));
        }
        let row = self.lookup.get(name.id.0).await?;
        let Some(row) = row.filter(|row| row.name == name.as_str()) else { return Ok(None) };
        let state = match kind.decode(row.revision, &row.state) {
            Some(state) => state,
            None => self
                .fold_again(self.store.reader(), kind.as_ref(), row.record)
                .await
                .map_err(|e| storage(&e))?
                .map_err(|misfit| {
                    tracing::error!(record = %name, %misfit, "a record cannot be folded");
                    Refusal::because(hansa_kernel::Reason::Frozen, "PL-3", format!("{name} cannot be read"))
                })?,
        };
        // A reader never fills the cache: it could overwrite what the writer has just put there.
        let (name, version, mended) = (name.clone(), row.version.cast_unsigned(), mended(row.revision));
        Ok(Some(Arc::new(Known { name, version, head: row.head, state, mended })))
    }
}

fn fold_rows(kind: &dyn AnyKind, rows: Vec<change::Model>) -> Result<AnyState, Misfit> {
    fold_changes(kind, rows.iter().map(|row| row.envelope.as_slice()))
}

/// Folds a record's changes from the first on.
pub(crate) fn fold_changes<'a>(
    kind: &dyn AnyKind,
    envelopes: impl Iterator<Item = &'a [u8]>,
) -> Result<AnyState, Misfit> {
    let mut state: Option<AnyState> = None;
    for envelope in envelopes {
        let envelope = ChangeEnvelope::decode(envelope).map_err(|e| Misfit(format!("unreadable change: {e}")))?;
        state = Some(kind.fold(state.as_ref(), &envelope)?);
    }
    state.ok_or_else(|| Misfit("it has no changes".into()))
}

impl Journal {
    /// A record as it is now; `None` where there is none, or no more.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn load<R: Record>(&self, name: &RecordName) -> Result<Option<Loaded<R>>, Refusal> {
        Ok(self.load_or_tombstone(name).await?.filter(|loaded| loaded.deleted_at.is_none()))
    }

    /// The same, also where it was deleted: who could see the record is told so.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn load_or_tombstone<R: Record>(&self, name: &RecordName) -> Result<Option<Loaded<R>>, Refusal> {
        Ok(self.inner.known(name).await?.map(|known| loaded(&known)))
    }

    /// A record as this process wrote it last, where that is newer than a version. What other replicas wrote is not known
    /// so; no database is asked.
    #[must_use]
    pub fn written_since<R: Record>(&self, name: &RecordName, version: u64) -> Option<Loaded<R>> {
        let known = self.inner.cache.get(&name.id.0)?;
        let newer = known.name == *name && known.version > version;
        newer.then(|| loaded(&known)).filter(|loaded| loaded.deleted_at.is_none())
    }

    /// Many records as they are now, in the order of the ids; those that are not there, or no more, are left out.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn load_each<R: Record>(&self, ids: &[Uuid]) -> Result<Vec<Loaded<R>>, Refusal> {
        let kind = &self.inner.kinds[R::COLLECTION];
        let alone = self.inner.store.backend() == Backend::Sqlite;
        let mut found: HashMap<Uuid, Loaded<R>> = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.inner.cache.get(id).filter(|_| alone) {
                Some(known) => drop(found.insert(*id, loaded(&known))),
                None => missing.push(*id),
            }
        }
        let rows = if missing.len() <= LOOKUP_FEW {
            self.inner.lookup.get_each(missing).await?
        } else {
            let rows = record::Model::read(&self.inner.store, missing).await.map_err(|e| storage(&e))?;
            rows.into_values().collect()
        };
        for row in rows {
            let name = RecordName::parse_any(&row.name, "name")?;
            let (version, mended) = (row.version.cast_unsigned(), mended(row.revision));
            let known = match kind.decode(row.revision, &row.state) {
                Some(state) => Some(Arc::new(Known { name, version, head: row.head, state, mended })),
                None => self.inner.known(&name).await?,
            };
            found.extend(known.map(|known| (row.record, loaded(&known))));
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).filter(|loaded| loaded.deleted_at.is_none()).collect())
    }

    /// A record as it was at a version.
    ///
    /// # Errors
    /// Where the database is away, or the history cannot be folded.
    pub async fn load_at<R: Record>(&self, name: &RecordName, version: u64) -> Result<Option<Loaded<R>>, Refusal> {
        let kind = &self.inner.kinds[R::COLLECTION];
        let rows = change::Entity::find()
            .filter(change::Column::Record.eq(name.id.0))
            .filter(change::Column::Version.lte(version.cast_signed()))
            .order_by_asc(change::Column::Version)
            .all(self.inner.store.reader())
            .await
            .map_err(|e| storage(&e))?;
        let Some(last) = rows.last() else { return Ok(None) };
        let (version, head) = (last.version.cast_unsigned(), hansa_kernel::envelope::hash(&last.envelope));
        // The full name stands in the envelope: a repeated request knows the id alone.
        let name = ChangeEnvelope::decode(last.envelope.as_slice())
            .ok()
            .and_then(|envelope| RecordName::parse_any(&envelope.record, "record").ok())
            .unwrap_or_else(|| name.clone());
        let state = fold_rows(kind.as_ref(), rows).map_err(|misfit| {
            tracing::error!(record = %name, %misfit, "a record cannot be folded");
            Refusal::because(hansa_kernel::Reason::Frozen, "PL-3", format!("{name} cannot be read"))
        })?;
        Ok(Some(loaded(&Known { name, version, head: head.to_vec(), state, mended: 0 })))
    }

    /// A page of a record's history, oldest first, after a version.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn history(&self, record: RecordId, after: u64, page_size: u64) -> Result<Vec<PastChange>, Refusal> {
        let rows = change::Entity::find()
            .filter(change::Column::Record.eq(record.0))
            .filter(change::Column::Version.gt(after.cast_signed()))
            .order_by_asc(change::Column::Version)
            .limit(page(page_size))
            .all(self.inner.store.reader())
            .await
            .map_err(|e| storage(&e))?;
        rows.into_iter().map(PastChange::read).collect()
    }

    /// How a tenant stands to a record, by the record's present owner and audience. `None` where there is no such record.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn standing(&self, name: &RecordName, tenant: TenantId) -> Result<Option<Relation>, Refusal> {
        let known = self.inner.known(name).await?;
        Ok(known.map(|known| {
            let kind = &self.inner.kinds[name.collection()];
            let audience = kind.audience(&known.state);
            if kind.owner(&known.state) == tenant {
                Relation::Owner
            } else if audience.tenants.binary_search(&tenant).is_ok() {
                Relation::Party
            } else if audience.public {
                Relation::Public
            } else {
                Relation::Stranger
            }
        }))
    }

    /// What of a change those see who read its record because it is public.
    #[must_use]
    pub fn disclosed(&self, collection: &str, type_name: &str, payload: &[u8]) -> Disclosed<Vec<u8>> {
        let kind = self.inner.kinds.get(collection);
        kind.map_or(Disclosed::Hidden, |kind| kind.disclosed(type_name, payload))
    }
}

fn loaded<R: Record>(known: &Known) -> Loaded<R> {
    Loaded {
        name: known.name.clone(),
        state: shared::<R>(&known.state),
        version: known.version,
        etag: hex::encode(&known.head),
        deleted_at: deleted_at::<R>(&known.state),
    }
}

/// What a look at a journal finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Records in all.
    pub records: u64,
    /// Records that take no more commands.
    pub frozen: u64,
    /// Records whose timer should have fired an hour ago.
    pub overdue: u64,
}

impl Journal {
    /// How many records there are.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn count(&self) -> Result<u64, Refusal> {
        record::Entity::find().count(self.inner.store.reader()).await.map_err(|e| storage(&e))
    }

    /// Looks whether the journal is well.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn health(&self) -> Result<Health, Refusal> {
        let db = self.inner.store.reader();
        let hour_ago = self.inner.clock.now().timestamp_micros() - 3_600_000_000;
        let frozen = record::Entity::find().filter(record::Column::Frozen.is_not_null()).count(db).await;
        let overdue = record::Entity::find().filter(record::Column::DueAt.lt(hour_ago)).count(db).await;
        Ok(Health {
            records: self.count().await?,
            frozen: frozen.map_err(|e| storage(&e))?,
            overdue: overdue.map_err(|e| storage(&e))?,
        })
    }
}
