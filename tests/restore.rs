//! R-9 in part: a platform restored from a copy has the state of the original. The copy is made while the platform is
//! stopped or while it runs.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_tests::{
    Dice, Load, Platform, Servers,
    platform::{SERVICES, database_on},
    servers::tool,
};
use sea_orm::{ConnectionTrait, Statement};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};
use uuid::Uuid;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

/// Returns version and head of every record of every service.
async fn heads(platform: &Platform) -> BTreeMap<Uuid, (i64, Vec<u8>)> {
    let mut heads = BTreeMap::new();
    for service in SERVICES {
        let db = platform.database(service).await;
        let sql = Statement::from_string(db.get_database_backend(), "SELECT record, version, head FROM records");
        for row in db.query_all_raw(sql).await.unwrap() {
            let head = (row.try_get("", "version").unwrap(), row.try_get("", "head").unwrap());
            heads.insert(row.try_get("", "record").unwrap(), head);
        }
        db.close().await.unwrap();
    }
    heads
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Runs load on a restored platform and checks the result.
async fn goes_on(mut platform: Platform, mut load: Load, dice: &mut Dice) {
    load.begin(&platform, dice);
    load.more(20).await;
    load.end().await;
    load.converge(&platform).await;
    platform.stop();
    load.examine(&platform);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_9_a_copy_of_a_stopped_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut platform = Platform::on(HANSA, &folder.path().join("data"), &[]).await;
    let mut dice = Dice::new("a copy of a stopped folder");
    let mut load = Load::on(&platform).await;
    load.begin(&platform, &mut dice);
    load.more(60).await;
    load.end().await;
    platform.stop();
    let before = heads(&platform).await;
    copy(platform.data(), &folder.path().join("copy"));
    drop(platform);
    let restored = Platform::on(HANSA, &folder.path().join("copy"), &[]).await;
    load.check(&restored).await;
    let after = heads(&restored).await;
    let changed = before.iter().filter(|(record, head)| after.get(record) != Some(head)).count();
    println!("{} records unchanged, {changed} changed by timers and workers since", before.len() - changed);
    assert!(before.iter().all(|(record, head)| after.get(record).is_some_and(|now| now == head || now.0 > head.0)));
    goes_on(restored, load, &mut dice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_9_a_copy_of_a_running_folder() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::on(HANSA, &folder.path().join("data"), &[]).await;
    let to = folder.path().join("copy");
    fs::create_dir_all(&to).unwrap();
    fs::copy(platform.data().join("node.key"), to.join("node.key")).unwrap();
    let mut dice = Dice::new("a copy of a running folder");
    let mut load = Load::on(&platform).await;
    load.begin(&platform, &mut dice);
    load.more(40).await;
    let before = heads(&platform).await;
    // Copies each reader before the services whose changes it reads, so that the copies of those services contain all
    // changes that the reader has applied.
    for service in SERVICES.into_iter().rev() {
        load.more(5).await;
        let db = platform.database(service).await;
        let file = to.join(format!("{service}.db"));
        db.execute_unprepared(&format!("VACUUM INTO '{}'", file.display())).await.unwrap();
        db.close().await.unwrap();
    }
    load.more(10).await;
    load.end().await;
    drop(platform);
    let mut restored = Platform::on(HANSA, &to, &[]).await;
    load.converge(&restored).await;
    let after = heads(&restored).await;
    assert!(before.iter().all(|(record, head)| after.get(record).is_some_and(|now| now == head || now.0 > head.0)));
    restored.stop();
    load.examine(&restored);
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_9_a_dump_of_a_running_database() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start();
    let mut platform = Platform::on(HANSA, &folder.path().join("data"), &servers.settings()).await;
    let mut dice = Dice::new("a dump of a running database");
    let mut load = Load::on(&platform).await;
    load.begin(&platform, &mut dice);
    load.more(40).await;
    load.end().await;
    load.converge(&platform).await;
    let before = heads(&platform).await;
    let dump = folder.path().join("dump.sql");
    run(Command::new(tool("pg_dump")).args(["--no-owner", "--file"]).arg(&dump).arg(servers.database()));
    platform.stop();

    // Restores into another database, with an empty broker.
    let elsewhere = database_on(&servers.database()).await;
    run(Command::new(tool("psql")).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&dump).arg(&elsewhere));
    servers.kill("nats");
    fs::remove_dir_all(servers.nats_store()).unwrap();
    servers.revive("nats");
    let to = folder.path().join("copy");
    copy(platform.data(), &to);
    drop(platform);
    let settings = ["--database".into(), elsewhere, "--nats".into(), servers.nats()];
    let restored = Platform::on(HANSA, &to, &settings).await;
    load.check(&restored).await;
    let after = heads(&restored).await;
    assert!(before.iter().all(|(record, head)| after.get(record).is_some_and(|now| now == head || now.0 > head.0)));
    goes_on(restored, load, &mut dice).await;
}
