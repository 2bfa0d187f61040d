//! A deleted record leaves only a tombstone and its history (PL-8), on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, delete, enter, name, rename, request, rows, tenant};
use hansa_journal::{Delivery, JournalError, Mirrors, QueueKey, Source, Subscription};
use hansa_kernel::{ReasonClass, RecordId, RecordName, Relation};
use hansa_proto::types::ChangeEnvelope;
use hansa_register_domain::{City, reference::CityReference};

on_both!(
    pl_8_a_deleted_record_is_found_no_more_and_its_history_stays,
    pl_8_nothing_follows_a_tombstone,
    pl_8_a_deletion_sent_twice_has_effect_once,
    pl_8_a_rebuild_leaves_it_deleted,
    pl_8_copies_forget_what_is_deleted,
);

async fn pl_8_a_deleted_record_is_found_no_more_and_its_history_stays(f: Fixture) {
    let journal = &f.journal;
    for key in ["a", "b"] {
        journal.submit(enter(key, key), false).await.unwrap();
    }
    assert!(journal.submit(delete("a"), true).await.is_ok(), "a deletion can be validated");
    assert!(journal.load::<City>(&name("a")).await.unwrap().is_some(), "a validate-only deletion changes nothing");
    let done = journal.submit(delete("a"), false).await.unwrap();
    assert_eq!(done.version, 2);
    assert!(journal.load::<City>(&name("a")).await.unwrap().is_none());
    let ids = [name("a").id.0, name("b").id.0];
    assert_eq!(journal.load_each::<City>(&ids).await.unwrap().len(), 1);
    assert_eq!(rows(journal).await, ["b"]);
    let tombstone = journal.load_or_tombstone::<City>(&name("a")).await.unwrap().unwrap();
    assert_eq!(tombstone.deleted_at, Some(fixture::start()));
    assert_eq!(journal.relation(&name("a"), tenant(9)).await.unwrap(), Some(Relation::Public), "history stays public");
    let last = journal.history(name("a").id, 1, 10).await.unwrap().remove(0);
    assert_eq!(last.envelope.payload_type, "hansa.type.v1.Tombstone");
    journal.number_feed().await.unwrap();
    let feed = journal.feed(tenant(9), 0, 10).await.unwrap();
    assert_eq!(feed.last().unwrap().change.envelope.version, 2, "the tombstone reaches every reader of the feed");
    let again = f.again().await;
    assert!(again.load::<City>(&name("a")).await.unwrap().is_none(), "the record is deleted after a restart as well");
}

async fn pl_8_nothing_follows_a_tombstone(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    f.journal.submit(delete("a"), false).await.unwrap();
    for command in [rename("a", "Lugdunum"), enter("a", "Lyon"), delete("a")] {
        let refusal = f.journal.submit(command, false).await.unwrap_err();
        assert_eq!((refusal.class, refusal.rule), (ReasonClass::Deleted, "PL-8"));
    }
    assert_eq!(f.journal.load_or_tombstone::<City>(&name("a")).await.unwrap().unwrap().version, 2);
    let missing = f.journal.submit(delete("b"), false).await.unwrap_err();
    assert_eq!(missing.class, ReasonClass::NotFound);
}

async fn pl_8_a_deletion_sent_twice_has_effect_once(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let first = f.journal.submit(delete("a").idempotent(request(1, 1)), false).await.unwrap();
    let again = f.journal.submit(delete("a").idempotent(request(1, 1)), false).await.unwrap();
    assert!(again.replayed);
    assert_eq!(first.etag, again.etag);
}

async fn pl_8_a_rebuild_leaves_it_deleted(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    f.journal.submit(delete("a"), false).await.unwrap();
    let rebuilt = f.journal.rebuild(|_| ()).await.unwrap();
    assert_eq!((rebuilt.records, rebuilt.differing, rebuilt.broken), (1, vec![], vec![]));
    assert!(f.journal.load::<City>(&name("a")).await.unwrap().is_none());
    assert!(rows(&f.journal).await.is_empty());
}

fn invalidates(record: RecordId, before: Option<&CityReference>, after: Option<&CityReference>) -> Vec<QueueKey> {
    let queue = if before.is_some() && after.is_none() { "gone" } else { "there" };
    vec![(queue, record.0)]
}

/// A source that delivers the history of one record on each call.
struct Told(Vec<ChangeEnvelope>);

#[async_trait::async_trait]
impl Source for Told {
    async fn next(&mut self, _: i64) -> Result<Vec<Delivery>, JournalError> {
        let told = self.0.iter().zip(1..);
        Ok(told.map(|(change, position)| Delivery { position, envelope: change.clone(), trace: None }).collect())
    }

    async fn history(&self, _: &RecordName, _: u64) -> Result<Vec<ChangeEnvelope>, JournalError> {
        Ok(Vec::new())
    }

    async fn acknowledge(&mut self) -> Result<(), JournalError> {
        Ok(())
    }
}

async fn pl_8_copies_forget_what_is_deleted(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    f.journal.submit(delete("a"), false).await.unwrap();
    let history = f.journal.history(name("a").id, 0, 10).await.unwrap();
    let mut source = Told(history.into_iter().map(|change| change.envelope).collect());
    let subscription = Subscription::new("test", &f.journal).mirror_invalidating::<CityReference>(invalidates);
    let mirrors = Mirrors::<CityReference>::new(&f.journal);
    let tombstone = source.0.pop().unwrap();
    subscription.step(&mut source).await.unwrap();
    assert!(mirrors.get(name("a").id).await.unwrap().is_some());
    source.0.push(tombstone);
    for _ in 0..2 {
        subscription.step(&mut source).await.unwrap();
        assert!(mirrors.get(name("a").id).await.unwrap().is_none(), "a repeated delivery does not restore the record");
    }
    assert_eq!(f.journal.dirty("gone", 10).await.unwrap().len(), 1, "dependent records are marked for the work queue");
    assert!(subscription.quarantined().await.unwrap().is_empty());
    let after = ChangeEnvelope { version: 3, ..source.0[0].clone() };
    source.0.push(after);
    subscription.step(&mut source).await.unwrap();
    assert_eq!(subscription.quarantined().await.unwrap().len(), 1, "a change after the tombstone goes into quarantine");
}
