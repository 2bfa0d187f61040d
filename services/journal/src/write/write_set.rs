//! The write set: all rows that a batch of decided commands writes.

use crate::{
    core::Core,
    privacy::erasure::Erasing,
    record::{
        erased::{ErasedRecord, FoldedChange, GENERATION_MASK},
        view_rows::ViewRows,
    },
    store::{
        Backend,
        batch::SqlBatch,
        outbox_message::OutboxMessage,
        tables::{change, feed, record, request, seal},
    },
    write::{side_row::SideRow, working_set::LoadedRecord},
};
use hansa_kernel::{
    RecordId, TenantId,
    seal::{SEAL_BYTES, Sealed},
};
use sea_orm::{IntoActiveModel, Set};
use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, atomic::Ordering},
};

/// The SQL expression for the revision of an existing row. It is NULL if a rebuild has replaced the snapshot since the batch read
/// it. The column does not permit NULL, so the statement fails and the batch is decided again.
static REVISION_IF_SAME_GENERATION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "CASE WHEN records.revision & {GENERATION_MASK} = excluded.revision & {GENERATION_MASK} \
         THEN excluded.revision END"
    )
});

/// The rows of a batch, except those of records and views, which derive from the working set.
#[derive(Default)]
pub(crate) struct WriteSet {
    pub changes: Vec<change::ActiveModel>,
    pub feed: Vec<feed::ActiveModel>,
    pub requests: Vec<request::Model>,
    pub seals: Vec<seal::ActiveModel>,
    /// The keys of `seals`.
    sealed: HashSet<[u8; SEAL_BYTES]>,
    pub erasures: Vec<Erasing>,
    pub side_rows: Vec<Arc<dyn SideRow>>,
}

/// Collects the seals that changes contain.
pub(crate) fn seals_in(record: &dyn ErasedRecord, changes: &[FoldedChange]) -> HashSet<Vec<u8>> {
    let mut seals = HashSet::new();
    for change in changes {
        record.visit_texts(&change.type_name, &change.payload, &mut |text| seals.extend([text.seal.clone()]));
    }
    seals
}

impl WriteSet {
    /// Stores sealed values for a record. Commands that take effect together may contain the same value; it is stored once.
    pub fn add_seals<'a>(&mut self, record: RecordId, tenant: TenantId, seals: impl IntoIterator<Item = &'a Sealed>) {
        for sealed in seals {
            if self.sealed.insert(sealed.seal) {
                self.seals.push(seal::ActiveModel {
                    seal: Set(sealed.seal.to_vec()),
                    record: Set(record.0),
                    tenant: Set(tenant.0),
                    salt: Set(sealed.salt.to_vec()),
                    value: Set(sealed.value.clone()),
                    erased_at: Set(None),
                });
            }
        }
    }

    /// Adds what one command writes.
    pub fn merge(&mut self, other: Self) {
        self.changes.extend(other.changes);
        self.feed.extend(other.feed);
        self.requests.extend(other.requests);
        self.seals.extend(other.seals);
        self.erasures.extend(other.erasures);
        self.side_rows.extend(other.side_rows);
    }

    /// Returns the changes for the relay; empty if there is none.
    pub fn outbox_messages(&self, core: &Core) -> Vec<OutboxMessage> {
        if core.outbox.get().is_none() {
            return Vec::new();
        }
        let message = |row: &change::ActiveModel| OutboxMessage {
            record: row.record.clone().unwrap(),
            version: row.version.clone().unwrap(),
            envelope: row.envelope.clone().unwrap(),
            signatures: row.signatures.clone().unwrap(),
            trace: row.trace.clone().unwrap(),
        };
        self.changes.iter().map(message).collect()
    }

    /// Builds the SQL. The records come first and in the order of their ids, so that two replicas lock the same rows in the same
    /// order. The unique keys of the changes stop a batch that conflicts.
    pub fn into_batch(mut self, core: &Core, changed: &[LoadedRecord]) -> SqlBatch {
        let store = &core.store;
        if store.backend() == Backend::Sqlite {
            // With one writer per file the order of insertion is the order of commit, so positions are known now.
            for row in &mut self.feed {
                row.position = Set(Some(core.next_position.fetch_add(1, Ordering::Relaxed)));
            }
        }
        let mut batch = SqlBatch::new(store.engine());
        let mut views = ViewRows::default();
        let mut records: Vec<record::ActiveModel> = changed.iter().filter_map(row).collect();
        records.sort_unstable_by_key(|row| row.record.clone().unwrap());
        for loaded in changed {
            if let Some(state) = &loaded.state {
                views.add(loaded.record.as_ref(), &loaded.name, loaded.before(), state);
            }
        }
        self.side_rows.iter().for_each(|row| row.write(&mut batch));
        batch.upsert_with(records, (record::Column::Revision, REVISION_IF_SAME_GENERATION.as_str()));
        views.write(&mut batch);
        batch.insert(self.seals);
        batch.insert(self.feed);
        batch.insert(self.requests.into_iter().map(IntoActiveModel::into_active_model).collect::<Vec<_>>());
        batch.insert(self.changes);
        batch
    }
}

/// Returns the row of a record. `frozen` is left out: no command changes it.
fn row(loaded: &LoadedRecord) -> Option<record::ActiveModel> {
    let state = loaded.state.as_ref()?;
    let (revision, bytes) = loaded.record.encode(state);
    Some(record::ActiveModel {
        record: Set(loaded.name.id.0),
        name: Set(loaded.name.as_str().to_owned()),
        version: Set(loaded.version.cast_signed()),
        head: Set(loaded.head.clone()),
        revision: Set(revision | loaded.rebuild_generation),
        state: Set(bytes),
        due_at: Set(loaded.record.due(state).map(|due| due.timestamp_micros())),
        frozen: sea_orm::NotSet,
    })
}
