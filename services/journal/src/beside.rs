//! Rows of a service's own that are written with a command, because no change may hold them: wrapped keys, for one.

use crate::bulk::Writes;
use sea_orm::ActiveModelTrait;

/// A row without its type.
pub(crate) trait Beside: Send + Sync {
    fn write(&self, writes: &mut Writes);
}

pub(crate) struct Row<A>(pub A);

impl<A: ActiveModelTrait + Clone + Send + Sync> Beside for Row<A> {
    fn write(&self, writes: &mut Writes) {
        writes.upsert_apart(self.0.clone());
    }
}
