//! The connections kept for single statements: their number, and their fate after an abandoned or failed statement.
#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use fixture::Fixture;
use futures::future::try_join_all;
use hansa_journal::{
    Connection, Store, is_away,
    limits::{POSTGRES_CONNECTIONS, POSTGRES_READS, POSTGRES_WRITES, SQLITE_CACHE_KIB},
};
use hansa_tests::{SOON, eventually};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};
use std::time::Instant;

/// An advisory lock of one test. The tests share a database.
#[derive(Clone, Copy)]
struct Lock(i32);

impl Lock {
    /// Returns a statement that waits for the lock.
    fn wait(self) -> Statement {
        say(&format!("SELECT pg_advisory_xact_lock_shared({})", self.0))
    }

    /// Begins a transaction that holds the lock.
    async fn held(self, store: &Store) -> DatabaseTransaction {
        let tx = store.begin().await.unwrap();
        tx.execute_raw(say(&format!("SELECT pg_advisory_xact_lock({})", self.0))).await.unwrap();
        tx
    }

    /// Waits until `expected` statements wait for the lock.
    async fn awaited(self, tx: &DatabaseTransaction, expected: u32) {
        let count = format!(
            "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND objid = {} AND NOT granted \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            self.0
        );
        let all = async || (number(tx, &count).await.unwrap() == expected.cast_signed()).then_some(());
        eventually("the statements wait for the lock", all).await;
    }
}

fn say(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

async fn number(db: &impl ConnectionTrait, sql: &str) -> Result<i32, DbErr> {
    db.query_one_raw(say(sql)).await?.unwrap().try_get_by_index(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_leave_connections_to_transactions() {
    let (f, lock) = (Fixture::postgres().await, Lock(4711));
    let tx = lock.held(f.journal.store()).await;
    let reader = f.journal.store().reader().clone();
    let all = (0..=POSTGRES_READS).map(|_| {
        let reader = reader.clone();
        async move { reader.execute_raw(lock.wait()).await }
    });
    let all = tokio::spawn(try_join_all(all));
    lock.awaited(&tx, POSTGRES_READS).await;
    let mut others = Vec::new();
    for _ in POSTGRES_READS + POSTGRES_WRITES + 1..POSTGRES_CONNECTIONS {
        others.push(f.journal.store().begin().await.unwrap());
    }
    lock.awaited(&tx, POSTGRES_READS).await;
    tx.commit().await.unwrap();
    assert_eq!(all.await.unwrap().unwrap().len(), POSTGRES_READS as usize + 1, "every statement gets a connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_answers_nobody_else() {
    let (f, lock) = (Fixture::postgres().await, Lock(4712));
    let reader: &Connection = f.journal.store().reader();
    for _ in 0..2 * POSTGRES_READS {
        let tx = lock.held(f.journal.store()).await;
        let left = tokio::spawn({
            let reader = reader.clone();
            async move { reader.query_all_raw(lock.wait()).await }
        });
        lock.awaited(&tx, 1).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        tx.commit().await.unwrap();
        for n in 0..3 {
            assert_eq!(number(reader, &format!("SELECT {n}")).await.unwrap(), n);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_keeps_its_place_until_it_is_done() {
    let (f, lock) = (Fixture::postgres().await, Lock(4713));
    let tx = lock.held(f.journal.store()).await;
    let left = (0..POSTGRES_READS).map(|_| {
        let reader = f.journal.store().reader().clone();
        tokio::spawn(async move { reader.query_all_raw(lock.wait()).await })
    });
    let left = Vec::from_iter(left);
    lock.awaited(&tx, POSTGRES_READS).await;
    for one in left {
        one.abort();
        assert!(one.await.unwrap_err().is_cancelled());
    }
    let reader = f.journal.store().reader().clone();
    let next = tokio::spawn(async move { number(&reader, "SELECT 7").await });
    for n in 0..50 {
        assert_eq!(number(&tx, &format!("SELECT {n}")).await.unwrap(), n);
    }
    assert!(!next.is_finished(), "the statement waits for a free connection");
    tx.commit().await.unwrap();
    assert_eq!(next.await.unwrap().unwrap(), 7);
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
    assert_eq!(number(store.reader(), pid).await.unwrap(), before, "the connection is kept");
    let tx = store.begin().await.unwrap();
    tx.execute_raw(say(&format!("SELECT pg_terminate_backend({before}, 5000)"))).await.unwrap();
    tx.commit().await.unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        match number(store.reader(), pid).await {
            Ok(now) => return assert_ne!(now, before),
            Err(error) => assert!(is_away(&error), "{error}"),
        }
        assert!(Instant::now() < deadline, "the connection is not replaced");
    }
}

#[tokio::test]
async fn of_a_file_so_many_pages_are_kept() {
    let f = Fixture::sqlite().await;
    let store = f.journal.store();
    for connection in [store.reader(), store.writer()] {
        let asked = Statement::from_string(DbBackend::Sqlite, "PRAGMA cache_size");
        let row = connection.query_one_raw(asked).await.unwrap().unwrap();
        // SQLite counts pages if the value is positive, and KiB if it is negative.
        assert_eq!(row.try_get_by_index::<i32>(0).unwrap(), -SQLITE_CACHE_KIB.cast_signed());
    }
}
