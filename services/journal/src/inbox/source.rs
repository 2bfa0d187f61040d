//! Sources: where a subscription reads changes from.

use crate::{
    journal::Journal,
    limits::{SUBSCRIPTION_BATCH, SUBSCRIPTION_PERIOD},
    store::{error::JournalError, tables::change},
};
use async_trait::async_trait;
use hansa_kernel::{ReasonClass, RecordName, Refusal, envelope};
use hansa_proto::types::ChangeEnvelope;
use prost::Message;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::sync::watch;

/// A source of changes: another journal in this process, or the broker.
#[async_trait]
pub trait Source: Send {
    /// Reads the next changes after a position, in the order of each record; empty if there are none.
    async fn next(&mut self, after: i64) -> Result<Vec<Delivery>, JournalError>;
    /// Fetches a record's changes after a version from the owner, to fill a gap.
    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, JournalError>;
    /// Acknowledges what `next` returned last: its effects are durable.
    async fn acknowledge(&mut self) -> Result<(), JournalError>;
    /// Whether the subscription must store the position. The broker stores it for its consumers.
    fn by_position(&self) -> bool {
        true
    }
    /// Requests all changes again, from the first.
    async fn rewind(&mut self) -> Result<(), JournalError> {
        Ok(())
    }
    /// Waits until there may be new changes. A source whose `next` waits by itself need not implement it.
    async fn ready(&mut self) {}
}

/// One delivered change.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its position at the source.
    pub position: i64,
    /// The change.
    pub envelope: ChangeEnvelope,
    /// W3C trace context of the command that led to it.
    pub trace: Option<String>,
}

/// Reads the owner's journal in this process. It relies on SQLite, where the order of insertion is the order of commit.
#[derive(Debug)]
pub struct JournalSource {
    journal: Journal,
    committed: watch::Receiver<i64>,
}

impl JournalSource {
    /// Creates a reader of a journal.
    #[must_use]
    pub fn new(journal: &Journal) -> Self {
        Self { journal: journal.clone(), committed: journal.committed() }
    }
}

#[async_trait]
impl Source for JournalSource {
    async fn next(&mut self, after: i64) -> Result<Vec<Delivery>, JournalError> {
        self.committed.mark_unchanged();
        let rows = change::Entity::find()
            .filter(change::Column::Seq.gt(after))
            .order_by_asc(change::Column::Seq)
            .limit(SUBSCRIPTION_BATCH)
            .all(self.journal.store().reader())
            .await?;
        let delivery = |row: change::Model| {
            ChangeEnvelope::decode(row.envelope.as_slice())
                .map(|envelope| Delivery { position: row.seq, envelope, trace: row.trace })
                .map_err(|error| Refusal::because(ReasonClass::Internal, "PL-3", "INTERNAL", error.to_string()).into())
        };
        rows.into_iter().map(delivery).collect()
    }

    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, JournalError> {
        let mut changes: Vec<ChangeEnvelope> = Vec::new();
        loop {
            let from = changes.last().map_or(after, envelope::version);
            let page = self.journal.history(record.id, from, u64::MAX).await?;
            if page.is_empty() {
                return Ok(changes);
            }
            changes.extend(page.into_iter().map(|change| change.envelope));
        }
    }

    async fn acknowledge(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    async fn ready(&mut self) {
        let _ = tokio::time::timeout(SUBSCRIPTION_PERIOD, self.committed.changed()).await;
    }
}
