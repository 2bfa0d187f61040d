//! The feed of a service: the changes that each tenant may follow, in one order, gap-free and resumable (PL-1, PL-3).

use crate::{
    journal::Journal,
    read::records::{PastChange, page_size},
    store::{
        Backend,
        error::{JournalError, StoreError},
        tables::{change, feed},
    },
    write::append::PUBLIC_FEED,
};
use hansa_kernel::{Refused, TenantId};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};
use std::collections::HashMap;
use uuid::Uuid;

/// Assigns positions to the committed entries that have none, in the order of insertion. An entry that commits later gets a
/// higher position, so a reader that remembers the highest position it saw misses none.
const ASSIGN_POSITIONS: &str = "
    UPDATE feed SET position = numbered.position
    FROM (
        SELECT seq, (SELECT COALESCE(MAX(position), 0) FROM feed) + ROW_NUMBER() OVER (ORDER BY seq) AS position
        FROM feed WHERE position IS NULL ORDER BY seq LIMIT 10000
    ) AS numbered
    WHERE feed.seq = numbered.seq";

/// A change at its position in the feed.
#[derive(Clone, Debug)]
pub struct FeedEntry {
    /// Grows along the feed of a tenant, with gaps.
    pub position: u64,
    /// The change.
    pub change: PastChange,
}

impl Journal {
    /// Reads a page of a tenant's feed after a position. A page size of 0 stands for `PAGE_DEFAULT`; it is capped at `PAGE_MAX`.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn feed(&self, tenant: TenantId, after: u64, size: u64) -> Result<Vec<FeedEntry>, JournalError> {
        let db = self.store().reader();
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let entries = feed::Entity::find()
            .filter(feed::Column::Tenant.is_in([tenant.0, PUBLIC_FEED]))
            .filter(feed::Column::Position.gt(after))
            .order_by_asc(feed::Column::Position)
            .limit(page_size(size))
            .all(db)
            .await?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = change::these(entries.iter().map(|entry| (entry.record, entry.version)));
        let rows = change::Entity::find().filter(wanted).all(db).await?;
        let mut changes: HashMap<(Uuid, i64), change::Model> =
            rows.into_iter().map(|row| ((row.record, row.version), row)).collect();
        let entries = entries.into_iter().filter_map(|entry| {
            // If the record became public, one change can be on a page twice. The first entry is enough.
            let row = changes.remove(&(entry.record, entry.version))?;
            let position = entry.position.unwrap_or_default().cast_unsigned();
            Some(PastChange::from_row(row).map(|change| FeedEntry { position, change }))
        });
        Ok(entries.collect::<Refused<_>>()?)
    }

    /// Assigns positions to committed entries; an advisory lock admits one replica at a time. On SQLite the writer has assigned
    /// them already. Returns how many entries got a position.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn number_feed(&self) -> Result<u64, StoreError> {
        if self.store().backend() == Backend::Sqlite {
            return Ok(0);
        }
        let tx = self.store().begin().await?;
        let statement = |sql: &str| Statement::from_string(tx.get_database_backend(), sql.to_owned());
        let lock = statement("SELECT pg_try_advisory_xact_lock(hashtext(current_schema() || '.feed')) AS free");
        let locked = tx.query_one_raw(lock).await?.is_some_and(|row| row.try_get::<bool>("", "free").unwrap_or(false));
        let numbered = if locked { tx.execute_raw(statement(ASSIGN_POSITIONS)).await?.rows_affected() } else { 0 };
        tx.commit().await?;
        Ok(numbered)
    }
}
