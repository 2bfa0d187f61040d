//! A batch of the inbox: the mirrors that some changes are about, while the changes are folded into them.

use crate::{
    inbox::{
        mirror::{ErasedMirror, TOMBSTONE},
        mirror_cache::{CachedMirror, ErasedMirrorState, MirrorCache},
    },
    panics,
    record::{
        erased::is_tombstone,
        view::{Before, RowCollector},
    },
    store::{
        batch::SqlBatch,
        dirty_keys::{DirtyKeys, mark_dirty},
        tables::{cursor, dirty, mirror, quarantine},
    },
};
use chrono::{DateTime, Utc};
use hansa_kernel::{FoldError, RecordName, envelope};
use hansa_proto::types::ChangeEnvelope;
use sea_orm::Set;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// The mirrors of a subscription by collection.
pub(crate) type MirrorTypes = HashMap<&'static str, Box<dyn ErasedMirror>>;

/// A mirror within a batch.
#[derive(Default)]
pub(crate) struct LoadedMirror {
    /// The stored state, once `state` is another.
    pub before: Option<ErasedMirrorState>,
    pub state: Option<ErasedMirrorState>,
    /// Whether the database contains a mirror of the record, of any revision.
    pub is_stored: bool,
    pub version: u64,
    pub is_changed: bool,
    pub is_deleted: bool,
}

impl LoadedMirror {
    pub(crate) fn from_cache(cached: &CachedMirror) -> Self {
        let CachedMirror { state, version } = cached.clone();
        Self { is_deleted: state.is_none(), is_stored: true, state, version, ..Self::default() }
    }

    /// Returns what the view rows were made of. Without a stored mirror there should be no rows. The locked path does not rely on
    /// that, because an operator may have emptied the table of mirrors.
    fn before(&self, is_locked: bool) -> Before<'_> {
        match &self.before {
            Some(state) => Before::State(state.as_ref()),
            None if self.is_stored || is_locked => Before::Unknown,
            None => Before::Nothing,
        }
    }

    /// Returns the mirror for the cache; `None` if there is nothing to store.
    fn to_cache(&self) -> Option<CachedMirror> {
        (self.state.is_some() || self.is_deleted)
            .then(|| CachedMirror { state: self.state.clone(), version: self.version })
    }
}

/// The changes of one transaction.
#[derive(Default)]
pub(crate) struct InboxBatch {
    pub mirrors: HashMap<Uuid, LoadedMirror>,
    /// The collections of changed mirrors.
    collections: HashMap<Uuid, &'static str>,
    pub quarantined: BTreeSet<Uuid>,
    /// Records that this batch puts into quarantine.
    new_quarantine: Vec<quarantine::ActiveModel>,
    dirty: DirtyKeys,
    /// The trace context of the change that is being applied.
    pub trace: Option<String>,
    pub cache: MirrorCache,
    /// Whether the subscription's lock is held.
    pub is_locked: bool,
}

/// What a batch leads to once it is committed.
pub(crate) struct Applied {
    /// The queues in which keys were marked.
    pub queues: BTreeSet<&'static str>,
    /// The marked keys as written, if the statement returned them.
    pub keys: Vec<dirty::Model>,
    pub cache: MirrorCache,
}

impl InboxBatch {
    /// Returns the version of the record that has been applied; 0 if none.
    pub(crate) fn version(&self, record: Uuid) -> u64 {
        self.mirrors.get(&record).map_or(0, |loaded| loaded.version)
    }

    /// Folds one change into its mirror. A change that cannot be folded, or whose fold panics, puts the record into quarantine.
    pub(crate) fn fold(
        &mut self,
        subscription: &'static str,
        mirror: &dyn ErasedMirror,
        name: &RecordName,
        envelope: &ChangeEnvelope,
        now: DateTime<Utc>,
    ) {
        let loaded = self.mirrors.entry(name.id.0).or_default();
        let is_tombstone = is_tombstone(&envelope.payload_type);
        let folded = panics::catch(|| {
            let after = match (loaded.is_deleted, is_tombstone) {
                (true, _) => return Err(FoldError("a change follows a tombstone".into())),
                (false, true) => None,
                (false, false) => mirror.fold(loaded.state.as_deref(), envelope)?,
            };
            if let Some(after) = &after {
                // Run the views here too: if one panics, only this record is quarantined.
                let mut views = mirror.collectors();
                views.iter_mut().for_each(|view| view.add(name.id.0, Before::Unknown, after.as_ref()));
            }
            let is_changed = after.is_some() || is_tombstone;
            let invalidates = || mirror.invalidates(name.id, loaded.state.as_deref(), after.as_deref());
            Ok((is_changed.then(invalidates), after))
        })
        .unwrap_or_else(|_| Err(FoldError("internal error: the fold panicked".into())));
        match folded {
            Ok((invalidated, after)) => {
                loaded.is_deleted = is_tombstone;
                if let Some(keys) = invalidated {
                    self.dirty.extend(keys.into_iter().map(|key| (key, self.trace.clone())));
                    let before = std::mem::replace(&mut loaded.state, after);
                    if !loaded.is_changed {
                        loaded.before = before;
                    }
                }
                loaded.version = envelope::version(envelope);
                loaded.is_changed = true;
                self.collections.insert(name.id.0, mirror.collection());
            }
            Err(error) => {
                tracing::error!(subscription, record = %name, version = envelope.version, %error, "quarantined a record");
                self.quarantined.insert(name.id.0);
                self.new_quarantine.push(quarantine::ActiveModel {
                    subscription: Set(subscription.to_owned()),
                    record: Set(name.id.0),
                    name: Set(name.as_str().to_owned()),
                    version: Set(envelope.version.into()),
                    reason: Set(error.to_string()),
                    since: Set(now.timestamp_micros()),
                });
            }
        }
    }

    /// Adds the rows of mirrors, views, marked keys, quarantine and position to `sql`.
    pub(crate) fn write(
        mut self,
        subscription: &str,
        types: &MirrorTypes,
        position: Option<i64>,
        sql: &mut SqlBatch,
    ) -> Applied {
        self.write_mirrors(types, sql);
        let queues = self.dirty.keys().map(|(queue, _)| *queue).collect();
        mark_dirty(sql, std::mem::take(&mut self.dirty));
        sql.insert(std::mem::take(&mut self.new_quarantine));
        let cursor =
            |position| cursor::ActiveModel { subscription: Set(subscription.to_owned()), position: Set(position) };
        sql.upsert(position.map(cursor).into_iter().collect::<Vec<_>>());
        let mut cache = std::mem::take(&mut self.cache);
        cache.position = position.or(cache.position);
        self.quarantined.iter().for_each(|record| cache.remove(*record));
        let stored = self.mirrors.iter().filter(|(record, _)| !self.quarantined.contains(record));
        cache.extend(stored.filter_map(|(record, loaded)| Some((*record, loaded.to_cache()?))).collect());
        Applied { queues, keys: Vec::new(), cache }
    }

    fn write_mirrors(&self, types: &MirrorTypes, sql: &mut SqlBatch) {
        let mut rows = Vec::new();
        let mut views: HashMap<&'static str, Vec<Box<dyn RowCollector>>> = HashMap::new();
        for (record, loaded) in self.mirrors.iter().filter(|(_, loaded)| loaded.is_changed) {
            let Some(collection) = self.collections.get(record) else { continue };
            if loaded.state.is_none() && !loaded.is_deleted {
                continue;
            }
            let mirror = &types[collection];
            let encoded = loaded.state.as_ref().map(|state| mirror.encode(state.as_ref()));
            rows.push(mirror::ActiveModel {
                collection: Set((*collection).to_owned()),
                record: Set(*record),
                version: Set(loaded.version.cast_signed()),
                revision: Set(mirror.revision()),
                state: Set(encoded.unwrap_or_else(|| TOMBSTONE.to_vec())),
            });
            for collector in views.entry(collection).or_insert_with(|| mirror.collectors()) {
                match &loaded.state {
                    Some(state) => collector.add(*record, loaded.before(self.is_locked), state.as_ref()),
                    None => collector.remove(*record),
                }
            }
        }
        sql.upsert(rows);
        views.into_values().flatten().for_each(|collector| collector.write(sql));
    }
}
