//! Look-ups by key use an index, even if PostgreSQL planned the statement while its tables were empty.
#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use fixture::{Brought, Fixture, enter, name, rename, request};
use futures::future::{try_join, try_join_all};
use hansa_journal::{
    Journal, Mirrors, Subscription,
    limits::{LOOKUP_BATCH_MAX, POSTGRES_CONNECTIONS, POSTGRES_READS, POSTGRES_WRITES},
};
use hansa_register_domain::{City, reference::CityReference};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use std::collections::BTreeMap;

/// Number of records: enough to tell a sequential scan from look-ups.
const RECORDS: usize = 2_000;
/// Number of records per look-up. PostgreSQL assumes ten array elements, and replans for fewer.
const TOGETHER: usize = 30;

/// Returns the number of rows that sequential scans have read so far, per table.
async fn read_whole(journal: &Journal) -> BTreeMap<String, i64> {
    let say = |sql: &str| Statement::from_string(DbBackend::Postgres, sql);
    // Each connection reports its statistics with a delay unless it is forced to. The sleep keeps every connection
    // busy, so that none runs the statement twice in place of another.
    let flush = "SELECT pg_stat_force_next_flush(), pg_sleep(0.1)";
    let reads = (0..POSTGRES_READS).map(|_| journal.store().reader().execute_raw(say(flush)));
    let writes = (0..POSTGRES_WRITES).map(|_| journal.store().writer().execute_raw(say(flush)));
    try_join(try_join_all(reads), try_join_all(writes)).await.unwrap();
    let mut all = Vec::new();
    for _ in POSTGRES_READS + POSTGRES_WRITES..POSTGRES_CONNECTIONS {
        all.push(journal.store().begin().await.unwrap());
    }
    for tx in all {
        tx.execute_raw(say("SELECT pg_stat_force_next_flush()")).await.unwrap();
        tx.commit().await.unwrap();
    }
    let query = "SELECT relname::text AS name, seq_tup_read AS read FROM pg_stat_user_tables \
                 WHERE schemaname = current_schema() AND relname IN ('mirrors', 'requests', 'records', 'changes')";
    let rows = journal.store().reader().query_all_raw(say(query)).await.unwrap();
    rows.iter().map(|row| (row.try_get("", "name").unwrap(), row.try_get("", "read").unwrap())).collect()
}

/// Renames cities, repeats the requests, applies the changes to the mirrors, and looks everything up.
async fn act(journal: &Journal, (subscription, source): (&Subscription, &mut Brought), turn: usize) {
    for repeated in [false, true] {
        let again = |n| {
            let command = rename(&format!("c{n}"), &format!("Name {turn}"));
            command.idempotent(request((turn << 32 | n) as u128, 1))
        };
        for answer in journal.submit_each((0..TOGETHER).map(again).collect(), false).await {
            assert_eq!(answer.unwrap().replayed, repeated);
        }
    }
    hear(journal, (subscription, source)).await;
    let ids: Vec<_> = (0..TOGETHER).map(|n| name(&format!("c{n}")).id.0).collect();
    let mirrors = Mirrors::<CityReference>::new(journal);
    assert_eq!(mirrors.get_each(&ids).await.unwrap().len(), TOGETHER);
    assert_eq!(mirrors.get_each(&ids[..2]).await.unwrap().len(), 2);
    assert_eq!(journal.load_each::<City>(&ids).await.unwrap().len(), TOGETHER);
}

async fn enter_all(journal: &Journal, which: std::ops::Range<usize>) {
    let one = |n| enter(&format!("c{n}"), "One").idempotent(request(1 << 100 | n as u128, 1));
    for answer in journal.submit_each(which.map(one).collect(), false).await {
        answer.unwrap();
    }
}

async fn hear(journal: &Journal, (subscription, source): (&Subscription, &mut Brought)) {
    journal.number_feed().await.unwrap();
    while subscription.step(source).await.unwrap() > 0 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn no_look_up_reads_a_whole_table() {
    let fixture = Fixture::postgres().await;
    let journal = &fixture.journal;
    let subscription = Subscription::new("plans", journal).mirror::<CityReference>();
    let mut source = Brought::of(journal);
    enter_all(journal, 0..TOGETHER).await;
    // PostgreSQL chooses a generic plan after a few executions.
    for turn in 1..20 {
        act(journal, (&subscription, &mut source), turn).await;
    }
    enter_all(journal, TOGETHER..RECORDS).await;
    hear(journal, (&subscription, &mut source)).await;
    let before = read_whole(journal).await;
    for turn in 20..30 {
        act(journal, (&subscription, &mut source), turn).await;
    }
    // The first look-up is batched with others, the second is too large and has its own statement.
    for few in [LOOKUP_BATCH_MAX, LOOKUP_BATCH_MAX + 1] {
        let ids: Vec<_> = (0..few).map(|n| name(&format!("c{n}")).id.0).collect();
        assert_eq!(Mirrors::<CityReference>::new(journal).get_each(&ids).await.unwrap().len(), few);
    }
    for (table, after) in read_whole(journal).await {
        let read = after - before[&table];
        assert!(read < RECORDS as i64, "{table}: sequential scans read {read} rows");
    }
}
