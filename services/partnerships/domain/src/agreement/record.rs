//! The agreement as a record of the journal: how changes fold into it, who may read it, and when it is due.

use super::{Agreement, COLLECTION, Change, disclosure, fold, timers};
use chrono::{DateTime, Utc};
use hansa_kernel::{Audience, Disclosed, FoldError, Record, Stamp, TenantId};
use hansa_proto::types::Tombstone;

impl Record for Agreement {
    const COLLECTION: &'static str = COLLECTION;
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, FoldError> {
        fold::fold(before, change, stamp)
    }

    fn owner(&self) -> TenantId {
        self.owner
    }

    fn audience(&self) -> Audience {
        Audience::of(self.readers.iter().copied()).and_public(self.public)
    }

    fn disclosed(change: &Change) -> Disclosed<Change> {
        disclosure::disclosed(change)
    }

    /// Discloses that the agreement is deleted but not the reason, which may describe the parties.
    fn tombstone_disclosed() -> Disclosed<Tombstone> {
        Disclosed::Part(Tombstone::default())
    }

    fn due(&self) -> Option<DateTime<Utc>> {
        self.next_alarm().map(|(at, _)| at)
    }

    fn on_due(&self, due: DateTime<Utc>) -> Vec<hansa_kernel::Emitted<Change>> {
        timers::on_due(self, due)
    }
}
