//! Looking up records: whatever is asked for at the same moment is read together, by one statement.

use crate::{
    bulk::among,
    limits::{LOOKUP_RECORDS, LOOKUPS, QUEUED_COMMANDS},
    store::{Store, StoreError, storage},
    tables::record,
};
use hansa_kernel::{Reason, Refusal};
use sea_orm::{EntityTrait, QueryFilter};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

type Found = Result<Option<record::Model>, Refusal>;
type Asked = (Uuid, oneshot::Sender<Found>);

/// A handle on the readers, which end with it.
pub(crate) struct Lookup(mpsc::Sender<Asked>);

impl Lookup {
    /// Starts the readers on the current runtime.
    pub(crate) fn start(store: &Store) -> Self {
        let (asking, asked) = mpsc::channel(QUEUED_COMMANDS);
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..LOOKUPS {
            tokio::spawn(run(store.clone(), asked.clone()));
        }
        Self(asking)
    }

    /// The row of a record; `None` where there is none.
    pub(crate) async fn get(&self, id: Uuid) -> Found {
        let (answer, wait) = oneshot::channel();
        let away = || Refusal::because(Reason::Unavailable, "PL-4", "the service is draining");
        self.0.send((id, answer)).await.map_err(|_| away())?;
        wait.await.map_err(|_| away())?
    }
}

async fn run(store: Store, asked: Arc<Mutex<mpsc::Receiver<Asked>>>) {
    loop {
        let mut batch = Vec::new();
        if asked.lock().await.recv_many(&mut batch, LOOKUP_RECORDS).await == 0 {
            return;
        }
        let ids = batch.iter().map(|(id, _)| *id).collect();
        match read(&store, ids).await {
            Ok(rows) => {
                for (id, answer) in batch {
                    let _ = answer.send(Ok(rows.get(&id).cloned()));
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

async fn read(store: &Store, ids: Vec<Uuid>) -> Result<HashMap<Uuid, record::Model>, StoreError> {
    let db = store.reader();
    let query = record::Entity::find().filter(among(store.engine(), record::Column::Record, ids));
    Ok(query.all(db).await?.into_iter().map(|row| (row.record, row)).collect())
}
