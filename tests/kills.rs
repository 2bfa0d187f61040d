//! the test kills the program, PostgreSQL and nats-server at random moments under load. Each acknowledged command
//! took effect once, and every view equals a fold of its journal.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_tests::{Dice, Load, Platform, Servers, dice};
use sea_orm::{ConnectionTrait, Statement};
use std::{collections::BTreeMap, time::Instant};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const SECONDS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_1_the_program_is_killed_embedded() {
    let folder = tempfile::tempdir().unwrap();
    let mut platform = Platform::on(HANSA, &folder.path().join("data"), &[]).await;
    kill_again_and_again("embedded", &mut platform, None, &["hansa"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_1_the_program_and_its_servers_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start();
    let mut platform = Platform::on(HANSA, &folder.path().join("data"), &servers.settings()).await;
    let victims = ["hansa", "hansa", "postgres", "nats", "all"];
    kill_again_and_again("on servers", &mut platform, Some(&servers), &victims).await;
}

async fn kill_again_and_again(shape: &str, platform: &mut Platform, servers: Option<&Servers>, victims: &[&str]) {
    let seed = dice::seed(&format!("kills, {shape}"));
    let mut dice = Dice::of(seed);
    let mut load = Load::on(platform).await;
    let start = Instant::now();
    load.begin(platform, &mut dice);
    let mut kills: BTreeMap<&str, u64> = BTreeMap::new();
    while dice::goes_on("TEST_KILLS", kills.values().sum(), start, SECONDS) {
        // The wait is a number of acknowledgements. With zero the kill comes while the processes still start.
        let wait = dice.below(60).saturating_sub(10);
        load.more(wait).await;
        let victim = *dice.pick(victims);
        *kills.entry(victim).or_default() += 1;
        println!(
            "{shape}: {:.2} s: {victim}, with {} acknowledged",
            start.elapsed().as_secs_f64(),
            load.acknowledged()
        );
        kill(platform, servers, victim).await;
    }
    load.more(1).await;
    load.end().await;
    let (total, seconds): (u64, f64) = (kills.values().sum(), start.elapsed().as_secs_f64());
    let account = load.account();
    load.check(platform).await;
    platform.stop();
    load.examine(platform);
    folded_anew(platform, servers, &load).await;
    // Printed only if all checks pass.
    println!("{shape}: seed {seed}: {total} kills {kills:?} in {seconds:.1} s; {account}");
}

async fn kill(platform: &mut Platform, servers: Option<&Servers>, victim: &str) {
    let program = matches!(victim, "hansa" | "all");
    if program {
        platform.kill();
    }
    if let Some(servers) = servers {
        let names: Vec<&str> =
            ["postgres", "nats"].into_iter().filter(|name| [name, "all"].contains(&victim)).collect();
        names.iter().for_each(|name| servers.kill(name));
        names.iter().for_each(|name| servers.revive(name));
    }
    if program {
        platform.revive().await;
    }
}

/// Deletes all mirrors and cursors and lets the services build their mirrors again, which must give the same mirrors.
async fn folded_anew(platform: &mut Platform, servers: Option<&Servers>, load: &Load) {
    let readers = ["partnerships", "networks", "strategy"];
    let mut before = Vec::new();
    for reader in readers {
        before.push(mirrors(platform, reader).await);
        let db = platform.database(reader).await;
        for table in ["mirrors", "cursors"] {
            db.execute_unprepared(&format!("DELETE FROM {table}")).await.unwrap();
        }
        db.close().await.unwrap();
    }
    if let Some(servers) = servers {
        servers.kill("nats");
        std::fs::remove_dir_all(servers.nats_store()).unwrap();
        servers.revive("nats");
    }
    platform.revive().await;
    load.converge(platform).await;
    for (reader, before) in readers.into_iter().zip(before) {
        assert!(!before.is_empty());
        assert_eq!(
            mirrors(platform, reader).await,
            before,
            "the mirrors of {reader} differ from those that a fresh fold gives"
        );
    }
    platform.stop();
    load.examine(platform);
}

async fn mirrors(platform: &Platform, service: &'static str) -> BTreeMap<(String, uuid::Uuid), (i64, Vec<u8>)> {
    let db = platform.database(service).await;
    let sql = "SELECT collection, record, version, state FROM mirrors WHERE collection <> 'evaluations'";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    let read = |row: &sea_orm::QueryResult| {
        let key = (row.try_get("", "collection").unwrap(), row.try_get("", "record").unwrap());
        (key, (row.try_get("", "version").unwrap(), row.try_get("", "state").unwrap()))
    };
    let mirrors = rows.iter().map(read).collect();
    db.close().await.unwrap();
    mirrors
}
