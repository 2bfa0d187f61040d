//! The view rows of a batch, over all record types.

use crate::{
    record::{
        erased::{ErasedRecord, ErasedState},
        view::{Before, RowCollector},
    },
    store::batch::SqlBatch,
};
use hansa_kernel::RecordName;

/// Collects the view rows of changed records.
#[derive(Default)]
pub(crate) struct ViewRows {
    by_collection: Vec<(&'static str, Vec<Box<dyn RowCollector>>)>,
}

impl ViewRows {
    /// Adds the rows of a record in all views of its type; removes them if the record is deleted.
    pub(crate) fn add(
        &mut self,
        record: &dyn ErasedRecord,
        name: &RecordName,
        before: Before<'_>,
        state: &ErasedState,
    ) {
        let index =
            self.by_collection.iter().position(|(collection, _)| *collection == record.collection()).unwrap_or_else(
                || {
                    let collectors = record.views().iter().map(|view| view.collector()).collect();
                    self.by_collection.push((record.collection(), collectors));
                    self.by_collection.len() - 1
                },
            );
        for collector in &mut self.by_collection[index].1 {
            if record.deleted_at(state).is_some() {
                collector.remove(name.id.0);
            } else {
                collector.add(name.id.0, before, record.inner(state));
            }
        }
    }

    /// Adds the rows to the batch.
    pub(crate) fn write(self, batch: &mut SqlBatch) {
        for collector in self.by_collection.into_iter().flat_map(|(_, collectors)| collectors) {
            collector.write(batch);
        }
    }
}
