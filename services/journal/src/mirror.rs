//! Mirrors: what a service keeps of another service's records, folded from their changes.
//!
//! A mirror's version is the mark of what was applied, so a change has effect once however often it is delivered.

use crate::{
    journal::Journal,
    limits::LOOKUP_FEW,
    lookup::Keyed,
    remembered::AnyMirrored,
    store::{StoreError, storage},
    tables::mirror,
    view::{AnyView, Collector, View, ViewOf},
};
use hansa_kernel::{Misfit, RecordId, Reference, Refusal};
use hansa_proto::{ChangeSet, types::ChangeEnvelope};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};
use std::{any::Any, marker::PhantomData, sync::Arc};
use uuid::Uuid;

/// The state that is kept of a deleted record: nothing but the mark.
pub(crate) const TOMBSTONE: &[u8] = &[];

/// How a service keeps the records of one foreign collection.
pub trait Mirror: Send + Sync + 'static {
    /// What is kept of one record.
    type State: Reference;

    /// What must be worked on again because of it: keys of a queue. `after` is `None` where the record was deleted.
    fn touches(
        record: RecordId,
        before: Option<&Self::State>,
        after: Option<&Self::State>,
    ) -> Vec<(&'static str, Uuid)> {
        let _ = (record, before, after);
        Vec::new()
    }
}

/// The change set of what a mirror follows.
type ChangeOf<M> = <<M as Mirror>::State as Reference>::Change;

/// A mirror without its type.
pub(crate) trait AnyMirror: Send + Sync {
    fn collection(&self) -> &'static str;
    fn revision(&self) -> i32;
    fn decode(&self, revision: i32, state: &[u8]) -> Option<AnyMirrored>;
    fn encode(&self, state: &(dyn Any + Send + Sync)) -> Vec<u8>;
    /// `None` where the change is of a type that this mirror does not know and may pass over.
    fn fold(
        &self,
        before: Option<&(dyn Any + Send + Sync)>,
        envelope: &ChangeEnvelope,
    ) -> Result<Option<AnyMirrored>, Misfit>;
    fn touches(
        &self,
        record: RecordId,
        before: Option<&(dyn Any + Send + Sync)>,
        after: Option<&(dyn Any + Send + Sync)>,
    ) -> Vec<(&'static str, Uuid)>;
    fn collectors(&self) -> Vec<Box<dyn Collector>>;
}

pub(crate) struct MirrorOf<M> {
    mirror: PhantomData<fn() -> M>,
    views: Vec<Box<dyn AnyView>>,
}

impl<M: Mirror> MirrorOf<M> {
    pub(crate) fn new() -> Self {
        Self { mirror: PhantomData, views: Vec::new() }
    }

    pub(crate) fn with<V: View<State = M::State>>(mut self) -> Self {
        self.views.push(Box::new(ViewOf::<V>(PhantomData)));
        self
    }
}

fn typed<M: Mirror>(state: &(dyn Any + Send + Sync)) -> &M::State {
    state.downcast_ref::<M::State>().expect("a collection decides the type of its mirror")
}

impl<M: Mirror> AnyMirror for MirrorOf<M> {
    fn collection(&self) -> &'static str {
        M::State::COLLECTION
    }

    fn revision(&self) -> i32 {
        M::State::REVISION.cast_signed()
    }

    fn decode(&self, revision: i32, state: &[u8]) -> Option<AnyMirrored> {
        if revision != self.revision() {
            return None;
        }
        postcard::from_bytes::<M::State>(state).ok().map(|state| Arc::new(state) as _)
    }

    fn encode(&self, state: &(dyn Any + Send + Sync)) -> Vec<u8> {
        postcard::to_stdvec(typed::<M>(state)).expect("a mirror is plain data")
    }

    fn fold(
        &self,
        before: Option<&(dyn Any + Send + Sync)>,
        envelope: &ChangeEnvelope,
    ) -> Result<Option<AnyMirrored>, Misfit> {
        let change = ChangeOf::<M>::decode(&envelope.r#type, &envelope.payload)
            .map_err(|error| Misfit(format!("its payload cannot be read: {error}")))?;
        let Some(change) = change else {
            return if envelope.critical {
                Err(Misfit(format!("its type {} is not known", envelope.r#type)))
            } else {
                Ok(None)
            };
        };
        let before = before.map(|state| typed::<M>(state).clone());
        M::State::fold(before, &change, &crate::kind::stamp(envelope)).map(|state| Some(Arc::new(state) as _))
    }

    fn touches(
        &self,
        record: RecordId,
        before: Option<&(dyn Any + Send + Sync)>,
        after: Option<&(dyn Any + Send + Sync)>,
    ) -> Vec<(&'static str, Uuid)> {
        M::touches(record, before.map(|state| typed::<M>(state)), after.map(|state| typed::<M>(state)))
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.views.iter().map(|view| view.collector()).collect()
    }
}

/// What is known of a record before changes are applied to it.
#[derive(FromQueryResult)]
pub(crate) struct Seen {
    pub collection: String,
    pub record: Uuid,
    pub version: Option<i64>,
    pub revision: Option<i32>,
    pub state: Option<Vec<u8>>,
    /// The version at which it went into quarantine.
    pub stuck: Option<i64>,
    /// Where the cursor of turns stands, which is the same for all.
    pub turn: Option<i64>,
}

/// Reads mirrors, quarantine and turn of a subscription by one statement.
pub(crate) async fn read(
    db: &impl ConnectionTrait,
    (subscription, turn): (&str, &str),
    records: &[(&'static str, Uuid)],
) -> Result<Vec<Seen>, StoreError> {
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
    values.extend([subscription.into(), turn.into()]);
    let [subscription, turn] = names;
    let mirrors = beside(engine, "mirrors", "given.collection");
    let quarantine = beside(engine, "quarantine", subscription);
    let sql = format!(
        "SELECT given.collection, given.record, mirrors.version, mirrors.revision, mirrors.state, \
         quarantine.version AS stuck, cursors.position AS turn FROM ({given}) AS given \
         {mirrors} {quarantine} LEFT JOIN cursors ON cursors.subscription = {turn}"
    );
    Seen::find_by_statement(Statement::from_sql_and_values(engine, sql, values)).all(db).await
}

/// Joins the one row of a table that a subscription has of the given record. PostgreSQL is kept from joining whole tables: it
/// plans this while they are empty, and would go on reading all of what has come into them since.
fn beside(engine: DbBackend, table: &str, subscription: &str) -> String {
    let its = format!("{table}.subscription = {subscription} AND {table}.record = given.record");
    match engine {
        DbBackend::Postgres => {
            format!("LEFT JOIN LATERAL (SELECT * FROM {table} WHERE {its} LIMIT 1) AS {table} ON TRUE")
        }
        _ => format!("LEFT JOIN {table} ON {its}"),
    }
}

/// Reads what a service keeps of another's records.
#[derive(Debug)]
pub struct Mirrors<M> {
    journal: Journal,
    mirror: PhantomData<fn() -> M>,
}

impl<M> Clone for Mirrors<M> {
    fn clone(&self) -> Self {
        Self { journal: self.journal.clone(), mirror: PhantomData }
    }
}

impl<M: Mirror> Mirrors<M> {
    /// The mirrors that a service keeps beside its journal.
    #[must_use]
    pub fn of(journal: &Journal) -> Self {
        Self { journal: journal.clone(), mirror: PhantomData }
    }

    /// What is kept of some records; those that are not known, or were deleted, are left out.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn get_each(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Arc<M::State>)>, Refusal> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|id| (M::State::COLLECTION, *id));
        let rows = if ids.len() <= LOOKUP_FEW {
            self.journal.inner.mirrored.get_each(keys).await?
        } else {
            let rows = mirror::Model::read(self.journal.store(), keys.collect()).await.map_err(|e| storage(&e))?;
            rows.into_values().collect()
        };
        Ok(rows
            .into_iter()
            .filter(|row| row.revision == M::State::REVISION.cast_signed() && row.state != TOMBSTONE)
            .filter_map(|row| postcard::from_bytes(&row.state).ok().map(|state| (row.record, Arc::new(state))))
            .collect())
    }

    /// What is kept of one record.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn get(&self, id: RecordId) -> Result<Option<Arc<M::State>>, Refusal> {
        Ok(self.get_each(&[id.0]).await?.into_iter().next().map(|(_, state)| state))
    }
}
