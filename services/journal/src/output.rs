//! What a batch of decided commands writes.

use crate::{
    beside::Beside,
    bulk::Writes,
    erasure::Erasing,
    journal::Inner,
    kind::{AnyKind, Collectors, MENDED, Step},
    relay::Outgoing,
    slots::Slot,
    store::Backend,
    tables::{change, feed, record, request, seal},
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

/// A row's revision; nothing where a rebuild has made the snapshot again since it was read, which stops the statement, since no
/// row is without one.
static AS_READ: LazyLock<String> = LazyLock::new(|| {
    format!("CASE WHEN records.revision & {MENDED} = excluded.revision & {MENDED} THEN excluded.revision END")
});

/// The rows that a batch writes, beside records and views.
#[derive(Default)]
pub(crate) struct Output {
    pub changes: Vec<change::ActiveModel>,
    pub feed: Vec<feed::ActiveModel>,
    pub requests: Vec<request::Model>,
    pub seals: Vec<seal::ActiveModel>,
    /// Those of `seals`, by what stands in the change.
    sealed: HashSet<[u8; SEAL_BYTES]>,
    pub erasures: Vec<Erasing>,
    pub beside: Vec<Arc<dyn Beside>>,
}

/// The seals that stand in changes.
pub(crate) fn seals_in(kind: &dyn AnyKind, steps: &[Step]) -> HashSet<Vec<u8>> {
    let mut seals = HashSet::new();
    for step in steps {
        kind.visit_texts(&step.type_name, &step.payload, &mut |text| seals.extend([text.seal.clone()]));
    }
    seals
}

impl Output {
    /// Keeps values for a record, each once: commands that take effect together may bear the same ones.
    pub fn keep_seals<'a>(&mut self, record: RecordId, tenant: TenantId, seals: impl IntoIterator<Item = &'a Sealed>) {
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

    /// Takes in what one command writes.
    pub fn keep(&mut self, other: Self) {
        self.changes.extend(other.changes);
        self.feed.extend(other.feed);
        self.requests.extend(other.requests);
        self.seals.extend(other.seals);
        self.erasures.extend(other.erasures);
        self.beside.extend(other.beside);
    }

    /// What the relay publishes at once, where there is one.
    pub fn outgoing(&self, inner: &Inner) -> Vec<Outgoing> {
        if inner.outbox.get().is_none() {
            return Vec::new();
        }
        let change = |row: &change::ActiveModel| Outgoing {
            record: row.record.clone().unwrap(),
            version: row.version.clone().unwrap(),
            envelope: row.envelope.clone().unwrap(),
            signatures: row.signatures.clone().unwrap(),
            trace: row.trace.clone().unwrap(),
        };
        self.changes.iter().map(change).collect()
    }

    /// All that is to be written. The records come first and in the order of their ids, so that two replicas that write the
    /// same ones wait for each other in one order; then the changes, whose unique keys stop what lost a race.
    pub fn writes(mut self, inner: &Inner, touched: &[Slot]) -> Writes {
        let store = &inner.store;
        if store.backend() == Backend::Sqlite {
            // One writer a file: its order is the order of commit, so positions are given at once.
            for row in &mut self.feed {
                row.position = Set(Some(inner.next_position.fetch_add(1, Ordering::Relaxed)));
            }
        }
        let mut writes = Writes::on(store.engine());
        let mut views = Collectors::default();
        let mut records: Vec<record::ActiveModel> = touched.iter().filter_map(row).collect();
        records.sort_unstable_by_key(|row| row.record.clone().unwrap());
        for slot in touched {
            if let Some(state) = &slot.state {
                views.add(slot.kind.as_ref(), &slot.name, slot.before(), state);
            }
        }
        self.beside.iter().for_each(|row| row.write(&mut writes));
        writes.upsert_but(records, (record::Column::Revision, AS_READ.as_str()));
        views.write(&mut writes);
        writes.insert(self.seals);
        writes.insert(self.feed);
        writes.insert(self.requests.into_iter().map(IntoActiveModel::into_active_model).collect::<Vec<_>>());
        writes.insert(self.changes);
        writes
    }
}

/// The record's own row. Whether it is frozen is nothing that a command changes.
fn row(slot: &Slot) -> Option<record::ActiveModel> {
    let state = slot.state.as_ref()?;
    let (revision, bytes) = slot.kind.encode(state);
    Some(record::ActiveModel {
        record: Set(slot.name.id.0),
        name: Set(slot.name.as_str().to_owned()),
        version: Set(slot.version.cast_signed()),
        head: Set(slot.head.clone()),
        revision: Set(revision | slot.mended),
        state: Set(bytes),
        due_at: Set(slot.kind.due(state).map(|due| due.timestamp_micros())),
        frozen: sea_orm::NotSet,
    })
}
