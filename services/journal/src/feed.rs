//! The feed of a service: what each tenant may follow, in one order, gap-free and resumable (PL-1, PL-3).

use crate::{
    journal::Journal,
    read::{PastChange, page},
    store::{Backend, StoreError, storage},
    tables::{change, feed},
    writer::PUBLIC,
};
use hansa_kernel::{Refusal, TenantId};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};
use std::collections::HashMap;
use uuid::Uuid;

/// Gives positions to what was committed since, in the order of insertion. A change that commits later gets a later
/// position, so a reader that remembers the highest it saw misses none.
const NUMBER: &str = "
    UPDATE feed SET position = numbered.position
    FROM (
        SELECT seq, (SELECT COALESCE(MAX(position), 0) FROM feed) + ROW_NUMBER() OVER (ORDER BY seq) AS position
        FROM feed WHERE position IS NULL ORDER BY seq LIMIT 10000
    ) AS numbered
    WHERE feed.seq = numbered.seq";

/// A change at its place in a feed.
#[derive(Clone, Debug)]
pub struct FeedEntry {
    /// Grows along the feed, with gaps.
    pub position: u64,
    /// The change.
    pub change: PastChange,
}

impl Journal {
    /// What a tenant may see, after a position.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn feed(&self, tenant: TenantId, after: u64, page_size: u64) -> Result<Vec<FeedEntry>, Refusal> {
        let db = self.inner.store.reader();
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let places = feed::Entity::find()
            .filter(feed::Column::Tenant.is_in([tenant.0, PUBLIC]))
            .filter(feed::Column::Position.gt(after))
            .order_by_asc(feed::Column::Position)
            .limit(page(page_size))
            .all(db)
            .await
            .map_err(|e| storage(&e))?;
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = crate::tables::change::these(places.iter().map(|place| (place.record, place.version)));
        let rows = change::Entity::find().filter(wanted).all(db).await.map_err(|e| storage(&e))?;
        let mut by_place: HashMap<(Uuid, i64), change::Model> =
            rows.into_iter().map(|row| ((row.record, row.version), row)).collect();
        places
            .into_iter()
            .filter_map(|place| {
                // One change can stand twice on a page, where the record became public; once is enough.
                let row = by_place.remove(&(place.record, place.version))?;
                let position = place.position.unwrap_or_default().cast_unsigned();
                Some(PastChange::read(row).map(|change| FeedEntry { position, change }))
            })
            .collect()
    }

    /// Numbers what was committed. One replica at a time does it; on SQLite the writer has done it already.
    /// Answers how many places were numbered.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn number_feed(&self) -> Result<u64, StoreError> {
        if self.inner.store.backend() == Backend::Sqlite {
            return Ok(0);
        }
        let tx = self.inner.store.begin().await?;
        let say = |sql: &str| Statement::from_string(tx.get_database_backend(), sql.to_owned());
        let free =
            tx.query_one_raw(say("SELECT pg_try_advisory_xact_lock(hashtext(current_schema() || '.feed')) AS free"));
        let free = free.await?.is_some_and(|row| row.try_get::<bool>("", "free").unwrap_or(false));
        let numbered = if free { tx.execute_raw(say(NUMBER)).await?.rows_affected() } else { 0 };
        tx.commit().await?;
        Ok(numbered)
    }
}
