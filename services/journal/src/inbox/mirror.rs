//! Mirrors: what a service stores of another service's records, folded from their changes.
//!
//! The version of a mirror says which changes have been applied, so that a change takes effect once however often it is delivered.

use crate::{
    inbox::mirror_cache::ErasedMirrorState,
    journal::Journal,
    limits::LOOKUP_BATCH_MAX,
    record::{
        erased::stamp,
        view::{ErasedView, RowCollector},
    },
    store::{
        error::{JournalError, StoreError},
        loader::Keyed,
        tables::mirror,
    },
};
use hansa_kernel::{FoldError, RecordId, Reference};
use hansa_proto::{ChangeSet, types::ChangeEnvelope};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};
use std::{any::Any, marker::PhantomData, sync::Arc};
use uuid::Uuid;

/// The stored state of a deleted record: empty, only the version remains.
pub(crate) const TOMBSTONE: &[u8] = &[];

/// A key of a work queue: the queue, and the key in it.
pub type QueueKey = (&'static str, Uuid);

/// Returns the keys that a change of a mirror invalidates: record, state before, state after. The state after is `None` if the
/// record was deleted. The subscription enqueues the keys in the transaction of the mirror.
pub type Invalidates<S> = fn(RecordId, Option<&S>, Option<&S>) -> Vec<QueueKey>;

/// A mirror without its type.
pub(crate) trait ErasedMirror: Send + Sync {
    fn collection(&self) -> &'static str;
    fn revision(&self) -> i32;
    fn decode(&self, revision: i32, state: &[u8]) -> Option<ErasedMirrorState>;
    fn encode(&self, state: &(dyn Any + Send + Sync)) -> Vec<u8>;
    /// Folds a change. Returns `None` if its type is unknown and not critical, so that the mirror may skip it.
    fn fold(
        &self,
        before: Option<&(dyn Any + Send + Sync)>,
        envelope: &ChangeEnvelope,
    ) -> Result<Option<ErasedMirrorState>, FoldError>;
    fn invalidates(
        &self,
        record: RecordId,
        before: Option<&(dyn Any + Send + Sync)>,
        after: Option<&(dyn Any + Send + Sync)>,
    ) -> Vec<QueueKey>;
    fn collectors(&self) -> Vec<Box<dyn RowCollector>>;
    fn add_view(&mut self, view: Box<dyn ErasedView>);
}

/// The mirror of a [`Reference`] as an [`ErasedMirror`].
pub(crate) struct MirrorType<S> {
    invalidates: Option<Invalidates<S>>,
    views: Vec<Box<dyn ErasedView>>,
    state: PhantomData<fn() -> S>,
}

impl<S: Reference> MirrorType<S> {
    pub(crate) fn new(invalidates: Option<Invalidates<S>>) -> Self {
        Self { invalidates, views: Vec::new(), state: PhantomData }
    }
}

fn typed<S: Reference>(state: &(dyn Any + Send + Sync)) -> &S {
    state.downcast_ref::<S>().expect("the collection determines the type of a mirror")
}

impl<S: Reference> ErasedMirror for MirrorType<S> {
    fn collection(&self) -> &'static str {
        S::COLLECTION
    }

    fn revision(&self) -> i32 {
        S::REVISION.cast_signed()
    }

    fn decode(&self, revision: i32, state: &[u8]) -> Option<ErasedMirrorState> {
        if revision != self.revision() {
            return None;
        }
        postcard::from_bytes::<S>(state).ok().map(|state| Arc::new(state) as _)
    }

    fn encode(&self, state: &(dyn Any + Send + Sync)) -> Vec<u8> {
        postcard::to_stdvec(typed::<S>(state)).expect("a mirror is plain data")
    }

    fn fold(
        &self,
        before: Option<&(dyn Any + Send + Sync)>,
        envelope: &ChangeEnvelope,
    ) -> Result<Option<ErasedMirrorState>, FoldError> {
        let change = S::Change::decode(&envelope.payload_type, &envelope.payload)
            .map_err(|error| FoldError(format!("the payload cannot be decoded: {error}")))?;
        let Some(change) = change else {
            return if envelope.critical {
                Err(FoldError(format!("the change type {} is unknown", envelope.payload_type)))
            } else {
                Ok(None)
            };
        };
        let before = before.map(|state| typed::<S>(state).clone());
        S::fold(before, &change, &stamp(envelope)).map(|state| Some(Arc::new(state) as _))
    }

    fn invalidates(
        &self,
        record: RecordId,
        before: Option<&(dyn Any + Send + Sync)>,
        after: Option<&(dyn Any + Send + Sync)>,
    ) -> Vec<QueueKey> {
        let (before, after) = (before.map(|state| typed::<S>(state)), after.map(|state| typed::<S>(state)));
        self.invalidates.map(|invalidates| invalidates(record, before, after)).unwrap_or_default()
    }

    fn collectors(&self) -> Vec<Box<dyn RowCollector>> {
        self.views.iter().map(|view| view.collector()).collect()
    }

    fn add_view(&mut self, view: Box<dyn ErasedView>) {
        self.views.push(view);
    }
}

/// What the database contains of a record before changes are applied to it: mirror, quarantine, and fencing token.
#[derive(FromQueryResult)]
pub(crate) struct RowState {
    pub collection: String,
    pub record: Uuid,
    pub version: Option<i64>,
    pub revision: Option<i32>,
    pub state: Option<Vec<u8>>,
    /// The version that put the record into quarantine.
    pub quarantined: Option<i64>,
    /// The fencing token of the subscription; the same in all rows.
    pub fence: Option<i64>,
}

/// Reads mirrors, quarantine and the fencing token of a subscription by one statement.
pub(crate) async fn read(
    db: &impl ConnectionTrait,
    (subscription, fence): (&str, &str),
    records: &[(&'static str, Uuid)],
) -> Result<Vec<RowState>, StoreError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let engine = db.get_database_backend();
    let (given, mut values, names): (String, Vec<Value>, [&str; 2]) = if engine == DbBackend::Postgres {
        let (collections, ids): (Vec<String>, Vec<Uuid>) =
            records.iter().map(|(collection, id)| ((*collection).to_owned(), *id)).unzip();
        let given = "SELECT * FROM UNNEST($1, $2) AS given(collection, record)".to_owned();
        (given, vec![collections.into(), ids.into()], ["$3", "$4"])
    } else {
        let values = records.iter().flat_map(|(collection, id)| [Value::from(*collection), (*id).into()]);
        let rows = vec!["(?, ?)"; records.len()].join(", ");
        let given = format!("SELECT column1 AS collection, column2 AS record FROM (VALUES {rows})");
        (given, values.collect(), ["?", "?"])
    };
    values.extend([subscription.into(), fence.into()]);
    let [subscription, fence] = names;
    let mirrors = lateral_join(engine, "mirrors", "collection", "given.collection");
    let quarantine = lateral_join(engine, "quarantine", "subscription", subscription);
    let sql = format!(
        "SELECT given.collection, given.record, mirrors.version, mirrors.revision, mirrors.state, \
         quarantine.version AS quarantined, cursors.position AS fence FROM ({given}) AS given \
         {mirrors} {quarantine} LEFT JOIN cursors ON cursors.subscription = {fence}"
    );
    RowState::find_by_statement(Statement::from_sql_and_values(engine, sql, values)).all(db).await
}

/// Builds the join with the one row of `table` for the given record. On PostgreSQL a lateral join keeps the plan from joining whole
/// tables: the statement may be planned while they are empty, and the plan is reused when they are large.
fn lateral_join(engine: DbBackend, table: &str, column: &str, value: &str) -> String {
    let condition = format!("{table}.{column} = {value} AND {table}.record = given.record");
    match engine {
        DbBackend::Postgres => {
            format!("LEFT JOIN LATERAL (SELECT * FROM {table} WHERE {condition} LIMIT 1) AS {table} ON TRUE")
        }
        _ => format!("LEFT JOIN {table} ON {condition}"),
    }
}

/// Reads the mirrors of one [`Reference`] type.
#[derive(Debug)]
pub struct Mirrors<S> {
    journal: Journal,
    state: PhantomData<fn() -> S>,
}

impl<S> Clone for Mirrors<S> {
    fn clone(&self) -> Self {
        Self { journal: self.journal.clone(), state: PhantomData }
    }
}

impl<S: Reference> Mirrors<S> {
    /// Creates a reader of the mirrors in a service's database.
    #[must_use]
    pub fn new(journal: &Journal) -> Self {
        Self { journal: journal.clone(), state: PhantomData }
    }

    /// Reads some mirrors, without records that are unknown or were deleted.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn get_each(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Arc<S>)>, JournalError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|id| (S::COLLECTION, *id));
        let rows = if ids.len() <= LOOKUP_BATCH_MAX {
            self.journal.core.mirror_loader.get_each(keys).await?
        } else {
            mirror::Model::read(self.journal.store(), keys.collect()).await?.into_values().collect()
        };
        Ok(rows
            .into_iter()
            .filter(|row| row.revision == S::REVISION.cast_signed() && row.state != TOMBSTONE)
            .filter_map(|row| postcard::from_bytes(&row.state).ok().map(|state| (row.record, Arc::new(state))))
            .collect())
    }

    /// Reads one mirror; `None` if the record is unknown or was deleted.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn get(&self, id: RecordId) -> Result<Option<Arc<S>>, JournalError> {
        Ok(self.get_each(&[id.0]).await?.into_iter().next().map(|(_, state)| state))
    }
}
