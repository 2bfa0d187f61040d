//! Connections that are kept for statements: how many, and what becomes of one that did not do what was asked.
#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use fixture::Fixture;
use futures::future::try_join_all;
use hansa_journal::{
    Connection, Store, is_away,
    limits::{POSTGRES_CONNECTIONS, POSTGRES_READS, POSTGRES_WRITES},
};
use hansa_tests::{SOON, eventually};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};
use std::time::Instant;

/// Waits for whoever holds the lock.
const WAIT: &str = "SELECT pg_advisory_xact_lock_shared(4711)";
const HOLD: &str = "SELECT pg_advisory_xact_lock(4711)";

fn say(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

async fn number(db: &impl ConnectionTrait, sql: &str) -> Result<i32, DbErr> {
    db.query_one_raw(say(sql)).await?.unwrap().try_get_by_index(0)
}

/// A transaction that lets nobody through.
async fn held(store: &Store) -> DatabaseTransaction {
    let tx = store.begin().await.unwrap();
    tx.execute_raw(say(HOLD)).await.unwrap();
    tx
}

/// Waits until so many statements wait for the lock in this test's own database.
async fn waiting(tx: &DatabaseTransaction, expected: i32) {
    let count = "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("the statements wait", async || (number(tx, count).await.unwrap() == expected).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_leave_connections_to_transactions() {
    let f = Fixture::postgres().await;
    let tx = held(f.journal.store()).await;
    let reader = f.journal.store().reader().clone();
    let all = (0..=POSTGRES_READS).map(|_| {
        let reader = reader.clone();
        async move { reader.execute_raw(say(WAIT)).await }
    });
    let all = tokio::spawn(try_join_all(all));
    waiting(&tx, POSTGRES_READS.cast_signed()).await;
    let mut others = Vec::new();
    for _ in POSTGRES_READS + POSTGRES_WRITES + 1..POSTGRES_CONNECTIONS {
        others.push(f.journal.store().begin().await.unwrap());
    }
    waiting(&tx, POSTGRES_READS.cast_signed()).await;
    tx.commit().await.unwrap();
    assert_eq!(all.await.unwrap().unwrap().len(), POSTGRES_READS as usize + 1, "each has its turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_answers_nobody_else() {
    let f = Fixture::postgres().await;
    let reader: &Connection = f.journal.store().reader();
    for _ in 0..2 * POSTGRES_READS {
        let tx = held(f.journal.store()).await;
        let left = tokio::spawn({
            let reader = reader.clone();
            async move { reader.query_all_raw(say(WAIT)).await }
        });
        waiting(&tx, 1).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        tx.commit().await.unwrap();
        for n in 0..3 {
            assert_eq!(number(reader, &format!("SELECT {n}")).await.unwrap(), n);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_spoils_nothing() {
    let f = Fixture::postgres().await;
    let reader = f.journal.store().reader();
    for n in 0..3 {
        let error = number(reader, "SELECT 1 / 0").await.unwrap_err();
        assert!(!is_away(&error) && error.to_string().contains("division by zero"), "{error}");
        assert_eq!(number(reader, &format!("SELECT {n}")).await.unwrap(), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_ended_is_replaced() {
    let f = Fixture::postgres().await;
    let (store, pid) = (f.journal.store(), "SELECT pg_backend_pid()");
    let before = number(store.reader(), pid).await.unwrap();
    assert_eq!(number(store.reader(), pid).await.unwrap(), before, "it is kept");
    let tx = store.begin().await.unwrap();
    tx.execute_raw(say(&format!("SELECT pg_terminate_backend({before}, 5000)"))).await.unwrap();
    tx.commit().await.unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        match number(store.reader(), pid).await {
            Ok(now) => return assert_ne!(now, before),
            Err(error) => assert!(is_away(&error), "{error}"),
        }
        assert!(Instant::now() < deadline, "a new connection is made");
    }
}
