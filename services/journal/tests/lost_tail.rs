//! losses of the stream that random faults do not produce. In the first test, the stream loses its tail and
//! grows beyond its old length before the relay checks it. The stream's state does not show this loss; the relay
//! detects it because two changes claim the same sequence. In the second test, the stream is emptied before a
//! subscription reads it.
#![allow(clippy::unwrap_used)]

mod fixture;

use async_nats::jetstream;
use fixture::{Fixture, enter, held, prefix};
use hansa_journal::{Bus, Relay};
use hansa_tests::Servers;
use sea_orm::{ConnectionTrait, Statement};
use std::{fs, path::Path, time::Duration};
use tokio_util::sync::CancellationToken;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

async fn submit(f: &Fixture, from: u32, to: u32) {
    let commands = (from..to).map(|n| enter(&format!("c{n}"), "x")).collect();
    assert!(f.journal.submit_each(commands, false).await.iter().all(Result::is_ok));
}

async fn all_published(f: &Fixture) {
    hansa_tests::eventually("everything is published", async || {
        let db = f.journal.store().reader();
        let sql = "SELECT COUNT(*) AS n FROM changes WHERE stream_sequence IS NULL";
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
        (row.try_get::<i64>("", "n").unwrap() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_2_a_lost_end_is_noticed_although_the_stream_is_long_again() {
    let servers = Servers::start();
    let f = Fixture::sqlite().await;
    let bus = Bus::connect(&servers.nats(), &f.node, 1).await.unwrap();
    let stop = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(&f.journal, &bus).run(stop.clone()));
    // Set the clock an hour ahead of the first changes, so that the sweep publishes everything that is still waiting.
    submit(&f, 0, 5).await;
    f.clock.set(fixture::start() + Duration::from_secs(3_600));
    all_published(&f).await;
    let (store, older) = (servers.nats_store(), tempfile::tempdir().unwrap());
    servers.kill("nats");
    copy(&store, older.path());
    servers.revive("nats");
    submit(&f, 5, 20).await;
    all_published(&f).await;

    servers.kill("nats");
    fs::remove_dir_all(&store).unwrap();
    copy(older.path(), &store);
    // These changes are published before the relay can check the stream. They take the sequences of the 15 lost
    // changes.
    submit(&f, 20, 220).await;
    servers.revive("nats");
    f.clock.set(fixture::start() + Duration::from_secs(7_200));
    all_published(&f).await;
    assert_eq!(held(&servers.nats(), &f.node).await.len(), 220, "the broker has every change");
    stop.cancel();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_2_what_someone_takes_out_is_put_in_again() {
    let servers = Servers::start();
    let f = Fixture::sqlite().await;
    let bus = Bus::connect(&servers.nats(), &f.node, 1).await.unwrap();
    let stop = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(&f.journal, &bus).run(stop.clone()));
    submit(&f, 0, 20).await;
    f.clock.set(fixture::start() + Duration::from_secs(3_600));
    all_published(&f).await;
    let name = format!("{}-register", prefix(&f.node));
    assert_eq!(held(&servers.nats(), &f.node).await.len(), 20);
    let context = jetstream::new(async_nats::connect(servers.nats()).await.unwrap());
    context.get_stream(&name).await.unwrap().purge().await.unwrap();
    hansa_tests::eventually("the broker has every change again", async || {
        let held = context.get_stream(&name).await.unwrap().cached_info().state.messages;
        (held >= 20).then_some(())
    })
    .await;
    assert_eq!(held(&servers.nats(), &f.node).await.len(), 20);
    stop.cancel();
    relay.await.unwrap();
}
