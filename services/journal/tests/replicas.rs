//! several writers share one database, some transactions are slow, and readers still miss no change.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, enter, held, name, rename, request, tenant};
use hansa_journal::{Bus, Journal, NodeKeys, Relay};
use hansa_kernel::ReasonClass;
use hansa_tests::{Dice, budget};
use sea_orm::{ConnectionTrait, Statement};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use uuid::Uuid;

const SECONDS: u64 = 4;
const RECORDS: u64 = 30;
const WRITERS: u64 = 6;

/// A change by its record and version.
type Entry = (Uuid, i64);

/// Delays a third of the transactions between the insertion of a change and the commit. During the delay, the change
/// has its place in the insertion order, but readers cannot see it.
const SLOW: &str = "
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF abs(hashtext(pg_current_xact_id()::text)) % 3 = 0 THEN
            PERFORM pg_sleep(0.01 + abs(hashtext(pg_current_xact_id()::text)) % 60 / 1000.0);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER dawdle AFTER INSERT ON changes FOR EACH STATEMENT EXECUTE FUNCTION dawdle();";

async fn places(journal: &Journal, sql: &str) -> Vec<(i64, Entry)> {
    let db = journal.store().reader();
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    let read = |row: &sea_orm::QueryResult| {
        let at = row.try_get::<Option<i64>>("", "at").unwrap().unwrap_or_default();
        (at, (row.try_get("", "record").unwrap(), row.try_get("", "version").unwrap()))
    };
    rows.iter().map(read).collect()
}

/// Submits commands until `stop` is set. Returns the number of acknowledged commands.
async fn write(journal: Journal, writer: u64, mut dice: Dice, stop: &AtomicBool) -> u64 {
    let mut acknowledged = 0;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let record = if dice.below(3) == 0 { 0 } else { dice.below(RECORDS) };
        let key = format!("c{record}");
        let command = rename(&key, &format!("{writer} {n}")).idempotent(request(u128::from(writer << 32 | n), 1));
        match journal.submit(command, false).await {
            Ok(_) => acknowledged += 1,
            Err(refusal) => assert_eq!(refusal.class, ReasonClass::Stale, "{refusal}"),
        }
    }
    acknowledged
}

/// Locks some records' rows repeatedly, as a long transaction of an operator would.
async fn hold(journal: Journal, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let tx = journal.store().begin().await.unwrap();
        tx.execute_unprepared("SELECT * FROM records ORDER BY record LIMIT 5 FOR UPDATE").await.unwrap();
        tx.execute_unprepared("SELECT pg_sleep(0.15)").await.unwrap();
        tx.commit().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads changes after the highest sequence seen so far. This naive cursor must miss changes.
async fn naive(journal: Journal, done: &AtomicBool) -> BTreeSet<Entry> {
    let (mut after, mut seen) = (0, BTreeSet::new());
    loop {
        let last = done.load(Ordering::Relaxed);
        let sql = format!("SELECT seq AS at, record, version FROM changes WHERE seq > {after} ORDER BY seq LIMIT 200");
        let page = places(&journal, &sql).await;
        if page.is_empty() && last {
            return seen;
        }
        for (at, place) in page {
            after = at;
            seen.insert(place);
        }
        tokio::task::yield_now().await;
    }
}

/// Reads the feed as a caller does, while both replicas number it.
async fn follow(journal: Journal, other: Journal, done: &AtomicBool) -> Vec<(u64, Entry)> {
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let last = done.load(Ordering::Relaxed);
        let (one, two) = tokio::join!(journal.number_feed(), other.number_feed());
        one.unwrap();
        two.unwrap();
        let page = journal.feed(tenant(99), after, 200).await.unwrap();
        if page.is_empty() && last {
            return seen;
        }
        for entry in page {
            after = entry.position;
            let record = hansa_kernel::RecordName::parse_any(&entry.change.envelope.record, "record").unwrap().id.0;
            seen.push((entry.position, (record, i64::from(entry.change.envelope.version))));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_3_writers_of_two_replicas_and_slow_transactions() {
    let mut dice = Dice::new("replicas");
    let f = Fixture::postgres().await;
    let other = f.again().await;
    f.journal.store().reader().execute_unprepared(SLOW).await.unwrap();
    for n in 0..RECORDS {
        f.journal.submit(enter(&format!("c{n}"), "x"), false).await.unwrap();
    }
    let node = NodeKeys::from_secret(&Uuid::now_v7().as_u128().to_be_bytes().repeat(2).try_into().unwrap());
    let url = std::env::var("NATS_URL").expect("NATS_URL is not set: run these tests with `make test`");
    let relays = tokio_util::sync::CancellationToken::new();
    let mut relaying = Vec::new();
    for journal in [&f.journal, &other] {
        let bus = Bus::connect(&url, &node, 1).await.unwrap();
        relaying.push(tokio::spawn(Relay::new(journal, &bus).run(relays.clone())));
    }

    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let start = Instant::now();
    let writing = async {
        let writers = (0..WRITERS).map(|n| {
            let journal = if n % 2 == 0 { &f.journal } else { &other };
            write(journal.clone(), n, dice.fork(), &stop)
        });
        let writers: Vec<_> = writers.collect();
        let over = async {
            while start.elapsed() < budget(SECONDS) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stop.store(true, Ordering::Relaxed);
        };
        let (acknowledged, (), ()) =
            tokio::join!(futures::future::join_all(writers), hold(f.again().await, &stop), over);
        done.store(true, Ordering::Relaxed);
        acknowledged.into_iter().sum::<u64>()
    };
    let (acknowledged, naive, feed) =
        tokio::join!(writing, naive(f.again().await, &done), follow(f.journal.clone(), other.clone(), &done));

    let all = places(&f.journal, "SELECT seq AS at, record, version FROM changes").await;
    let all: BTreeSet<Entry> = all.into_iter().map(|(_, place)| place).collect();
    assert_eq!(all.len() as u64, acknowledged + RECORDS, "the journal contains exactly the acknowledged changes");

    let positions: Vec<u64> = feed.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (1..=all.len() as u64).collect::<Vec<_>>(), "each position occurs once, in order");
    let mut versions: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (position, (record, version)) in &feed {
        let before = versions.insert(*record, *version).unwrap_or(0);
        assert_eq!(*version, before + 1, "at {position}: each change of a record occurs once, in order");
    }
    let missed = all.difference(&naive).count();
    assert!(missed > 0, "the naive cursor missed nothing, so this test proves nothing");

    // The sweep publishes only changes that have waited for some time.
    f.clock.set(fixture::start() + Duration::from_secs(3_600));
    let published = published(&f.journal, &url, &node, &all).await;
    relays.cancel();
    futures::future::join_all(relaying).await;
    println!(
        "{} changes by {WRITERS} writers of 2 replicas in {:.1} s: feed and broker have all ({} messages), a naive cursor missed {missed}",
        all.len(),
        start.elapsed().as_secs_f64(),
        published,
    );
    let last = f.journal.load::<hansa_register_domain::City>(&name("c0")).await.unwrap().unwrap();
    assert_eq!(last.version.cast_signed(), versions[&name("c0").id.0]);
}

/// Waits until every change is marked as published, and checks that the stream contains all of them. Returns the
/// number of messages.
async fn published(journal: &Journal, url: &str, node: &NodeKeys, all: &BTreeSet<Entry>) -> usize {
    hansa_tests::eventually("everything is published", async || {
        let waiting = "SELECT seq AS at, record, version FROM changes WHERE stream_sequence IS NULL";
        places(journal, waiting).await.is_empty().then_some(())
    })
    .await;
    let marks = places(journal, "SELECT stream_sequence AS at, record, version FROM changes").await;
    let sequences: BTreeSet<i64> = marks.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences.len(), all.len(), "each change has its own sequence");
    let seen = held(url, node).await;
    assert_eq!(seen.len(), all.len(), "the broker has every change");
    seen.values().sum()
}

/// A replica decides on its cached state. If that state is outdated, its answer must still respect the other replica's
/// changes.
#[tokio::test(flavor = "multi_thread")]
async fn pl_4_what_a_replica_remembers_never_decides_alone() {
    let f = Fixture::postgres().await;
    let other = f.again().await;
    let first = f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    // The other replica changes the record. The first replica's cache does not notice.
    other.submit(rename("a", "Lugdunum").idempotent(request(1, 1)), false).await.unwrap();
    let newest = f.journal.submit(rename("a", "Lugudunum").if_match(&first.etag), false).await;
    assert_eq!(newest.unwrap_err().class, ReasonClass::Stale, "the other replica's change makes the etag stale");
    let newest = f.journal.submit(rename("a", "Lugudunum"), false).await.unwrap();
    assert_eq!(newest.version, 3);
    let by_head = other.submit(rename("a", "Lyon").if_match(&newest.etag), false).await.unwrap();
    assert_eq!(by_head.version, 4, "an etag that is newer than the cache is accepted");
    // An outcome without changes must be checked against the database, like a refusal.
    let idle = f.journal.submit(rename("a", "Lugudunum"), false).await.unwrap();
    assert_eq!(idle.version, 5, "the other replica had renamed the city");
    let again = f.journal.submit(rename("a", "Lugdunum").idempotent(request(1, 1)), false).await.unwrap();
    assert_eq!((again.version, again.replayed), (2, true), "a retry of the other replica's request is replayed");
    let once = f.journal.submit(rename("a", "Lyon").idempotent(request(1, 2)), false).await.unwrap_err();
    assert_eq!(once.class, ReasonClass::RequestIdReused);
    assert_eq!(f.journal.history(name("a").id, 0, 100).await.unwrap().len(), 5);
}
