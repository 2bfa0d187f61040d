//! Looking up rows by their keys: whatever is asked for at the same moment is read together, by one statement.

use crate::{
    bulk::among,
    limits::{LOOKUP_RECORDS, LOOKUPS, QUEUED_COMMANDS},
    store::{Backend, Store, StoreError, storage},
    tables::{mirror, record},
};
use async_trait::async_trait;
use futures::future::try_join_all;
use hansa_kernel::{Reason, Refusal};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, Statement};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

/// A row that is looked up by a key.
#[async_trait]
pub(crate) trait Keyed: Clone + Send + Sync + 'static {
    type Key: Copy + Eq + Hash + Send + Sync + 'static;

    /// Reads the rows of some keys.
    async fn read(store: &Store, keys: Vec<Self::Key>) -> Result<HashMap<Self::Key, Self>, StoreError>;
}

/// PostgreSQL expects ten rows of a list that it does not know, and plans anew, which takes longer than the look-up, for each
/// list that is shorter. So what is missing is filled up with keys of nothing.
const PLANNED_KEYS: usize = 10;

#[async_trait]
impl Keyed for record::Model {
    type Key = Uuid;

    async fn read(store: &Store, mut keys: Vec<Uuid>) -> Result<HashMap<Uuid, Self>, StoreError> {
        if store.backend() == Backend::Postgres && keys.len() > 1 {
            keys.resize(keys.len().max(PLANNED_KEYS), Uuid::nil());
        }
        let query = record::Entity::find().filter(among(store.engine(), record::Column::Record, keys));
        Ok(query.all(store.reader()).await?.into_iter().map(|row| (row.record, row)).collect())
    }
}

/// Mirrors of several collections, each found by its key however the table has grown since this was planned.
const MIRRORS: &str = "
    SELECT mirrors.* FROM UNNEST($1, $2) AS given(collection, record) CROSS JOIN LATERAL (
        SELECT * FROM mirrors WHERE mirrors.subscription = given.collection AND mirrors.record = given.record LIMIT 1
    ) AS mirrors";

#[async_trait]
impl Keyed for mirror::Model {
    /// The collection and the record.
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
            let key = |row: &Self| Some((*known.get(row.subscription.as_str())?, row.record));
            return Ok(rows.into_iter().filter_map(|row| Some((key(&row)?, row))).collect());
        }
        let mut of: BTreeMap<&'static str, Vec<Uuid>> = BTreeMap::new();
        keys.into_iter().for_each(|(collection, id)| of.entry(collection).or_default().push(id));
        let read = |(collection, ids)| async move {
            let query = mirror::Entity::find().filter(mirror::Column::Subscription.eq(collection));
            let rows = query.filter(among(store.engine(), mirror::Column::Record, ids)).all(store.reader()).await?;
            Ok::<_, StoreError>(rows.into_iter().map(move |row| ((collection, row.record), row)))
        };
        Ok(try_join_all(of.into_iter().map(read)).await?.into_iter().flatten().collect())
    }
}

type Found<R> = Result<Option<R>, Refusal>;
type Asked<R> = (<R as Keyed>::Key, oneshot::Sender<Found<R>>);

/// A handle on the readers, which end with it.
pub(crate) struct Lookup<R: Keyed>(mpsc::Sender<Asked<R>>);

impl<R: Keyed> Lookup<R> {
    /// Starts the readers on the current runtime.
    pub(crate) fn start(store: &Store) -> Self {
        let (asking, asked) = mpsc::channel(QUEUED_COMMANDS);
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..LOOKUPS {
            tokio::spawn(run::<R>(store.clone(), asked.clone()));
        }
        Self(asking)
    }

    /// The row of a key; `None` where there is none.
    pub(crate) async fn get(&self, key: R::Key) -> Found<R> {
        let (answer, wait) = oneshot::channel();
        let away = || Refusal::because(Reason::Unavailable, "PL-4", "the service is draining");
        self.0.send((key, answer)).await.map_err(|_| away())?;
        wait.await.map_err(|_| away())?
    }

    /// The rows of some keys, in their order; those that are not there are left out.
    pub(crate) async fn get_each(&self, keys: impl IntoIterator<Item = R::Key>) -> Result<Vec<R>, Refusal> {
        let found = try_join_all(keys.into_iter().map(|key| self.get(key))).await?;
        Ok(found.into_iter().flatten().collect())
    }
}

async fn run<R: Keyed>(store: Store, asked: Arc<Mutex<mpsc::Receiver<Asked<R>>>>) {
    loop {
        let mut batch = Vec::new();
        if asked.lock().await.recv_many(&mut batch, LOOKUP_RECORDS).await == 0 {
            return;
        }
        match R::read(&store, batch.iter().map(|(key, _)| *key).collect()).await {
            Ok(rows) => {
                for (key, answer) in batch {
                    let _ = answer.send(Ok(rows.get(&key).cloned()));
                }
            }
            Err(error) => {
                let refusal = storage(&error);
                for (_, answer) in batch {
                    let _ = answer.send(Err(refusal.clone()));
                }
            }
        }
    }
}
