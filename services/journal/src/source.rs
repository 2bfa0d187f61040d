//! Where a subscription's changes come from.

use crate::{
    journal::Journal,
    limits::{SUBSCRIPTION_BATCH, SUBSCRIPTION_PERIOD},
    store::storage,
    tables::change,
};
use async_trait::async_trait;
use hansa_kernel::{RecordName, Refusal};
use hansa_proto::types::ChangeEnvelope;
use prost::Message;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::sync::watch;

/// Where a subscription's changes come from: another journal in this process, or the broker.
#[async_trait]
pub trait Source: Send {
    /// What is new after a position, in each record's order; empty where there is nothing.
    async fn next(&mut self, after: i64) -> Result<Vec<Delivery>, Refusal>;
    /// A record's changes after a version: fetched from the owner to fill a gap.
    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, Refusal>;
    /// The effects of everything that `next` last answered are durable.
    async fn applied(&mut self) -> Result<(), Refusal>;
    /// Whether it is told where to go on from; one that knows by itself needs no cursor.
    fn by_position(&self) -> bool {
        true
    }
    /// Everything is to come again, from the first change on.
    async fn rewind(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
    /// Waits until there may be something new. One whose `next` waits for a while by itself need not.
    async fn ready(&mut self) {}
}

/// One change on its way.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Position at the source, to resume after.
    pub position: i64,
    /// The change.
    pub envelope: ChangeEnvelope,
    /// W3C trace context of the command that led to it.
    pub trace: Option<String>,
}

/// Reads the owner's journal in this process. Sound on SQLite alone, whose order of insertion is the order of commit.
#[derive(Debug)]
pub struct JournalSource {
    journal: Journal,
    committed: watch::Receiver<i64>,
}

impl JournalSource {
    /// A reader of a journal.
    #[must_use]
    pub fn of(journal: &Journal) -> Self {
        Self { journal: journal.clone(), committed: journal.committed() }
    }

    async fn read(&self, after: i64) -> Result<Vec<Delivery>, Refusal> {
        let rows = change::Entity::find()
            .filter(change::Column::Seq.gt(after))
            .order_by_asc(change::Column::Seq)
            .limit(SUBSCRIPTION_BATCH)
            .all(self.journal.store().reader())
            .await
            .map_err(|e| storage(&e))?;
        let read = |row: change::Model| {
            ChangeEnvelope::decode(row.envelope.as_slice())
                .map(|envelope| Delivery { position: row.seq, envelope, trace: row.trace })
                .map_err(|error| Refusal::because(hansa_kernel::Reason::Internal, "PL-3", error.to_string()))
        };
        rows.into_iter().map(read).collect()
    }
}

#[async_trait]
impl Source for JournalSource {
    async fn next(&mut self, after: i64) -> Result<Vec<Delivery>, Refusal> {
        self.committed.mark_unchanged();
        self.read(after).await
    }

    async fn ready(&mut self) {
        let _ = tokio::time::timeout(SUBSCRIPTION_PERIOD, self.committed.changed()).await;
    }

    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, Refusal> {
        let mut out: Vec<ChangeEnvelope> = Vec::new();
        loop {
            let from = out.last().map_or(after, |last| last.version);
            let page = self.journal.history(record.id, from, u64::MAX).await?;
            if page.is_empty() {
                return Ok(out);
            }
            out.extend(page.into_iter().map(|change| change.envelope));
        }
    }

    async fn applied(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}
