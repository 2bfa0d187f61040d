//! The mirrors that a subscription has in memory, so that frequently changed ones are not read each time.
//!
//! The cache is valid for one value of the fencing token. If another replica has written since, the fenced write fails, and the
//! cache is dropped.

use crate::limits::CACHED_MIRRORS;
use std::{any::Any, collections::HashMap, sync::Arc};
use uuid::Uuid;

/// The state of a mirror without its type.
pub(crate) type ErasedMirrorState = Arc<dyn Any + Send + Sync>;

/// A mirror as the database contains it.
#[derive(Clone)]
pub(crate) struct CachedMirror {
    /// `None` if the record was deleted.
    pub state: Option<ErasedMirrorState>,
    pub version: u64,
}

/// The cached mirrors of one subscription, and its position.
#[derive(Default)]
pub(crate) struct MirrorCache {
    /// The fencing token for which the cache is valid; `None` if it is unknown. SQLite needs none, as one process owns the file.
    pub fence: Option<i64>,
    /// The position at a source whose position the subscription stores.
    pub position: Option<i64>,
    mirrors: HashMap<Uuid, CachedMirror>,
}

impl MirrorCache {
    pub(crate) fn get(&self, record: Uuid) -> Option<&CachedMirror> {
        self.mirrors.get(&record)
    }

    pub(crate) fn remove(&mut self, record: Uuid) {
        self.mirrors.remove(&record);
    }

    /// Adds mirrors. If the cache would exceed `CACHED_MIRRORS`, it is cleared first.
    pub(crate) fn extend(&mut self, mirrors: Vec<(Uuid, CachedMirror)>) {
        if self.mirrors.len() + mirrors.len() > CACHED_MIRRORS {
            self.mirrors.clear();
        }
        self.mirrors.extend(mirrors.into_iter().take(CACHED_MIRRORS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_the_latest() {
        let mut cache = MirrorCache::default();
        let some = |from: u128, count| {
            let mirror = |id| (Uuid::from_u128(id), CachedMirror { state: None, version: 1 });
            (from..from + count as u128).map(mirror).collect::<Vec<_>>()
        };
        cache.extend(some(0, CACHED_MIRRORS));
        assert_eq!(cache.mirrors.len(), CACHED_MIRRORS);
        cache.extend(some(CACHED_MIRRORS as u128, 2));
        assert_eq!(cache.mirrors.len(), 2);
        assert!(cache.get(Uuid::nil()).is_none() && cache.get(Uuid::from_u128(CACHED_MIRRORS as u128)).is_some());
        cache.extend(some(0, CACHED_MIRRORS + 7));
        assert_eq!(cache.mirrors.len(), CACHED_MIRRORS);
    }
}
