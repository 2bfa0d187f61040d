//! What a subscription remembers of the mirrors that it wrote, so that what moves often is not read each time. It holds as of
//! a turn: where somebody else had one since, the write finds that out and everything is forgotten.

use crate::limits::REMEMBERED_MIRRORS;
use std::{any::Any, collections::HashMap, sync::Arc};
use uuid::Uuid;

/// A mirror's state, without its type.
pub(crate) type AnyMirrored = Arc<dyn Any + Send + Sync>;

/// A mirror as it stands in the database.
#[derive(Clone)]
pub(crate) struct Mirrored {
    /// None where the record was deleted.
    pub state: Option<AnyMirrored>,
    pub version: u64,
}

/// The mirrors of one subscription that are known, and where it stands.
#[derive(Default)]
pub(crate) struct Remembered {
    /// Where the cursor of turns stood; not where nothing is known. A file, which one process has for itself, has no turns.
    pub turn: Option<i64>,
    /// How far it has come at a source that asks for it.
    pub position: Option<i64>,
    mirrors: HashMap<Uuid, Mirrored>,
}

impl Remembered {
    pub(crate) fn get(&self, record: Uuid) -> Option<&Mirrored> {
        self.mirrors.get(&record)
    }

    pub(crate) fn forget(&mut self, record: Uuid) {
        self.mirrors.remove(&record);
    }

    /// Takes in what stands now. Where that is too much, what was known before is forgotten.
    pub(crate) fn keep(&mut self, mirrors: Vec<(Uuid, Mirrored)>) {
        if self.mirrors.len() + mirrors.len() > REMEMBERED_MIRRORS {
            self.mirrors.clear();
        }
        self.mirrors.extend(mirrors.into_iter().take(REMEMBERED_MIRRORS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_bounds_and_keeps_what_came_last() {
        let mut remembered = Remembered::default();
        let some = |from: u128, count| {
            let mirrored = |id| (Uuid::from_u128(id), Mirrored { state: None, version: 1 });
            (from..from + count as u128).map(mirrored).collect::<Vec<_>>()
        };
        remembered.keep(some(0, REMEMBERED_MIRRORS));
        assert_eq!(remembered.mirrors.len(), REMEMBERED_MIRRORS);
        remembered.keep(some(REMEMBERED_MIRRORS as u128, 2));
        assert_eq!(remembered.mirrors.len(), 2);
        assert!(
            remembered.get(Uuid::nil()).is_none()
                && remembered.get(Uuid::from_u128(REMEMBERED_MIRRORS as u128)).is_some()
        );
        remembered.keep(some(0, REMEMBERED_MIRRORS + 7));
        assert_eq!(remembered.mirrors.len(), REMEMBERED_MIRRORS);
    }
}
