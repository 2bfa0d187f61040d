//! Rebuilding: every state and view made again from the journal, while serving, and compared with what stood there.

use crate::{
    journal::Journal,
    kind::Collectors,
    read::fold_rows,
    store::{Backend, StoreError, upsert},
    tables::{change, record},
};
use hansa_kernel::RecordName;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};
use std::collections::HashMap;
use uuid::Uuid;

const RECORDS_A_STEP: u64 = 500;

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

impl Journal {
    /// Erases again what was erased, then folds every record again from its first change, and writes its state and rows
    /// anew. Commands go on meanwhile: a step holds its own records alone. `progress` hears how many records are done.
    ///
    /// # Errors
    /// Where the database is away; what was done stands.
    pub async fn rebuild(&self, mut progress: impl FnMut(u64)) -> Result<Rebuilt, StoreError> {
        let mut out = Rebuilt { erased: self.replay_erasures().await?, ..Rebuilt::default() };
        let mut after = Uuid::nil();
        while let Some(last) = self.rebuild_step(after, &mut out).await? {
            after = last;
            progress(out.records);
        }
        self.inner.cache.invalidate_all();
        Ok(out)
    }

    async fn rebuild_step(&self, after: Uuid, out: &mut Rebuilt) -> Result<Option<Uuid>, StoreError> {
        let inner = &self.inner;
        let tx = inner.store.begin().await?;
        let query = record::Entity::find()
            .filter(record::Column::Record.gt(after))
            .order_by_asc(record::Column::Record)
            .limit(RECORDS_A_STEP);
        let alone = inner.store.backend() == Backend::Sqlite;
        let rows = if alone { query.all(&tx).await? } else { query.lock_exclusive().all(&tx).await? };
        let Some(last) = rows.last().map(|row| row.record) else { return Ok(None) };

        let ids: Vec<Uuid> = rows.iter().map(|row| row.record).collect();
        let mut histories: HashMap<Uuid, Vec<change::Model>> = HashMap::new();
        let changes = change::Entity::find()
            .filter(change::Column::Record.is_in(ids.iter().copied()))
            .order_by_asc(change::Column::Version)
            .all(&tx)
            .await?;
        out.changes += changes.len() as u64;
        for change in changes {
            histories.entry(change.record).or_default().push(change);
        }

        let mut by_kind: HashMap<&str, Vec<Uuid>> = HashMap::new();
        let mut collectors = Collectors::default();
        let mut records = Vec::new();
        for row in rows {
            out.records += 1;
            let Some((kind, name)) = RecordName::parse_any(&row.name, "name")
                .ok()
                .and_then(|name| inner.kinds.get(name.collection()).map(|kind| (kind, name)))
            else {
                out.broken.push(row.name);
                continue;
            };
            let Ok(state) = fold_rows(kind.as_ref(), histories.remove(&row.record).unwrap_or_default()) else {
                out.broken.push(row.name);
                continue;
            };
            let (revision, bytes) = kind.encode(&state);
            if revision == row.revision && bytes != row.state {
                out.differing.push(row.name.clone());
            }
            by_kind.entry(kind.collection()).or_default().push(row.record);
            collectors.add(kind.as_ref(), &name, &state, true);
            records.push(record::ActiveModel {
                record: Set(row.record),
                name: Set(row.name),
                version: Set(row.version),
                head: Set(row.head),
                revision: Set(revision),
                state: Set(bytes),
                due_at: Set(kind.due(&state).map(|due| due.timestamp_micros())),
                frozen: Set(row.frozen),
            });
        }
        let before = self.rows(&tx, &by_kind).await?;
        upsert::<record::Entity, _>(&tx, records).await?;
        collectors.write(&tx).await?;
        let now = self.rows(&tx, &by_kind).await?;
        out.differing
            .extend(before.iter().filter(|(table, rows)| now.get(*table) != Some(rows)).map(|(t, _)| t.clone()));
        tx.commit().await?;
        Ok(Some(last))
    }

    /// All view rows of some records, by table.
    async fn rows(
        &self,
        tx: &sea_orm::DatabaseTransaction,
        by_kind: &HashMap<&str, Vec<Uuid>>,
    ) -> Result<HashMap<String, Vec<String>>, StoreError> {
        let mut out = HashMap::new();
        for (collection, ids) in by_kind {
            for view in self.inner.kinds[collection].views() {
                out.insert(view.table(), view.stored(tx, ids).await?);
            }
        }
        Ok(out)
    }
}
