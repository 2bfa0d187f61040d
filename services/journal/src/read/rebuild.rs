//! Rebuild: folds every record again from its changes while the service runs, and compares states and view rows with those that
//! are stored. Rows that agree are only read; a difference is repaired under lock.

use crate::{
    core::Core,
    journal::Journal,
    limits::{REBUILD_LOCKED, REBUILD_PAGE},
    record::{
        erased::{ErasedRecord, ErasedState, fold_changes, next_rebuild_generation, rebuild_generation, shape},
        view::{Before, StoredRows},
        view_rows::ViewRows,
    },
    store::{
        Backend,
        batch::{SqlBatch, is_any_of},
        error::StoreError,
        tables::{change, record},
    },
};
use futures::future::try_join_all;
use hansa_kernel::RecordName;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, Set,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// The report of a rebuild.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records that were folded.
    pub records: u64,
    /// Changes that were read.
    pub changes: u64,
    /// Records and tables whose stored state or rows differed from the journal; they are repaired.
    pub differing: Vec<String>,
    /// Records whose changes cannot be folded; they are left unchanged.
    pub broken: Vec<String>,
    /// Erased texts that a restore had brought back; they are erased again.
    pub erased: u64,
}

/// The envelopes of some records, in the order of each record.
type Histories = HashMap<Uuid, Vec<Vec<u8>>>;

/// A page of stored records, with their changes and view rows.
struct Page {
    /// The highest id.
    last: Uuid,
    records: Vec<record::Model>,
    histories: Histories,
    /// The view rows by collection.
    views: HashMap<&'static str, Vec<Box<dyn StoredRows>>>,
}

/// The report of one page.
#[derive(Default)]
struct PageReport {
    records: u64,
    changes: u64,
    /// Records that differ, and must be repaired under lock.
    differing: Vec<Uuid>,
    broken: Vec<String>,
}

impl Journal {
    /// Repeats all erasures, then folds every record from its first change and repairs states and rows that differ. Commands
    /// are decided meanwhile; only records under repair are locked. Calls `progress` with the number of finished records.
    ///
    /// # Errors
    /// If the database is unavailable. Repairs before the failure stand.
    pub async fn rebuild(&self, mut progress: impl FnMut(u64)) -> Result<Rebuilt, StoreError> {
        let mut out = Rebuilt { erased: self.replay_erasures().await?, ..Rebuilt::default() };
        let (mut after, mut comparing) = (Some(Uuid::nil()), None::<JoinHandle<PageReport>>);
        while after.is_some() || comparing.is_some() {
            // Folds one page while it reads the next.
            let page = match after.take() {
                Some(after) => read(&self.core, after).await?,
                None => None,
            };
            after = page.as_ref().map(|page| page.last);
            let next = page.map(|page| {
                let core = self.core.clone();
                tokio::task::spawn_blocking(move || compare(&core, page))
            });
            if let Some(compared) = std::mem::replace(&mut comparing, next) {
                let report = compared.await.map_err(|error| DbErr::Custom(error.to_string()))?;
                self.repair(&report.differing, &mut out).await?;
                out.records += report.records;
                out.changes += report.changes;
                out.broken.extend(report.broken);
                progress(out.records);
            }
        }
        Ok(out)
    }

    /// Repairs records, `REBUILD_LOCKED` per transaction.
    async fn repair(&self, differing: &[Uuid], out: &mut Rebuilt) -> Result<(), StoreError> {
        for ids in differing.chunks(REBUILD_LOCKED) {
            let tx = self.core.store.begin().await?;
            repair(&self.core, &tx, ids, out).await?;
            // Before the commit releases the lock: on SQLite the writer trusts its cache.
            ids.iter().for_each(|id| self.core.cache.invalidate(id));
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Returns the record type and the name of a row.
fn type_of<'a>(core: &'a Core, row: &record::Model) -> Option<(&'a Arc<dyn ErasedRecord>, RecordName)> {
    let name = RecordName::parse_any(&row.name, "name").ok()?;
    core.records.get(name.collection()).map(|record_type| (record_type, name))
}

async fn histories(db: &impl ConnectionTrait, query: Select<change::Entity>) -> Result<Histories, StoreError> {
    let rows: Vec<(Uuid, Vec<u8>)> = query
        .select_only()
        .columns([change::Column::Record, change::Column::Envelope])
        .order_by_asc(change::Column::Record)
        .order_by_asc(change::Column::Version)
        .into_tuple()
        .all(db)
        .await?;
    let mut out = Histories::new();
    for (record, envelope) in rows {
        out.entry(record).or_default().push(envelope);
    }
    Ok(out)
}

/// Reads the page after a record; `None` if there are no more.
async fn read(core: &Core, after: Uuid) -> Result<Option<Page>, StoreError> {
    let db = core.store.reader();
    let ids = record::Entity::find().select_only().column(record::Column::Record);
    let ids = ids.filter(record::Column::Record.gt(after)).order_by_asc(record::Column::Record).limit(REBUILD_PAGE);
    let Some(last) = ids.into_tuple::<Uuid>().all(db).await?.pop() else { return Ok(None) };
    // One query per table, without streaming: a stream would wait for each row.
    let records = record::Entity::find().filter(between(record::Column::Record, after, last)).all(db);
    let histories = histories(db, change::Entity::find().filter(between(change::Column::Record, after, last)));
    let views = core.records.values().map(async |record_type| {
        let stored = record_type.views().iter().map(|view| view.stored_between(db, after, last));
        Ok((record_type.collection(), try_join_all(stored).await?))
    });
    let (records, histories, views) = tokio::try_join!(records, histories, try_join_all(views))?;
    Ok(Some(Page { last, records, histories, views: views.into_iter().collect() }))
}

fn between<C: ColumnTrait>(column: C, after: Uuid, last: Uuid) -> Condition {
    Condition::all().add(column.gt(after)).add(column.lte(last))
}

/// Folds the records of a page and compares them with what is stored.
fn compare(core: &Core, page: Page) -> PageReport {
    let mut report = PageReport { records: page.records.len() as u64, ..PageReport::default() };
    let none = Vec::new();
    for row in page.records {
        let history = page.histories.get(&row.record).unwrap_or(&none);
        report.changes += history.len() as u64;
        let folded = type_of(core, &row).and_then(|(record_type, _)| {
            Some((record_type, fold_changes(record_type.as_ref(), history.iter().map(Vec::as_slice)).ok()?))
        });
        let Some((record_type, state)) = folded else {
            report.broken.push(row.name);
            continue;
        };
        let shown = record_type.deleted_at(&state).is_none().then(|| record_type.inner(&state));
        let mut views = page.views.get(record_type.collection()).into_iter().flatten();
        if repaired_row(record_type.as_ref(), &row, &state).is_some()
            || !views.all(|view| view.matches(row.record, shown))
        {
            report.differing.push(row.record);
        }
    }
    report
}

/// Returns the row that a record should have; `None` if the stored one is right. Its rebuild generation rises, which fences
/// writers, in this process or another, that still cache the wrong state.
fn repaired_row(record_type: &dyn ErasedRecord, row: &record::Model, state: &ErasedState) -> Option<record::Model> {
    let (revision, bytes) = record_type.encode(state);
    let due_at = record_type.due(state).map(|due| due.timestamp_micros());
    let before = rebuild_generation(row.revision);
    let same = revision | before == row.revision && bytes == row.state && due_at == row.due_at;
    (!same).then(|| record::Model {
        revision: revision | next_rebuild_generation(before),
        state: bytes,
        due_at,
        ..row.clone()
    })
}

/// Locks and folds records again, and writes what differs.
async fn repair(core: &Core, tx: &DatabaseTransaction, ids: &[Uuid], out: &mut Rebuilt) -> Result<(), StoreError> {
    let engine = core.store.engine();
    let query = record::Entity::find()
        .filter(is_any_of(engine, record::Column::Record, ids.iter().copied()))
        .order_by_asc(record::Column::Record);
    let rows = match core.store.backend() {
        Backend::Sqlite => query.all(tx).await?,
        Backend::Postgres => query.lock_exclusive().all(tx).await?,
    };
    let of_these = is_any_of(engine, change::Column::Record, ids.iter().copied());
    let histories = histories(tx, change::Entity::find().filter(of_these)).await?;
    let (mut records, mut views) = (Vec::new(), ViewRows::default());
    let mut by_collection: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for row in rows {
        let Some((record_type, name)) = type_of(core, &row) else { continue };
        let history = histories.get(&row.record).into_iter().flatten().map(Vec::as_slice);
        let Ok(state) = fold_changes(record_type.as_ref(), history) else { continue };
        if let Some(repaired) = repaired_row(record_type.as_ref(), &row, &state) {
            if shape(repaired.revision) == shape(row.revision) {
                out.differing.push(row.name.clone());
            }
            records.push(into_active(repaired));
        }
        by_collection.entry(record_type.collection()).or_default().push(row.record);
        views.add(record_type.as_ref(), &name, Before::Unknown, &state);
    }
    let before = rows_of(core, tx, &by_collection).await?;
    let mut batch = SqlBatch::new(engine);
    batch.upsert(records);
    views.write(&mut batch);
    batch.run(tx).await?;
    let now = rows_of(core, tx, &by_collection).await?;
    let changed = before.iter().filter(|(table, rows)| now.get(*table) != Some(rows)).map(|(table, _)| table);
    for table in changed {
        if !out.differing.contains(table) {
            out.differing.push(table.clone());
        }
    }
    Ok(())
}

fn into_active(row: record::Model) -> record::ActiveModel {
    record::ActiveModel {
        record: Set(row.record),
        name: Set(row.name),
        version: Set(row.version),
        head: Set(row.head),
        revision: Set(row.revision),
        state: Set(row.state),
        due_at: Set(row.due_at),
        frozen: Set(row.frozen),
    }
}

/// Reads the view rows of some records, by table.
async fn rows_of(
    core: &Core,
    tx: &DatabaseTransaction,
    by_collection: &BTreeMap<&str, Vec<Uuid>>,
) -> Result<HashMap<String, Vec<String>>, StoreError> {
    let mut out = HashMap::new();
    for (collection, ids) in by_collection {
        for view in core.records[collection].views() {
            out.insert(view.table(), view.stored(tx, ids).await?);
        }
    }
    Ok(out)
}
