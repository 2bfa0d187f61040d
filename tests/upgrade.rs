//! this version opens data of earlier versions, and an operator can upgrade replicas one after the other under
//! load.
//!
//! `TEST_UPGRADE_FROM` names an earlier program with which the upgrade test starts. Without it the test starts with
//! this version.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_kernel::{Role, envelope};
use hansa_proto::{
    changes::ListChangesRequest,
    register::{CityRenamed, ListTenantsRequest, RenameCityRequest},
};
use hansa_tests::{
    Caller, Platform, SOON, Servers, cities,
    platform::{SERVICES, database_on},
    request_id,
};
use prost_reflect::prost::Message;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tonic::{Code, Status};
use uuid::Uuid;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// Number of callers of the load. Each caller renames a city of its own.
const CALLERS: usize = 6;

fn well(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn unpack(packed: &Path, folder: &Path) -> PathBuf {
    well(Command::new("tar").arg("xzf").arg(packed).arg("-C").arg(folder).output().unwrap());
    folder.join("data")
}

/// Returns the packed data folders of earlier versions, each with its description.
fn kept() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
    let packed = files.filter(|file| name(file).starts_with("data-folder-") && name(file).ends_with(".tar.gz"));
    let told = |file: &PathBuf| file.with_extension("").with_extension("json");
    packed.map(|file| (file.clone(), serde_json::from_slice(&fs::read(told(&file)).unwrap()).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_9_a_folder_of_an_earlier_version_is_opened_and_is_as_it_was() {
    let kept = kept();
    assert!(!kept.is_empty());
    for (packed, told) in kept {
        let folder = tempfile::tempdir().unwrap();
        let mut platform = Platform::on(HANSA, &unpack(&packed, folder.path()), &[]).await;
        as_it_was(&platform, told["records"].as_object().unwrap()).await;
        // A command works on the old data, and the old agreement still verifies.
        let tenants = platform.steward().tenants().list_tenants(ListTenantsRequest::default()).await.unwrap();
        let city = tenants.into_inner().tenants.into_iter().find(|tenant| !tenant.city.is_empty()).unwrap();
        let mayor = platform.caller(Some(&city.name), &[Role::Mayor]);
        rename(&mayor, &city.city, "Renamed", &request_id()).await.unwrap();
        let (server, token) =
            (format!("http://{}", platform.address()), platform.token_for(Some(&city.name), "observer", &[]));
        let (document, agreement) = (folder.path().join("agreement.json"), told["agreement"].as_str().unwrap());
        let to = document.to_str().unwrap();
        let arguments = ["export", agreement, "--server", &server, "--token", &token, "--output", to];
        well(platform.hansa(&arguments).output().unwrap());
        assert!(well(platform.hansa(&["verify", to]).output().unwrap()).contains("holds together"));
        platform.stop();
        well(platform.hansa(&["rebuild"]).output().unwrap());
        well(platform.hansa(&["doctor"]).output().unwrap());
    }
}

/// Returns the content of every file in a folder except the lock and SQLite's shared memory.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let kept = |file: &PathBuf| !file.ends_with("lock") && !file.to_string_lossy().ends_with("-shm");
    files.filter(kept).map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

/// Development versions stored other names and types. No version reads their data.
#[test]
fn r_9_a_folder_from_before_the_first_contract_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let data = unpack(&fixtures().join("before-contract-v1.tar.gz"), folder.path());
    let before = content(&data);
    assert!(before.keys().any(|file| file.ends_with("register.db")));
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"], &["rebuild"]] {
        let output = Command::new(HANSA).args(command).arg("--data").arg(&data).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command:?} opened it");
        assert!(said.contains("before contract v1") && said.contains("nothing was changed"), "{command:?}: {said}");
        assert!(content(&data) == before, "{command:?} changed the folder");
    }
}

/// Checks that each record exists with the same history up to the described version. The head is a hash over that
/// history.
async fn as_it_was(platform: &Platform, records: &serde_json::Map<String, Value>) {
    let mut seen = 0;
    for service in SERVICES {
        let db = platform.database(service).await;
        for (name, told) in records.iter().filter(|(_, told)| told[0] == service) {
            let id: Uuid = name.split_once('/').unwrap().1.parse().unwrap();
            let sql = "SELECT envelope FROM changes WHERE record = ? AND version = ?";
            let values = [id.into(), told[1].as_i64().unwrap().into()];
            let asked = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
            let row = db.query_one_raw(asked).await.unwrap().unwrap_or_else(|| panic!("{name} is gone"));
            let bytes: Vec<u8> = row.try_get("", "envelope").unwrap();
            assert_eq!(hex::encode(envelope::hash(&bytes)), told[2], "{name}");
            seen += 1;
        }
        db.close().await.unwrap();
    }
    assert!(seen > 100 && seen == records.len(), "{seen}");
}

async fn rename(steward: &Caller, city: &str, to: &str, id: &str) -> Result<(), Status> {
    let request = RenameCityRequest {
        name: city.into(),
        display_name: to.into(),
        correction: true,
        request_id: id.into(),
        ..Default::default()
    };
    steward.cities().rename_city(request).await.map(drop)
}

/// Counters of a load.
#[derive(Default)]
struct Account {
    done: AtomicUsize,
    retried: AtomicUsize,
    enough: AtomicBool,
}

/// Renames a city repeatedly. Retries each rename on the other replica with the same request id. Returns the number of
/// renames.
async fn load(replicas: [Caller; 2], city: String, account: Arc<Account>) -> usize {
    let mut done = 0;
    while !account.enough.load(Ordering::Relaxed) {
        let (id, to, deadline) = (request_id(), format!("{city} {done}"), Instant::now() + SOON);
        let mut tries = done;
        while let Err(status) = rename(&replicas[tries % 2], &city, &to, &id).await {
            let curable = matches!(status.code(), Code::Unavailable | Code::Aborted | Code::ResourceExhausted)
                // A status with a source comes from the client itself, for a broken connection.
                || status.source().is_some();
            assert!(curable && Instant::now() < deadline, "a retry does not help against {status:?}");
            account.retried.fetch_add(1, Ordering::Relaxed);
            tries += 1;
        }
        done += 1;
        account.done.fetch_add(1, Ordering::Relaxed);
    }
    done
}

/// Waits until the load has completed `count` more renames.
async fn more(account: &Account, count: usize) {
    let from = account.done.load(Ordering::Relaxed);
    hansa_tests::eventually("the load goes on", async || {
        (account.done.load(Ordering::Relaxed) >= from + count).then_some(())
    })
    .await;
}

/// Returns the names from the history of a city, in order.
async fn names(steward: &Caller, city: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListChangesRequest { parent: city.into(), page_size: 1_000, page_token };
        let page = steward.changes("register").list_changes(request).await.unwrap().into_inner();
        for change in page.changes.iter().filter(|change| change.payload_type.ends_with("CityRenamed")) {
            let payload = &change.payload.as_ref().unwrap().value;
            names.push(CityRenamed::decode(payload.as_slice()).unwrap().display_name);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_9_replicas_are_exchanged_under_load_and_no_command_fails_that_a_retry_does_not_cure() {
    let (folder, servers) = (tempfile::tempdir().unwrap(), Servers::start());
    let settings = ["--database".into(), database_on(&servers.database()).await, "--nats".into(), servers.nats()];
    let old = std::env::var("TEST_UPGRADE_FROM").unwrap_or_else(|_| HANSA.to_owned());
    let mut replicas = Vec::new();
    for name in ["one", "two"] {
        let data = folder.path().join(name);
        fs::create_dir_all(&data).unwrap();
        // Both processes are one node, so they share its key.
        let key = folder.path().join("one/node.key");
        if name == "two" {
            fs::copy(key, data.join("node.key")).unwrap();
        }
        replicas.push(Platform::on(&old, &data, &settings).await);
    }
    let keys: Vec<String> = (1..=CALLERS).map(|n| n.to_string()).collect();
    let rows: Vec<(&str, &str, &str)> = keys.iter().map(|key| (key.as_str(), "Lyon", "FR")).collect();
    cities::enter(&replicas[0], &rows, &[]).await;
    let account = Arc::new(Account::default());
    let callers = || [replicas[0].steward(), replicas[1].steward()];
    let loads: Vec<_> =
        keys.iter().map(|key| tokio::spawn(load(callers(), cities::name(key), account.clone()))).collect();
    more(&account, 60).await;
    for replica in &mut replicas {
        replica.stop();
        more(&account, 60).await;
        replica.become_program(HANSA);
        replica.revive().await;
        more(&account, 60).await;
    }
    account.enough.store(true, Ordering::Relaxed);
    let steward = replicas[1].steward();
    for (key, load) in keys.iter().zip(loads) {
        let (city, done) = (cities::name(key), load.await.unwrap());
        let expected: Vec<String> = (0..done).map(|n| format!("{city} {n}")).collect();
        assert_eq!(names(&steward, &city).await, expected, "each rename must take effect once, in order");
    }
    let (done, retried) = (account.done.load(Ordering::Relaxed), account.retried.load(Ordering::Relaxed));
    println!("{done} commands, {retried} retries");
    replicas.iter_mut().for_each(Platform::stop);
    well(replicas[0].hansa(&["rebuild"]).output().unwrap());
}
