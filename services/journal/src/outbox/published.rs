//! Marks of published changes: each contains the sequence of the change in the broker's stream.
//!
//! The marks reveal in two ways that the broker has lost changes. First by the state of the stream: it was created again, ends
//! before a mark, or begins after a mark that is younger than `STREAM_AGE`. Second by the marks themselves: if two changes have
//! the same sequence, the stream was truncated in between and the earlier change is gone.

use crate::{
    journal::Journal,
    limits::{STREAM_AGE, SWEEP_AFTER, SWEEP_ROWS},
    outbox::broker::Bus,
    store::{
        Backend,
        batch::SqlBatch,
        error::{JournalError, StoreError},
        tables::{change, cursor},
    },
};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Set, Statement, UpdateMany, Value,
    sea_query::{Expr, ExprTrait, extension::postgres::PgFunc},
};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// The cursor that holds the creation time of the stream, which identifies it.
const EPOCH: &str = "relay-stream-created";
/// The cursor that holds the first sequence of the stream at the last check.
const FIRST: &str = "relay-stream-first";
/// Changes that one statement marks as published.
const PUBLISHED_CHUNK: usize = 1_000;

/// A published change with its sequence in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub record: Uuid,
    pub version: i64,
    pub sequence: i64,
}

/// Claims changes that are not published, oldest first. The claim is a row lock, which other replicas skip.
pub(crate) async fn unpublished(
    tx: &DatabaseTransaction,
    backend: Backend,
    now: i64,
) -> Result<Vec<change::Model>, StoreError> {
    // A change from the future was written before the clock was set back. It must not wait until the clock catches up.
    let after = SWEEP_AFTER.as_micros() as i64;
    let received = change::Column::ReceivedAt;
    let query = change::Entity::find()
        .filter(change::Column::StreamSequence.is_null())
        .filter(Condition::any().add(received.lte(now - after)).add(received.gt(now + after)))
        .order_by_asc(change::Column::Seq)
        .limit(SWEEP_ROWS);
    match backend {
        Backend::Sqlite => query.all(tx).await,
        Backend::Postgres => {
            use sea_orm::sea_query::{LockBehavior, LockType};
            query.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked).all(tx).await
        }
    }
}

/// Marks changes as published. Returns whether two changes have the same sequence, which means that the stream was truncated. Both
/// then count as unpublished.
pub(crate) async fn mark_published(tx: &DatabaseTransaction, marks: &[Published]) -> Result<bool, StoreError> {
    let mut duplicates = BTreeSet::new();
    for chunk in marks.chunks(PUBLISHED_CHUNK) {
        let mut holder: HashMap<i64, (Uuid, i64)> = HashMap::with_capacity(chunk.len());
        for mark in chunk {
            let change = (mark.record, mark.version);
            if holder.insert(mark.sequence, change).is_some_and(|other| other != change) {
                duplicates.insert(mark.sequence);
            }
        }
        let others: Vec<(Uuid, i64, i64)> = change::Entity::find()
            .select_only()
            .columns([change::Column::Record, change::Column::Version, change::Column::StreamSequence])
            .filter(has_sequence(tx.get_database_backend(), holder.keys().copied()))
            .into_tuple()
            .all(tx)
            .await?;
        duplicates.extend(others.into_iter().filter(|(r, v, s)| holder.get(s) != Some(&(*r, *v))).map(|(_, _, s)| s));
        write_marks(tx, chunk).await?;
    }
    if duplicates.is_empty() {
        return Ok(false);
    }
    unmark().filter(change::Column::StreamSequence.is_in(duplicates)).exec(tx).await?;
    Ok(true)
}

/// Builds the condition that a change is marked with one of some sequences. On PostgreSQL they are bound as one array, so that the
/// text does not depend on their number.
fn has_sequence(engine: DbBackend, sequences: impl IntoIterator<Item = i64>) -> Expr {
    match engine {
        DbBackend::Postgres => Expr::col(change::Column::StreamSequence).eq(PgFunc::any(Vec::from_iter(sequences))),
        _ => change::Column::StreamSequence.is_in(sequences),
    }
}

/// Writes all marks by one statement.
async fn write_marks(tx: &DatabaseTransaction, marks: &[Published]) -> Result<(), StoreError> {
    let engine = tx.get_database_backend();
    let (given, values): (String, Vec<Value>) = if engine == DbBackend::Postgres {
        let records: Vec<Uuid> = marks.iter().map(|mark| mark.record).collect();
        let versions: Vec<i64> = marks.iter().map(|mark| mark.version).collect();
        let sequences: Vec<i64> = marks.iter().map(|mark| mark.sequence).collect();
        let given = "(SELECT * FROM UNNEST($1, $2, $3) AS given(column1, column2, column3))";
        (given.into(), vec![records.into(), versions.into(), sequences.into()])
    } else {
        let values = marks.iter().flat_map(|mark| [mark.record.into(), mark.version.into(), mark.sequence.into()]);
        // SQLite names the columns of `VALUES` column1, column2 and so on.
        (format!("(VALUES {})", vec!["(?, ?, ?)"; marks.len()].join(", ")), values.collect())
    };
    let sql = format!(
        "UPDATE changes SET stream_sequence = marks.column3 FROM {given} AS marks \
         WHERE changes.record = marks.column1 AND changes.version = marks.column2"
    );
    tx.execute_raw(Statement::from_sql_and_values(engine, sql, values)).await.map(drop)
}

/// Starts an update that removes marks.
fn unmark() -> UpdateMany<change::Entity> {
    change::Entity::update_many().col_expr(change::Column::StreamSequence, Expr::value(None::<i64>))
}

impl Journal {
    /// Counts changes that were committed before an instant and are still unpublished.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn unpublished_since(&self, before: DateTime<Utc>) -> Result<u64, JournalError> {
        Ok(change::Entity::find()
            .filter(change::Column::StreamSequence.is_null())
            .filter(change::Column::ReceivedAt.lt(before.timestamp_micros()))
            .count(self.store().reader())
            .await?)
    }

    /// Removes all marks, so that the sweep publishes everything again.
    pub(crate) async fn unpublish_all(&self) -> Result<(), StoreError> {
        let tx = self.store().begin().await?;
        unmark().filter(change::Column::StreamSequence.is_not_null()).exec(&tx).await?;
        tx.commit().await
    }

    /// Removes the marks of changes that the stream no longer contains. Returns the first sequence of the stream.
    pub(crate) async fn check_stream(&self, bus: &Bus) -> Result<u64, JournalError> {
        let stream = bus.stream(self.service()).await?;
        let info = stream.get_info().await?;
        let created = i64::try_from(info.created.unix_timestamp_nanos() / 1_000).unwrap_or_default();
        let (first, last) = (info.state.first_sequence.cast_signed(), info.state.last_sequence.cast_signed());
        let lost = self.unmark_lost(created, first, last).await?;
        if lost > 0 {
            tracing::warn!(service = self.service(), lost, "the broker lost changes; the relay publishes them again");
            self.reset_consumers(bus).await?;
        }
        Ok(info.state.first_sequence)
    }

    async fn unmark_lost(&self, created: i64, first: i64, last: i64) -> Result<u64, StoreError> {
        let published = change::Column::StreamSequence;
        let tx = self.store().begin().await?;
        let rows = cursor::Entity::find().filter(cursor::Column::Subscription.is_in([EPOCH, FIRST])).all(&tx).await?;
        let known: HashMap<&str, i64> = rows.iter().map(|row| (row.subscription.as_str(), row.position)).collect();
        let lost = if known.get(EPOCH) == Some(&created) {
            // The stream drops a message after `STREAM_AGE`. A younger one is only missing if someone removed it.
            let young = self.clock().now().timestamp_micros() - STREAM_AGE.as_micros() as i64;
            let old_first = known.get(FIRST).copied().unwrap_or(0);
            let removed = Condition::all()
                .add(published.gte(old_first))
                .add(published.lt(first))
                .add(change::Column::ReceivedAt.gt(young));
            let mut lost = unmark().filter(published.gt(last)).exec(&tx).await?.rows_affected;
            if old_first < first {
                lost += unmark().filter(removed).exec(&tx).await?.rows_affected;
            }
            lost
        } else {
            unmark().filter(published.is_not_null()).exec(&tx).await?.rows_affected
        };
        let row =
            |name: &str, position| cursor::ActiveModel { subscription: Set(name.to_owned()), position: Set(position) };
        if known.get(EPOCH) != Some(&created) || known.get(FIRST) != Some(&first) {
            let mut batch = SqlBatch::new(tx.get_database_backend());
            batch.upsert(vec![row(EPOCH, created), row(FIRST, first)]);
            batch.run(&tx).await?;
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Deletes the consumers, so that every subscription reads the stream from its start. After a truncation a consumer's position
    /// may be beyond the end of the stream, and it would skip the messages that get these sequences. Subscriptions skip changes
    /// that they have applied.
    pub(crate) async fn reset_consumers(&self, bus: &Bus) -> Result<(), JournalError> {
        let stream = bus.stream(self.service()).await?;
        let consumers: Vec<String> = stream.consumer_names().try_collect().await?;
        for consumer in consumers {
            stream.delete_consumer(&consumer).await?;
        }
        Ok(())
    }
}
