//! Side rows: rows of a service's own table that a command writes in its transaction, because no change may contain them. An
//! example is a wrapped key.

use crate::store::batch::SqlBatch;
use sea_orm::ActiveModelTrait;

/// A side row without its type.
pub(crate) trait SideRow: Send + Sync {
    /// Adds the row to the batch.
    fn write(&self, batch: &mut SqlBatch);
}

/// A side row of the table of `A`.
pub(crate) struct TypedSideRow<A>(pub A);

impl<A: ActiveModelTrait + Clone + Send + Sync> SideRow for TypedSideRow<A> {
    fn write(&self, batch: &mut SqlBatch) {
        batch.upsert_separately(self.0.clone());
    }
}
