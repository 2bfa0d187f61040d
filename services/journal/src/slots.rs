//! What a batch must know before it decides: the present state of its records, and the requests that were made before.

use crate::{
    job::{Job, Work},
    journal::Inner,
    kind::{AnyKind, AnyState},
    store::{Backend, StoreError},
    tables::{record, request},
};
use hansa_kernel::RecordName;
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// A record within a batch.
#[derive(Clone)]
pub(crate) struct Slot {
    pub name: RecordName,
    pub kind: Arc<dyn AnyKind>,
    pub state: Option<AnyState>,
    pub version: u64,
    pub head: Vec<u8>,
    pub frozen: Option<String>,
    pub existed: bool,
    pub touched: bool,
}

pub(crate) fn names(jobs: &[Job]) -> BTreeMap<Uuid, RecordName> {
    let mut names = BTreeMap::new();
    for job in jobs {
        match &job.work {
            Work::Commands { commands, .. } => names.extend(commands.iter().map(|c| (c.name().id.0, c.name().clone()))),
            Work::Timer { name, .. } => drop(names.insert(name.id.0, name.clone())),
        }
    }
    names
}

/// The present state of every record of the batch. On PostgreSQL the rows are locked in the order of their ids before the
/// first write, so that two batches cannot wait for each other.
pub(crate) async fn load_slots(
    inner: &Inner,
    tx: &DatabaseTransaction,
    jobs: &[Job],
) -> Result<HashMap<Uuid, Slot>, StoreError> {
    let names = names(jobs);
    let alone = inner.store.backend() == Backend::Sqlite;
    let mut slots = HashMap::with_capacity(names.len());
    let mut unknown = Vec::new();
    for (id, name) in &names {
        let Some(kind) = inner.kinds.get(name.collection()) else { continue };
        let mut slot = Slot {
            name: name.clone(),
            kind: kind.clone(),
            state: None,
            version: 0,
            head: Vec::new(),
            frozen: None,
            existed: false,
            touched: false,
        };
        if alone && let Some(known) = inner.cache.get(id) {
            slot = Slot {
                state: Some(known.state.clone()),
                version: known.version,
                head: known.head.clone(),
                existed: true,
                ..slot
            };
        } else {
            unknown.push(*id);
        }
        slots.insert(*id, slot);
    }
    if unknown.is_empty() {
        return Ok(slots);
    }
    let mut rows = Vec::new();
    for ids in unknown.chunks(crate::limits::BIND_VARIABLES) {
        let query = record::Entity::find()
            .filter(record::Column::Record.is_in(ids.iter().copied()))
            .order_by_asc(record::Column::Record);
        rows.extend(if alone { query.all(tx).await? } else { query.lock_exclusive().all(tx).await? });
    }
    for row in rows {
        if let Some(slot) = slots.get_mut(&row.record) {
            // An id stands for one name: a record asked for under another name is not there.
            if slot.name.as_str() != row.name {
                slot.frozen = Some("the name and the id do not belong together".into());
            }
            slot.state = match slot.kind.decode(row.revision, &row.state) {
                Some(state) => Some(state),
                None => inner.fold_again(tx, slot.kind.as_ref(), row.record).await?.ok(),
            };
            slot.version = row.version.cast_unsigned();
            slot.head = row.head;
            slot.frozen = slot.frozen.take().or(row.frozen);
            slot.existed = true;
        }
    }
    Ok(slots)
}

pub(crate) async fn load_requests(
    tx: &DatabaseTransaction,
    jobs: &[Job],
) -> Result<HashMap<(Uuid, Uuid), request::Model>, StoreError> {
    let mut keys = HashSet::new();
    for job in jobs {
        if let Work::Commands { commands, .. } = &job.work {
            keys.extend(commands.iter().filter_map(|c| c.request()).map(|key| (key.tenant.0, key.id)));
        }
    }
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: HashSet<Uuid> = keys.iter().map(|(_, id)| *id).collect();
    let rows =
        request::Entity::find().filter(Condition::all().add(request::Column::Request.is_in(ids))).all(tx).await?;
    Ok(rows.into_iter().map(|row| ((row.tenant, row.request), row)).filter(|(key, _)| keys.contains(key)).collect())
}
