//! What of the journal the broker has. Each published change is marked with its sequence in the stream.
//!
//! Two things tell what the broker has lost. The stream's own account: it was made anew, ends before a mark, or begins after
//! one that is younger than anything it may drop. And the marks: one sequence stands for one change, so where two claim the
//! same, the stream was cut off in between and one of them is not there any more.

use crate::{
    bulk::Writes,
    bus::{Bus, broker},
    journal::Journal,
    limits::{STREAM_AGE, SWEEP_AFTER, SWEEP_ROWS},
    store::{Backend, StoreError, storage},
    tables::{change, cursor},
};
use futures::TryStreamExt;
use hansa_kernel::Refusal;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Set, Statement, UpdateMany, Value,
    sea_query::{Expr, ExprTrait, extension::postgres::PgFunc},
};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// Where the journal keeps which stream it publishes to: the instant at which that was made.
const EPOCH: &str = "relay-stream-created";
/// And the sequence at which it began when it was last looked at.
const FIRST: &str = "relay-stream-first";
/// Changes that one statement marks.
const MARKED_AT_ONCE: usize = 1_000;

/// A change and its sequence in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub record: Uuid,
    pub version: i64,
    pub sequence: i64,
}

/// Changes that the broker does not have, oldest first. Other replicas pass over those that one has claimed.
pub(crate) async fn unpublished(
    tx: &DatabaseTransaction,
    backend: Backend,
    now: i64,
) -> Result<Vec<change::Model>, StoreError> {
    // What is of the future was written before the clock was put back: it need not wait until the clock is there again.
    let after = SWEEP_AFTER.as_micros() as i64;
    let received = change::Column::ReceivedAt;
    let query = change::Entity::find()
        .filter(change::Column::Published.is_null())
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

/// Marks changes with their sequence in the stream. Answers whether a sequence was claimed twice: both changes then count as
/// unpublished, and the stream has lost its end.
pub(crate) async fn mark(tx: &DatabaseTransaction, marks: &[Mark]) -> Result<bool, StoreError> {
    let mut twice = BTreeSet::new();
    for chunk in marks.chunks(MARKED_AT_ONCE) {
        let mut holder: HashMap<i64, (Uuid, i64)> = HashMap::with_capacity(chunk.len());
        for mark in chunk {
            let change = (mark.record, mark.version);
            if holder.insert(mark.sequence, change).is_some_and(|other| other != change) {
                twice.insert(mark.sequence);
            }
        }
        let others: Vec<(Uuid, i64, i64)> = change::Entity::find()
            .select_only()
            .columns([change::Column::Record, change::Column::Version, change::Column::Published])
            .filter(one_of(tx.get_database_backend(), holder.keys().copied()))
            .into_tuple()
            .all(tx)
            .await?;
        twice.extend(others.into_iter().filter(|(r, v, s)| holder.get(s) != Some(&(*r, *v))).map(|(_, _, s)| s));
        set(tx, chunk).await?;
    }
    if twice.is_empty() {
        return Ok(false);
    }
    forget().filter(change::Column::Published.is_in(twice)).exec(tx).await?;
    Ok(true)
}

/// That a change is marked with one of these. On PostgreSQL the statement is the same however many they are.
fn one_of(engine: DbBackend, sequences: impl IntoIterator<Item = i64>) -> Expr {
    match engine {
        DbBackend::Postgres => Expr::col(change::Column::Published).eq(PgFunc::any(Vec::from_iter(sequences))),
        _ => change::Column::Published.is_in(sequences),
    }
}

/// One statement for many.
async fn set(tx: &DatabaseTransaction, marks: &[Mark]) -> Result<(), StoreError> {
    let engine = tx.get_database_backend();
    let (given, values): (String, Vec<Value>) = if engine == DbBackend::Postgres {
        let records: Vec<Uuid> = marks.iter().map(|mark| mark.record).collect();
        let versions: Vec<i64> = marks.iter().map(|mark| mark.version).collect();
        let sequences: Vec<i64> = marks.iter().map(|mark| mark.sequence).collect();
        let given = "(SELECT * FROM UNNEST($1, $2, $3) AS given(column1, column2, column3))";
        (given.into(), vec![records.into(), versions.into(), sequences.into()])
    } else {
        let values = marks.iter().flat_map(|mark| [mark.record.into(), mark.version.into(), mark.sequence.into()]);
        // SQLite calls the columns of `VALUES` so.
        (format!("(VALUES {})", vec!["(?, ?, ?)"; marks.len()].join(", ")), values.collect())
    };
    let sql = format!(
        "UPDATE changes SET published = marks.column3 FROM {given} AS marks \
         WHERE changes.record = marks.column1 AND changes.version = marks.column2"
    );
    tx.execute_raw(Statement::from_sql_and_values(engine, sql, values)).await.map(drop)
}

fn forget() -> UpdateMany<change::Entity> {
    change::Entity::update_many().col_expr(change::Column::Published, Expr::value(None::<i64>))
}

impl Journal {
    /// How many changes the broker should have had by an instant, and has not.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn unpublished_since(&self, before: chrono::DateTime<chrono::Utc>) -> Result<u64, Refusal> {
        use sea_orm::PaginatorTrait;
        change::Entity::find()
            .filter(change::Column::Published.is_null())
            .filter(change::Column::ReceivedAt.lt(before.timestamp_micros()))
            .count(self.store().reader())
            .await
            .map_err(|e| storage(&e))
    }

    /// Counts everything as unpublished: someone needs all of it.
    pub(crate) async fn unpublish_all(&self) -> Result<(), StoreError> {
        let tx = self.store().begin().await?;
        forget().filter(change::Column::Published.is_not_null()).exec(&tx).await?;
        tx.commit().await
    }

    /// Looks whether the stream still holds what is marked, and takes the marks off what it does not. Answers where the stream
    /// begins.
    pub(crate) async fn check_stream(&self, bus: &Bus) -> Result<u64, Refusal> {
        let stream = bus.stream(self.service()).await?;
        let info = stream.get_info().await.map_err(|e| broker(&e))?;
        let created = i64::try_from(info.created.unix_timestamp_nanos() / 1_000).unwrap_or_default();
        let (first, last) = (info.state.first_sequence.cast_signed(), info.state.last_sequence.cast_signed());
        let lost = self.forget_lost(created, first, last).await.map_err(|e| storage(&e))?;
        if lost > 0 {
            tracing::warn!(service = self.service(), lost, "the broker lost changes; they are published again");
            self.begin_anew(bus).await?;
        }
        Ok(info.state.first_sequence)
    }

    async fn forget_lost(&self, created: i64, first: i64, last: i64) -> Result<u64, StoreError> {
        let published = change::Column::Published;
        let tx = self.store().begin().await?;
        let rows = cursor::Entity::find().filter(cursor::Column::Subscription.is_in([EPOCH, FIRST])).all(&tx).await?;
        let known: HashMap<&str, i64> = rows.iter().map(|row| (row.subscription.as_str(), row.position)).collect();
        let lost = if known.get(EPOCH) == Some(&created) {
            // Before its time, a message goes only where someone takes it out of the stream.
            let young = self.clock().now().timestamp_micros() - STREAM_AGE.as_micros() as i64;
            let before = known.get(FIRST).copied().unwrap_or(0);
            let taken = Condition::all()
                .add(published.gte(before))
                .add(published.lt(first))
                .add(change::Column::ReceivedAt.gt(young));
            let mut lost = forget().filter(published.gt(last)).exec(&tx).await?.rows_affected;
            if before < first {
                lost += forget().filter(taken).exec(&tx).await?.rows_affected;
            }
            lost
        } else {
            forget().filter(published.is_not_null()).exec(&tx).await?.rows_affected
        };
        let row =
            |name: &str, position| cursor::ActiveModel { subscription: Set(name.to_owned()), position: Set(position) };
        if known.get(EPOCH) != Some(&created) || known.get(FIRST) != Some(&first) {
            let mut writes = Writes::on(tx.get_database_backend());
            writes.upsert(vec![row(EPOCH, created), row(FIRST, first)]);
            writes.run(&tx).await?;
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Has every subscriber read the stream from its beginning. A consumer may be further than a stream that lost its end,
    /// and would pass over what takes those places; subscribers know what they have seen.
    pub(crate) async fn begin_anew(&self, bus: &Bus) -> Result<(), Refusal> {
        let stream = bus.stream(self.service()).await?;
        let consumers: Vec<String> = stream.consumer_names().try_collect().await.map_err(|e| broker(&e))?;
        for consumer in consumers {
            stream.delete_consumer(&consumer).await.map_err(|e| broker(&e))?;
        }
        Ok(())
    }
}
