//! What a subscription has of the records that some changes are about, while it applies them.

use crate::{
    queue::Marks,
    remembered::{AnyMirrored, Mirrored, Remembered},
    tables::{dirty, quarantine},
    view::Before,
};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// A mirrored record within a batch.
#[derive(Default)]
pub(crate) struct Slot {
    /// The state that is stored, once another has taken its place.
    pub before: Option<AnyMirrored>,
    pub state: Option<AnyMirrored>,
    /// Whether the database holds a mirror of it, in whatever shape.
    pub stored: bool,
    pub version: u64,
    pub touched: bool,
    pub deleted: bool,
}

impl Slot {
    /// A mirror as it stands.
    pub(crate) fn of(mirrored: &Mirrored) -> Self {
        let Mirrored { state, version } = mirrored.clone();
        Self { deleted: state.is_none(), stored: true, state, version, ..Self::default() }
    }

    /// What views may have of it. Where there is no mirror there should be no row; who applies it under lock takes that for
    /// granted no more, since somebody may have emptied the mirrors.
    pub(crate) fn seen_before(&self, under_lock: bool) -> Before<'_> {
        match &self.before {
            Some(state) => Before::State(state.as_ref()),
            None if self.stored || under_lock => Before::Unknown,
            None => Before::Nothing,
        }
    }

    /// The mirror as it stands once it is written; none where there is nothing of it to be written.
    fn stands(&self) -> Option<Mirrored> {
        (self.state.is_some() || self.deleted).then(|| Mirrored { state: self.state.clone(), version: self.version })
    }
}

/// One transaction's worth of deliveries.
#[derive(Default)]
pub(crate) struct Applying {
    pub slots: HashMap<Uuid, Slot>,
    pub collections: HashMap<Uuid, &'static str>,
    pub quarantined: BTreeSet<Uuid>,
    pub stuck: Vec<quarantine::ActiveModel>,
    pub dirty: Marks,
    /// Of the change that is being applied.
    pub trace: Option<String>,
    /// What was known before, and where the cursor of turns stood.
    pub known: Remembered,
    /// Whether nobody else applies anything meanwhile.
    pub under_lock: bool,
}

impl Applying {
    /// The mirrors as they stand once all is written.
    pub(crate) fn stands(&self) -> Vec<(Uuid, Mirrored)> {
        let here = self.slots.iter().filter(|(record, _)| !self.quarantined.contains(record));
        here.filter_map(|(record, slot)| Some((*record, slot.stands()?))).collect()
    }
}

/// What has been applied.
pub(crate) struct Applied {
    pub marked: BTreeSet<&'static str>,
    /// The marks as they stand, where they were asked for.
    pub handed: Vec<dirty::Model>,
    pub known: Remembered,
}
