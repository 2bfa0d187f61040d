//! What a batch must know before it decides: the present state of its records, and the requests that were made before.

use crate::{
    bulk::among,
    job::{Found, Job, Work},
    journal::Inner,
    kind::{AnyKind, AnyState, mended},
    store::{Backend, StoreError},
    tables::{record, request},
    view::Before,
};
use hansa_kernel::RecordName;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
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
    /// The state that its rows in views are of, where that is known.
    pub before: Option<AnyState>,
    pub state: Option<AnyState>,
    pub version: u64,
    pub head: Vec<u8>,
    /// How often its snapshot had been made again when it was read.
    pub mended: i32,
    pub frozen: Option<String>,
    pub existed: bool,
    pub touched: bool,
}

impl Slot {
    fn new(name: RecordName, kind: Arc<dyn AnyKind>) -> Self {
        Self {
            name,
            kind,
            before: None,
            state: None,
            version: 0,
            head: Vec::new(),
            mended: 0,
            frozen: None,
            existed: false,
            touched: false,
        }
    }

    /// What views may have of it.
    pub fn before(&self) -> Before<'_> {
        match &self.before {
            Some(state) => Before::State(self.kind.inner(state)),
            None if self.existed => Before::Unknown,
            None => Before::Nothing,
        }
    }
}

/// The records that a job is about.
fn called(job: &Job) -> Vec<&RecordName> {
    match &job.work {
        Work::Commands { commands, .. } => commands.iter().map(|command| command.name()).collect(),
        Work::Timer { name, .. } => vec![name],
    }
}

pub(crate) fn names(jobs: &[Job]) -> BTreeMap<Uuid, RecordName> {
    jobs.iter().flat_map(called).map(|name| (name.id.0, name.clone())).collect()
}

/// Jobs that may be decided together, the first always among them, and those that call a record of these by another name: an
/// id stands for one name, and whoever asks for another must not spoil it for those who ask for the right one.
pub(crate) fn by_one_name(jobs: Vec<Job>) -> (Vec<Job>, Vec<Job>) {
    let mut known: HashMap<Uuid, &RecordName> = HashMap::with_capacity(jobs.len());
    let mut agrees = |job| {
        let names = called(job);
        let agrees = names.iter().all(|name| known.get(&name.id.0).is_none_or(|known| known == name));
        if agrees {
            known.extend(names.into_iter().map(|name| (name.id.0, name)));
        }
        agrees
    };
    let agree: Vec<bool> = jobs.iter().map(&mut agrees).collect();
    let (together, others): (Vec<_>, Vec<_>) = jobs.into_iter().zip(agree).partition(|(_, agrees)| *agrees);
    let alone = |jobs: Vec<(Job, bool)>| jobs.into_iter().map(|(job, _)| job).collect();
    (alone(together), alone(others))
}

fn slots_of(inner: &Inner, jobs: &[Job]) -> HashMap<Uuid, Slot> {
    let slot = |(id, name): (Uuid, RecordName)| {
        let kind = inner.kinds.get(name.collection())?.clone();
        Some((id, Slot::new(name, kind)))
    };
    names(jobs).into_iter().filter_map(slot).collect()
}

/// The present state of every record of the batch as it is known here: it may be older than what another replica wrote.
pub(crate) async fn load_known(inner: &Inner, jobs: &mut [Job]) -> Result<HashMap<Uuid, Slot>, StoreError> {
    let mut slots = slots_of(inner, jobs);
    let (mut found, mut unknown) = (newest(jobs), remember(inner, &mut slots));
    let db = inner.store.reader();
    let read: Vec<record::Model> = unknown.iter().filter_map(|id| found.get_mut(id)?.take()).collect();
    unknown.retain(|id| !found.contains_key(id));
    fill(inner, db, &mut slots, read).await?;
    for ids in unknown.chunks(crate::limits::BIND_VARIABLES) {
        let query = record::Entity::find();
        let query = query.filter(among(inner.store.engine(), record::Column::Record, ids.iter().copied()));
        fill(inner, db, &mut slots, query.all(db).await?).await?;
    }
    Ok(slots)
}

/// What was read of records while their jobs came, by the newest reading of each.
fn newest(jobs: &mut [Job]) -> Found {
    let version = |row: &Option<record::Model>| row.as_ref().map(|row| (row.version, mended(row.revision)));
    let mut newest = Found::new();
    for (id, row) in jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.found)) {
        if newest.get(&id).is_none_or(|known| version(known) < version(&row)) {
            newest.insert(id, row);
        }
    }
    newest
}

/// The present state of every record of the batch. On PostgreSQL the rows are locked in the order of their ids before the
/// first write, so that two batches cannot wait for each other.
pub(crate) async fn load_locked(
    inner: &Inner,
    tx: &DatabaseTransaction,
    jobs: &[Job],
) -> Result<HashMap<Uuid, Slot>, StoreError> {
    let mut slots = slots_of(inner, jobs);
    let alone = inner.store.backend() == Backend::Sqlite;
    let mut unknown = if alone { remember(inner, &mut slots) } else { slots.keys().copied().collect() };
    unknown.sort_unstable();
    for ids in unknown.chunks(crate::limits::BIND_VARIABLES) {
        let query = record::Entity::find()
            .filter(among(inner.store.engine(), record::Column::Record, ids.iter().copied()))
            .order_by_asc(record::Column::Record);
        let rows = if alone { query.all(tx).await? } else { query.lock_exclusive().all(tx).await? };
        fill(inner, tx, &mut slots, rows).await?;
    }
    if !alone {
        // Whoever waits behind with what was read before this is not to lose the same race.
        slots.values().filter(|slot| slot.frozen.is_none()).for_each(|slot| inner.remember(slot.clone()));
    }
    Ok(slots)
}

/// Fills slots from the cache; answers which are not in it.
fn remember(inner: &Inner, slots: &mut HashMap<Uuid, Slot>) -> Vec<Uuid> {
    let mut unknown = Vec::new();
    for (id, slot) in slots {
        // An id stands for one name; what is asked for under another is looked up, and found to be none.
        match inner.cache.get(id).filter(|known| known.name == slot.name) {
            Some(known) => {
                slot.state = Some(known.state.clone());
                slot.before = Some(known.state.clone());
                slot.version = known.version;
                slot.head.clone_from(&known.head);
                slot.mended = known.mended;
                slot.existed = true;
            }
            None => unknown.push(*id),
        }
    }
    unknown
}

async fn fill(
    inner: &Inner,
    db: &impl ConnectionTrait,
    slots: &mut HashMap<Uuid, Slot>,
    rows: Vec<record::Model>,
) -> Result<(), StoreError> {
    for row in rows {
        let Some(slot) = slots.get_mut(&row.record) else { continue };
        // An id stands for one name: a record asked for under another name is not there.
        if slot.name.as_str() != row.name {
            slot.frozen = Some("the name and the id do not belong together".into());
        }
        slot.before = slot.kind.decode(row.revision, &row.state);
        slot.state = match &slot.before {
            Some(state) => Some(state.clone()),
            None => inner.fold_again(db, slot.kind.as_ref(), row.record).await?.ok(),
        };
        slot.version = row.version.cast_unsigned();
        slot.head = row.head;
        slot.mended = mended(row.revision);
        slot.frozen = slot.frozen.take().or(row.frozen);
        slot.existed = true;
    }
    Ok(())
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
    let (tenants, ids): (HashSet<Uuid>, HashSet<Uuid>) = keys.iter().copied().unzip();
    let engine = tx.get_database_backend();
    // By the tenants as well: they come first in the table's key, and without them all of it is read.
    let query = request::Entity::find().filter(among(engine, request::Column::Tenant, tenants));
    let rows = query.filter(among(engine, request::Column::Request, ids)).all(tx).await?;
    Ok(rows.into_iter().map(|row| ((row.tenant, row.request), row)).filter(|(key, _)| keys.contains(key)).collect())
}
