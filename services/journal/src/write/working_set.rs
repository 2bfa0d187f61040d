//! The working set of a batch: the present state of its records, and the requests that were answered before.

use crate::{
    core::{CachedRecord, Core},
    limits::BIND_VARIABLES,
    record::{
        erased::{ErasedRecord, ErasedState, rebuild_generation},
        view::Before,
    },
    store::{
        Backend,
        batch::is_any_of,
        error::StoreError,
        tables::{record, request},
    },
    write::queued::{CommandKind, Preloaded, QueuedCommand},
};
use hansa_kernel::RecordName;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// A record while a batch decides commands on it.
#[derive(Clone)]
pub(crate) struct LoadedRecord {
    pub name: RecordName,
    pub record: Arc<dyn ErasedRecord>,
    /// The state that its view rows were made of, if it is known.
    pub before: Option<ErasedState>,
    pub state: Option<ErasedState>,
    pub version: u64,
    pub head: Vec<u8>,
    /// The rebuild generation of the row when it was read.
    pub rebuild_generation: i32,
    /// Why it takes no commands, if it is frozen.
    pub frozen: Option<String>,
    pub existed: bool,
    /// Whether the batch has changed it.
    pub changed: bool,
}

impl LoadedRecord {
    fn new(name: RecordName, record: Arc<dyn ErasedRecord>) -> Self {
        Self {
            name,
            record,
            before: None,
            state: None,
            version: 0,
            head: Vec::new(),
            rebuild_generation: 0,
            frozen: None,
            existed: false,
            changed: false,
        }
    }

    /// Returns what the views may contain of it.
    pub fn before(&self) -> Before<'_> {
        match &self.before {
            Some(state) => Before::State(self.record.inner(state)),
            None if self.existed => Before::Unknown,
            None => Before::Nothing,
        }
    }

    /// Puts its state into the cache.
    pub fn into_cache(self, core: &Core) {
        let Self { name, version, head, rebuild_generation, .. } = self;
        if let Some(state) = self.state {
            let id = name.id.0;
            core.cache.insert(id, Arc::new(CachedRecord { name, version, head, state, rebuild_generation }));
        }
    }
}

/// The records of a batch by id.
pub(crate) type WorkingSet = HashMap<Uuid, LoadedRecord>;

/// Returns the names of all records that the commands are about.
pub(crate) fn record_names(commands: &[QueuedCommand]) -> BTreeMap<Uuid, RecordName> {
    commands.iter().flat_map(|command| command.kind.records()).map(|name| (name.id.0, name.clone())).collect()
}

/// Splits commands into those that one batch may decide, and those that call a record of these by another name.
///
/// An id belongs to one name. A command with a wrong name finds no record, and must not spoil the batch for commands with the
/// right name. The first command is always in the first part.
pub(crate) fn split_name_conflicts(commands: Vec<QueuedCommand>) -> (Vec<QueuedCommand>, Vec<QueuedCommand>) {
    let mut known: HashMap<Uuid, &RecordName> = HashMap::with_capacity(commands.len());
    let mut flags = Vec::with_capacity(commands.len());
    for command in &commands {
        let names = command.kind.records();
        let agrees = names.iter().all(|name| known.get(&name.id.0).is_none_or(|known| known == name));
        if agrees {
            known.extend(names.into_iter().map(|name| (name.id.0, name)));
        }
        flags.push(agrees);
    }
    let mut flags = flags.into_iter();
    commands.into_iter().partition(|_| flags.next().unwrap_or(true))
}

fn empty_set(core: &Core, commands: &[QueuedCommand]) -> WorkingSet {
    let entry = |(id, name): (Uuid, RecordName)| {
        let record = core.records.get(name.collection())?.clone();
        Some((id, LoadedRecord::new(name, record)))
    };
    record_names(commands).into_iter().filter_map(entry).collect()
}

/// Loads the records without locks, from the cache, the preloaded rows and the database. Another replica may have written them
/// since.
pub(crate) async fn load_optimistic(core: &Core, commands: &mut [QueuedCommand]) -> Result<WorkingSet, StoreError> {
    let mut set = empty_set(core, commands);
    let (mut preloaded, mut missing) = (newest(commands), fill_from_cache(core, &mut set));
    let db = core.store.reader();
    let rows: Vec<record::Model> = missing.iter().filter_map(|id| preloaded.get_mut(id)?.take()).collect();
    missing.retain(|id| !preloaded.contains_key(id));
    fill_from_rows(core, db, &mut set, rows).await?;
    for ids in missing.chunks(BIND_VARIABLES) {
        let query = record::Entity::find();
        let query = query.filter(is_any_of(core.store.engine(), record::Column::Record, ids.iter().copied()));
        fill_from_rows(core, db, &mut set, query.all(db).await?).await?;
    }
    Ok(set)
}

/// Collects the preloaded rows of the commands, the newest of each record.
fn newest(commands: &mut [QueuedCommand]) -> Preloaded {
    let version = |row: &Option<record::Model>| row.as_ref().map(|row| (row.version, rebuild_generation(row.revision)));
    let mut newest = Preloaded::new();
    for (id, row) in commands.iter_mut().flat_map(|command| std::mem::take(&mut command.preloaded)) {
        if newest.get(&id).is_none_or(|known| version(known) < version(&row)) {
            newest.insert(id, row);
        }
    }
    newest
}

/// Loads the records under lock. On PostgreSQL it locks the rows in the order of their ids before the first write, so that two
/// batches cannot deadlock; on SQLite the transaction already excludes other writers.
pub(crate) async fn load_locked(
    core: &Core,
    tx: &DatabaseTransaction,
    commands: &[QueuedCommand],
) -> Result<WorkingSet, StoreError> {
    let mut set = empty_set(core, commands);
    let sole_writer = core.store.backend() == Backend::Sqlite;
    let mut missing = if sole_writer { fill_from_cache(core, &mut set) } else { set.keys().copied().collect() };
    missing.sort_unstable();
    for ids in missing.chunks(BIND_VARIABLES) {
        let query = record::Entity::find()
            .filter(is_any_of(core.store.engine(), record::Column::Record, ids.iter().copied()))
            .order_by_asc(record::Column::Record);
        let rows = if sole_writer { query.all(tx).await? } else { query.lock_exclusive().all(tx).await? };
        fill_from_rows(core, tx, &mut set, rows).await?;
    }
    if !sole_writer {
        // The next optimistic batch starts from these states and does not run into the same conflict.
        set.values().filter(|one| one.frozen.is_none()).for_each(|one| one.clone().into_cache(core));
    }
    Ok(set)
}

/// Fills records from the cache and returns the ids that are not in it.
fn fill_from_cache(core: &Core, set: &mut WorkingSet) -> Vec<Uuid> {
    let mut missing = Vec::new();
    for (id, loaded) in set {
        // A record with another name is not the one that the command asks for; the database read below reports that.
        match core.cache.get(id).filter(|cached| cached.name == loaded.name) {
            Some(cached) => {
                loaded.state = Some(cached.state.clone());
                loaded.before = Some(cached.state.clone());
                loaded.version = cached.version;
                loaded.head.clone_from(&cached.head);
                loaded.rebuild_generation = cached.rebuild_generation;
                loaded.existed = true;
            }
            None => missing.push(*id),
        }
    }
    missing
}

async fn fill_from_rows(
    core: &Core,
    db: &impl ConnectionTrait,
    set: &mut WorkingSet,
    rows: Vec<record::Model>,
) -> Result<(), StoreError> {
    for row in rows {
        let Some(loaded) = set.get_mut(&row.record) else { continue };
        if loaded.name.as_str() != row.name {
            loaded.frozen = Some("the id belongs to a record with another name".into());
        }
        loaded.before = loaded.record.decode(row.revision, &row.state);
        loaded.state = match &loaded.before {
            Some(state) => Some(state.clone()),
            None => core.refold(db, loaded.record.as_ref(), row.record).await?.ok(),
        };
        loaded.version = row.version.cast_unsigned();
        loaded.head = row.head;
        loaded.rebuild_generation = rebuild_generation(row.revision);
        loaded.frozen = loaded.frozen.take().or(row.frozen);
        loaded.existed = true;
    }
    Ok(())
}

/// Reads the stored requests whose idempotency keys the commands carry.
pub(crate) async fn load_requests(
    tx: &DatabaseTransaction,
    commands: &[QueuedCommand],
) -> Result<HashMap<(Uuid, Uuid), request::Model>, StoreError> {
    let mut keys = HashSet::new();
    for command in commands {
        if let CommandKind::Commands { commands, .. } = &command.kind {
            keys.extend(commands.iter().filter_map(|c| c.idempotency_key()).map(|key| (key.tenant.0, key.id)));
        }
    }
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let (tenants, ids): (HashSet<Uuid>, HashSet<Uuid>) = keys.iter().copied().unzip();
    let engine = tx.get_database_backend();
    // The tenants come first in the table's key. Without them PostgreSQL would read the whole table.
    let query = request::Entity::find().filter(is_any_of(engine, request::Column::Tenant, tenants));
    let rows = query.filter(is_any_of(engine, request::Column::Request, ids)).all(tx).await?;
    Ok(rows.into_iter().map(|row| ((row.tenant, row.request), row)).filter(|(key, _)| keys.contains(key)).collect())
}
