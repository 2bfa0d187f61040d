//! Batched reads by key: what is asked for at the same moment is read together by one statement.

use crate::{
    limits::{LOOKUP_RECORDS, LOOKUPS, QUEUED_COMMANDS},
    store::{
        Backend, Store,
        batch::is_any_of,
        error::{JournalError, StoreError, unavailable_store},
        tables::{mirror, record},
    },
};
use async_trait::async_trait;
use futures::future::try_join_all;
use hansa_kernel::{ReasonClass, Refusal};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, Statement};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

/// A row that can be read by its key.
#[async_trait]
pub(crate) trait Keyed: Clone + Send + Sync + 'static {
    type Key: Copy + Eq + Hash + Send + Sync + 'static;

    /// Reads the rows of some keys by one statement.
    async fn read(store: &Store, keys: Vec<Self::Key>) -> Result<HashMap<Self::Key, Self>, StoreError>;
}

/// PostgreSQL assumes ten elements in an array parameter. It plans each shorter array anew, which takes longer than the read, so
/// shorter arrays are padded with nil keys.
const PLANNED_KEYS: usize = 10;

#[async_trait]
impl Keyed for record::Model {
    type Key = Uuid;

    async fn read(store: &Store, mut keys: Vec<Uuid>) -> Result<HashMap<Uuid, Self>, StoreError> {
        if store.backend() == Backend::Postgres && keys.len() > 1 {
            keys.resize(keys.len().max(PLANNED_KEYS), Uuid::nil());
        }
        let query = record::Entity::find().filter(is_any_of(store.engine(), record::Column::Record, keys));
        Ok(query.all(store.reader()).await?.into_iter().map(|row| (row.record, row)).collect())
    }
}

/// Reads mirrors of several collections. The lateral join makes PostgreSQL use the index, even if it planned the statement while
/// the table was empty.
const MIRRORS: &str = "
    SELECT mirrors.* FROM UNNEST($1, $2) AS given(collection, record) CROSS JOIN LATERAL (
        SELECT * FROM mirrors WHERE mirrors.collection = given.collection AND mirrors.record = given.record LIMIT 1
    ) AS mirrors";

#[async_trait]
impl Keyed for mirror::Model {
    /// Collection and record.
    type Key = (&'static str, Uuid);

    async fn read(store: &Store, keys: Vec<Self::Key>) -> Result<HashMap<Self::Key, Self>, StoreError> {
        if store.backend() == Backend::Postgres {
            let (mut collections, mut ids): (Vec<&'static str>, Vec<Uuid>) = keys.into_iter().unzip();
            let known = BTreeSet::from_iter(collections.iter().copied());
            collections.resize(collections.len().max(PLANNED_KEYS), "");
            ids.resize(collections.len(), Uuid::nil());
            let collections = Vec::from_iter(collections.into_iter().map(str::to_owned));
            let find = Statement::from_sql_and_values(store.engine(), MIRRORS, [collections.into(), ids.into()]);
            let rows = Self::find_by_statement(find).all(store.reader()).await?;
            let key = |row: &Self| Some((*known.get(row.collection.as_str())?, row.record));
            return Ok(rows.into_iter().filter_map(|row| Some((key(&row)?, row))).collect());
        }
        let mut of: BTreeMap<&'static str, Vec<Uuid>> = BTreeMap::new();
        keys.into_iter().for_each(|(collection, id)| of.entry(collection).or_default().push(id));
        let read = |(collection, ids)| async move {
            let query = mirror::Entity::find().filter(mirror::Column::Collection.eq(collection));
            let rows = query.filter(is_any_of(store.engine(), mirror::Column::Record, ids)).all(store.reader()).await?;
            Ok::<_, StoreError>(rows.into_iter().map(move |row| ((collection, row.record), row)))
        };
        Ok(try_join_all(of.into_iter().map(read)).await?.into_iter().flatten().collect())
    }
}

type Reply<R> = oneshot::Sender<Result<Option<R>, Refusal>>;
type Query<R> = (<R as Keyed>::Key, Reply<R>);

/// A handle on the reader tasks, which end when it is dropped.
pub(crate) struct Loader<R: Keyed>(mpsc::Sender<Query<R>>);

impl<R: Keyed> Loader<R> {
    /// Starts `LOOKUPS` reader tasks on the current runtime.
    pub(crate) fn start(store: &Store) -> Self {
        let (sender, queries) = mpsc::channel(QUEUED_COMMANDS);
        let queries = Arc::new(Mutex::new(queries));
        for _ in 0..LOOKUPS {
            tokio::spawn(run::<R>(store.clone(), queries.clone()));
        }
        Self(sender)
    }

    /// Reads the row of a key.
    pub(crate) async fn get(&self, key: R::Key) -> Result<Option<R>, JournalError> {
        let (reply, wait) = oneshot::channel();
        let draining = || Refusal::because(ReasonClass::Unavailable, "PL-4", "DRAINING", "the service is draining");
        self.0.send((key, reply)).await.map_err(|_| draining())?;
        Ok(wait.await.map_err(|_| draining())??)
    }

    /// Reads the rows of some keys, in their order, without those that do not exist.
    pub(crate) async fn get_each(&self, keys: impl IntoIterator<Item = R::Key>) -> Result<Vec<R>, JournalError> {
        let found = try_join_all(keys.into_iter().map(|key| self.get(key))).await?;
        Ok(found.into_iter().flatten().collect())
    }
}

async fn run<R: Keyed>(store: Store, queries: Arc<Mutex<mpsc::Receiver<Query<R>>>>) {
    loop {
        let mut batch = Vec::new();
        if queries.lock().await.recv_many(&mut batch, LOOKUP_RECORDS).await == 0 {
            return;
        }
        match R::read(&store, batch.iter().map(|(key, _)| *key).collect()).await {
            Ok(rows) => {
                for (key, reply) in batch {
                    let _ = reply.send(Ok(rows.get(&key).cloned()));
                }
            }
            Err(error) => {
                let refusal = unavailable_store(&error);
                for (_, reply) in batch {
                    let _ = reply.send(Err(refusal.clone()));
                }
            }
        }
    }
}
