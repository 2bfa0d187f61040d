//! Rebuilding: every state and view made again from the journal, while serving, and compared with what stands there. What is
//! as it should be is only read; what differs is made again under lock.

use crate::{
    bulk::{Writes, among},
    journal::{Inner, Journal},
    kind::{AnyKind, AnyState, Collectors, mended, mended_again, shape},
    limits::{REBUILT_TOGETHER, REBUILT_UNDER_LOCK},
    read::fold_changes,
    store::{Backend, StoreError},
    tables::{change, record},
    view::{Before, Stored},
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

/// What a rebuild saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records folded again.
    pub records: u64,
    /// Changes read.
    pub changes: u64,
    /// Records whose state or rows differed from what the journal says.
    pub differing: Vec<String>,
    /// Records whose history cannot be folded; they are left as they were.
    pub broken: Vec<String>,
    /// Texts that had been erased and were there again, as after a restore; they are erased again.
    pub erased: u64,
}

/// The envelopes of some records, each record's in their order.
type Histories = HashMap<Uuid, Vec<Vec<u8>>>;

/// Some records as they stand, with all that they are made of.
struct Page {
    /// The last of them, by their ids.
    last: Uuid,
    records: Vec<record::Model>,
    histories: Histories,
    /// The rows of the views of each collection.
    views: HashMap<&'static str, Vec<Box<dyn Stored>>>,
}

/// What a look at a page found.
#[derive(Default)]
struct Seen {
    records: u64,
    changes: u64,
    suspects: Vec<Uuid>,
    broken: Vec<String>,
}

impl Journal {
    /// Erases again what was erased, then folds every record again from its first change, and writes anew the states and
    /// rows that are others. Commands go on meanwhile: only what is written anew is held. `progress` hears how many records
    /// are done.
    ///
    /// # Errors
    /// Where the database is away; what was done stands.
    pub async fn rebuild(&self, mut progress: impl FnMut(u64)) -> Result<Rebuilt, StoreError> {
        let mut out = Rebuilt { erased: self.replay_erasures().await?, ..Rebuilt::default() };
        let (mut after, mut looking) = (Some(Uuid::nil()), None::<JoinHandle<Seen>>);
        while after.is_some() || looking.is_some() {
            // One page is folded while the next is read.
            let page = match after.take() {
                Some(after) => read(&self.inner, after).await?,
                None => None,
            };
            after = page.as_ref().map(|page| page.last);
            let next = page.map(|page| {
                let inner = self.inner.clone();
                tokio::task::spawn_blocking(move || look(&inner, page))
            });
            if let Some(looked) = std::mem::replace(&mut looking, next) {
                let seen = looked.await.map_err(|error| DbErr::Custom(error.to_string()))?;
                self.mend(&seen.suspects, &mut out).await?;
                out.records += seen.records;
                out.changes += seen.changes;
                out.broken.extend(seen.broken);
                progress(out.records);
            }
        }
        Ok(out)
    }

    /// Makes records again, a few at a time.
    async fn mend(&self, suspects: &[Uuid], out: &mut Rebuilt) -> Result<(), StoreError> {
        for ids in suspects.chunks(REBUILT_UNDER_LOCK) {
            let tx = self.inner.store.begin().await?;
            mend(&self.inner, &tx, ids, out).await?;
            // Before others may write: a file's writer takes what is remembered for what stands there.
            ids.iter().for_each(|id| self.inner.cache.invalidate(id));
            tx.commit().await?;
        }
        Ok(())
    }
}

fn kind_of<'a>(inner: &'a Inner, row: &record::Model) -> Option<(&'a Arc<dyn AnyKind>, RecordName)> {
    let name = RecordName::parse_any(&row.name, "name").ok()?;
    inner.kinds.get(name.collection()).map(|kind| (kind, name))
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

/// The next records after one; `None` where there are no more.
async fn read(inner: &Inner, after: Uuid) -> Result<Option<Page>, StoreError> {
    let db = inner.store.reader();
    let ids = record::Entity::find().select_only().column(record::Column::Record);
    let ids = ids.filter(record::Column::Record.gt(after)).order_by_asc(record::Column::Record).limit(REBUILT_TOGETHER);
    let Some(last) = ids.into_tuple::<Uuid>().all(db).await?.pop() else { return Ok(None) };
    // All at once: whoever takes the rows then has no time to wait for the next one.
    let records = record::Entity::find().filter(between(record::Column::Record, after, last)).all(db);
    let histories = histories(db, change::Entity::find().filter(between(change::Column::Record, after, last)));
    let views = inner.kinds.values().map(async |kind| {
        let stored = kind.views().iter().map(|view| view.stored_between(db, after, last));
        Ok((kind.collection(), try_join_all(stored).await?))
    });
    let (records, histories, views) = tokio::try_join!(records, histories, try_join_all(views))?;
    Ok(Some(Page { last, records, histories, views: views.into_iter().collect() }))
}

fn between<C: ColumnTrait>(column: C, after: Uuid, last: Uuid) -> Condition {
    Condition::all().add(column.gt(after)).add(column.lte(last))
}

/// Compares a page with what it should be.
fn look(inner: &Inner, page: Page) -> Seen {
    let mut seen = Seen { records: page.records.len() as u64, ..Seen::default() };
    let none = Vec::new();
    for row in page.records {
        let history = page.histories.get(&row.record).unwrap_or(&none);
        seen.changes += history.len() as u64;
        let folded = kind_of(inner, &row)
            .and_then(|(kind, _)| Some((kind, fold_changes(kind.as_ref(), history.iter().map(Vec::as_slice)).ok()?)));
        let Some((kind, state)) = folded else {
            seen.broken.push(row.name);
            continue;
        };
        let shown = kind.deleted_at(&state).is_none().then(|| kind.inner(&state));
        let mut views = page.views.get(kind.collection()).into_iter().flatten();
        if fresh(kind.as_ref(), &row, &state).is_some() || !views.all(|view| view.is_of(row.record, shown)) {
            seen.suspects.push(row.record);
        }
    }
    seen
}

/// The record's row as it should be, where it is another. It counts as made again, so that nobody who remembers what stood
/// there, in this process or another, writes by it.
fn fresh(kind: &dyn AnyKind, row: &record::Model, state: &AnyState) -> Option<record::Model> {
    let (revision, bytes) = kind.encode(state);
    let due_at = kind.due(state).map(|due| due.timestamp_micros());
    let before = mended(row.revision);
    let same = revision | before == row.revision && bytes == row.state && due_at == row.due_at;
    (!same).then(|| record::Model { revision: revision | mended_again(before), state: bytes, due_at, ..row.clone() })
}

/// Folds records again, with their rows locked, and writes what is different.
async fn mend(inner: &Inner, tx: &DatabaseTransaction, ids: &[Uuid], out: &mut Rebuilt) -> Result<(), StoreError> {
    let engine = inner.store.engine();
    let query = record::Entity::find()
        .filter(among(engine, record::Column::Record, ids.iter().copied()))
        .order_by_asc(record::Column::Record);
    let rows = match inner.store.backend() {
        Backend::Sqlite => query.all(tx).await?,
        Backend::Postgres => query.lock_exclusive().all(tx).await?,
    };
    let of_these = among(engine, change::Column::Record, ids.iter().copied());
    let histories = histories(tx, change::Entity::find().filter(of_these)).await?;
    let (mut records, mut collectors) = (Vec::new(), Collectors::default());
    let mut by_kind: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for row in rows {
        let Some((kind, name)) = kind_of(inner, &row) else { continue };
        let history = histories.get(&row.record).into_iter().flatten().map(Vec::as_slice);
        let Ok(state) = fold_changes(kind.as_ref(), history) else { continue };
        if let Some(fresh) = fresh(kind.as_ref(), &row, &state) {
            if shape(fresh.revision) == shape(row.revision) {
                out.differing.push(row.name.clone());
            }
            records.push(as_written(fresh));
        }
        by_kind.entry(kind.collection()).or_default().push(row.record);
        collectors.add(kind.as_ref(), &name, Before::Unknown, &state);
    }
    let before = rows_of(inner, tx, &by_kind).await?;
    let mut writes = Writes::on(engine);
    writes.upsert(records);
    collectors.write(&mut writes);
    writes.run(tx).await?;
    let now = rows_of(inner, tx, &by_kind).await?;
    let changed = before.iter().filter(|(table, rows)| now.get(*table) != Some(rows)).map(|(table, _)| table);
    for table in changed {
        if !out.differing.contains(table) {
            out.differing.push(table.clone());
        }
    }
    Ok(())
}

fn as_written(row: record::Model) -> record::ActiveModel {
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

/// All view rows of some records, by table.
async fn rows_of(
    inner: &Inner,
    tx: &DatabaseTransaction,
    by_kind: &BTreeMap<&str, Vec<Uuid>>,
) -> Result<HashMap<String, Vec<String>>, StoreError> {
    let mut out = HashMap::new();
    for (collection, ids) in by_kind {
        for view in inner.kinds[collection].views() {
            out.insert(view.table(), view.stored(tx, ids).await?);
        }
    }
    Ok(out)
}
