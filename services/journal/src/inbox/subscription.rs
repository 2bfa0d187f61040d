//! A subscription: applies the changes of another service once and in the order of each record (idempotent consumer).
//!
//! A subscription keeps [`mirror`]s of some collections. For each delivered change it compares the versions: a version that has
//! been applied is skipped; the next version is folded; if a version is missing, the changes in between are fetched from the owner
//! first. Mirrors, view rows, keys for work queues and the position commit in one transaction, and only then is the delivery
//! acknowledged. A change that cannot be folded puts its record into quarantine; other records proceed.
//!
//! There are two paths ([`apply`]). The optimistic path (PostgreSQL and broker) folds over cached mirrors and writes by one
//! statement, fenced by a token that every write increments. If another replica has written since, nothing is written, and the
//! locked path applies the deliveries under an advisory lock.
//!
//! Example: `strategy` mirrors agreements. An agreement is signed at version 7 while its mirror is at version 5. The subscription
//! fetches versions 6 and 7 from `partnerships`, folds both, and enqueues both cities for evaluation, in one transaction. If the
//! broker delivers version 7 again, it is skipped.
//!
//! Guarantees: every change of a mirrored record takes effect once and in order, on any number of replicas, also after the broker
//! lost messages or the process crashed between commit and acknowledgement.
//!
//! [`mirror`]: crate::inbox::mirror
//! [`apply`]: crate::inbox::apply

use crate::{
    inbox::{
        apply::Applier,
        batch::MirrorTypes,
        mirror::{Invalidates, MirrorType},
        mirror_cache::MirrorCache,
        source::{Delivery, Source},
    },
    journal::Journal,
    metrics,
    record::{erased::erased_view, view::View},
    store::{
        batch::SqlBatch,
        error::JournalError,
        tables::{cursor, mirror, quarantine},
    },
};
use hansa_kernel::{RecordId, RecordName, Reference};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What one service mirrors of another.
pub struct Subscription {
    name: &'static str,
    journal: Journal,
    types: MirrorTypes,
    /// Taken out while deliveries are applied and put back after the commit, so that a cancelled step leaves an empty cache.
    cache: Mutex<MirrorCache>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Subscription {
    /// Creates a subscription of the service that owns `journal`. The name is durable: it identifies cursor and consumer.
    #[must_use]
    pub fn new(name: &'static str, journal: &Journal) -> Self {
        Self { name, journal: journal.clone(), types: HashMap::new(), cache: Mutex::default() }
    }

    /// Mirrors a collection.
    #[must_use]
    pub fn mirror<S: Reference>(self) -> Self {
        self.add::<S>(None)
    }

    /// Mirrors a collection, and enqueues the keys that `invalidates` returns for each change of a mirror.
    #[must_use]
    pub fn mirror_invalidating<S: Reference>(self, invalidates: Invalidates<S>) -> Self {
        self.add(Some(invalidates))
    }

    fn add<S: Reference>(mut self, invalidates: Option<Invalidates<S>>) -> Self {
        self.types.insert(S::COLLECTION, Box::new(MirrorType::<S>::new(invalidates)));
        self
    }

    /// Adds a view of mirrors. The collection must have been added before.
    ///
    /// # Panics
    /// If the collection is not mirrored.
    #[must_use]
    pub fn view<V: View>(mut self) -> Self
    where
        V::State: Reference,
    {
        let mirror = self.types.get_mut(<V::State as Reference>::COLLECTION);
        mirror.expect("the view's collection is mirrored").add_view(erased_view::<V>());
        self
    }

    /// Returns the durable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the mirrored collections, sorted.
    pub(crate) fn collections(&self) -> Vec<&'static str> {
        let mut collections: Vec<&'static str> = self.types.keys().copied().collect();
        collections.sort_unstable();
        collections
    }

    /// If there are mirrors of an older revision, requests all changes again; they are folded from the first change, and other
    /// records skip what they have. Returns whether that was necessary.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the source or the database is unavailable.
    pub async fn refold(&self, source: &mut dyn Source) -> Result<bool, JournalError> {
        let store = self.journal.store();
        for (collection, mirror) in &self.types {
            let old = mirror::Entity::find()
                .filter(mirror::Column::Collection.eq(*collection))
                .filter(mirror::Column::Revision.ne(mirror.revision()))
                .one(store.reader())
                .await?;
            if old.is_some() {
                let tx = store.begin().await?;
                let start = cursor::ActiveModel { subscription: Set(self.name.to_owned()), position: Set(0) };
                let mut sql = SqlBatch::new(store.engine());
                sql.upsert(vec![start]);
                sql.run(&tx).await?;
                tx.commit().await?;
                *self.cache() = MirrorCache::default();
                source.rewind().await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the next changes and applies them. Returns how many changes it read.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the source or the database is unavailable. Changes that were not applied are delivered again.
    pub async fn step(&self, source: &mut dyn Source) -> Result<usize, JournalError> {
        let after = if source.by_position() { self.cached_position().await? } else { 0 };
        let deliveries = source.next(after).await?;
        if !deliveries.is_empty() {
            self.apply(source, &deliveries).await?;
        }
        source.acknowledge().await?;
        Ok(deliveries.len())
    }

    /// Reads the position of the subscription at its source.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn position(&self) -> Result<i64, JournalError> {
        let row = cursor::Entity::find_by_id(self.name).one(self.journal.store().reader()).await?;
        Ok(row.map_or(0, |row| row.position))
    }

    async fn cached_position(&self) -> Result<i64, JournalError> {
        let cached = self.cache().position;
        match cached {
            Some(position) => Ok(position),
            None => self.position().await,
        }
    }

    fn cache(&self) -> MutexGuard<'_, MirrorCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applier(&self) -> Applier<'_> {
        Applier { subscription: self.name, journal: &self.journal, types: &self.types }
    }

    async fn apply(&self, source: &mut dyn Source, deliveries: &[Delivery]) -> Result<(), JournalError> {
        let applier = self.applier();
        let is_mirrored = |delivery: &Delivery| applier.mirror_of(&delivery.envelope).is_some();
        if !source.by_position() && !deliveries.iter().any(is_mirrored) {
            return Ok(());
        }
        let cache = std::mem::take(&mut *self.cache());
        let applied = applier.apply(source, deliveries, cache).await?;
        *self.cache() = applied.cache;
        self.journal.core.pending.hand_over(applied.queues, applied.keys);
        let claimed = deliveries.iter().filter_map(|delivery| delivery.envelope.claim_time);
        if let Some(newest) = claimed.map(seconds).reduce(f64::max) {
            let now = self.journal.clock().now().timestamp_micros() as f64 / 1e6;
            metrics::lag(self.name, (now - newest).max(0.0));
        }
        Ok(())
    }

    /// Reads the records in quarantine, with the reasons.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn quarantined(&self) -> Result<Vec<quarantine::Model>, JournalError> {
        Ok(quarantine::Entity::find()
            .filter(quarantine::Column::Subscription.eq(self.name))
            .all(self.journal.store().reader())
            .await?)
    }

    /// Takes a record out of quarantine and folds the changes that it missed. If one fails again, the record returns to
    /// quarantine.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the source or the database is unavailable.
    pub async fn replay(&self, source: &mut dyn Source, record: RecordId) -> Result<(), JournalError> {
        *self.cache() = MirrorCache::default();
        let tx = self.journal.store().begin().await?;
        let key = (self.name.to_owned(), record.0);
        let Some(row) = quarantine::Entity::find_by_id(key.clone()).one(&tx).await? else { return Ok(()) };
        quarantine::Entity::delete_by_id(key).exec(&tx).await?;
        let name = RecordName::parse_any(&row.name, "record")?;
        let missed = source.history(&name, row.version.cast_unsigned() - 1).await?;
        let deliveries: Vec<Delivery> =
            missed.into_iter().map(|envelope| Delivery { position: 0, envelope, trace: None }).collect();
        self.applier().apply_in(&tx, source, &deliveries, MirrorCache::default()).await?;
        Ok(tx.commit().await?)
    }
}

fn seconds(time: prost_types::Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}
