//! a full disk, a folder that the program cannot write, an outage of the database or the broker, a stop under
//! load. The program reports the fault, recovers by itself, and loses nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::register::{GetCityRequest, RenameCityRequest, city_service_client::CityServiceClient};
use hansa_tests::{Caller, Dice, Load, Platform, Servers, budget, cities, eventually, request_id, rule};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

/// The test's own city. No caller of the load renames it.
const OWN: &str = "999";

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

/// Renames the test's own city.
async fn rename(steward: &Caller, to: &str) -> Result<(), Status> {
    let request = RenameCityRequest {
        name: cities::name(OWN),
        display_name: to.into(),
        correction: true,
        request_id: request_id(),
        ..Default::default()
    };
    steward.cities().rename_city(request).await.map(drop)
}

async fn name(reader: &Caller) -> Result<String, Status> {
    let request = GetCityRequest { name: cities::name(OWN), as_of_date: None };
    Ok(reader.cities().get_city(request).await?.into_inner().display_name)
}

/// Runs `hansa doctor`. Returns whether all checks pass, and the output.
fn doctor(platform: &Platform) -> (bool, String) {
    let output = platform.hansa(&["doctor", "--json"]).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Writes a shell script that runs the program. Returns its path.
fn script(folder: &TempDir, lines: &str) -> String {
    let path = folder.path().join("hansa.sh");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn r_8_a_folder_that_cannot_be_written_is_named() {
    // Not even root can create a folder in /proc.
    let output =
        Command::new(HANSA).args(["serve", "--listen", "127.0.0.1:0", "--data", "/proc/hansa"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/proc/hansa"), "{said}");
}

/// Limits the size of files that a running process may write, which simulates a full disk.
fn room(process: u32, bytes: &str) {
    let set = format!("import resource as r; r.prlimit({process}, r.RLIMIT_FSIZE, ({bytes}, r.RLIM_INFINITY))");
    let output = Command::new("python3").args(["-c", &set]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_a_full_disk_refuses_writes_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A write beyond the limit sends SIGXFSZ, which would end the program. A full disk sends no signal, so it is
    // ignored.
    let binary = script(&folder, &format!("trap '' XFSZ\nexec {HANSA} \"$@\""));
    let mut platform = Platform::on(&binary, &data(&folder), &[]).await;
    let mut dice = Dice::new("full disk");
    cities::enter(&platform, &[(OWN, "Own", "DE")], &[]).await;
    let mut load = Load::on(&platform).await;
    let steward = platform.steward();
    let start = Instant::now();
    let mut round = 0;
    while round < 3 || start.elapsed() < budget(0) {
        round += 1;
        load.begin(&platform, &mut dice);
        load.more(10 + dice.below(20)).await;
        // The next write fails, or one a few pages later.
        room(platform.processes()[0], &(dice.below(3) * 40_000).to_string());
        let full = eventually("the disk is full", async || rename(&steward, &request_id()).await.err()).await;
        assert_eq!((full.code(), rule(&full).as_str()), (Code::Unavailable, "PL-4"), "{full:?}");
        name(&steward).await.unwrap();
        room(platform.processes()[0], "r.RLIM_INFINITY");
        load.more(20).await;
        load.end().await;
        let to = format!("Round {round}");
        eventually("the rename succeeds again", async || rename(&steward, &to).await.ok()).await;
        assert_eq!(name(&steward).await.unwrap(), to);
    }
    println!("full disk, {round} times in {:.1} s: {}", start.elapsed().as_secs_f64(), load.account());
    load.check(&platform).await;
    platform.stop();
    load.examine(&platform);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_servers_go_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start();
    // NATS is not running when the program starts. The program serves anyway.
    servers.kill("nats");
    let start = Instant::now();
    let mut platform = Platform::on(HANSA, &data(&folder), &servers.settings()).await;
    println!("served without NATS after {:.1} s", start.elapsed().as_secs_f64());
    cities::enter(&platform, &[(OWN, "Own", "DE")], &[]).await;
    let (well, said) = doctor(&platform);
    assert!(!well && said.contains("no server responds"), "the doctor does not name the broker: {said}");
    servers.revive("nats");
    let mut dice = Dice::new("servers go and come back");
    let mut load = Load::on(&platform).await;
    load.converge(&platform).await;
    let (well, said) = doctor(&platform);
    assert!(well, "{said}");

    // PostgreSQL stops: callers get an error soon, and are served again once PostgreSQL is back.
    let steward = platform.steward();
    servers.kill("postgres");
    let start = Instant::now();
    let away = rename(&steward, "Away").await.unwrap_err();
    assert_eq!((away.code(), rule(&away).as_str()), (Code::Unavailable, "PL-4"), "{away:?}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(name(&steward).await.unwrap_err().code(), Code::Unavailable);
    println!("PostgreSQL down: refused after {:.1} s", start.elapsed().as_secs_f64());
    servers.revive("postgres");
    let start = Instant::now();
    eventually("the rename succeeds again", async || rename(&steward, "Back").await.ok()).await;
    println!("PostgreSQL back: served after {:.1} s", start.elapsed().as_secs_f64());

    // NATS stops: callers notice nothing, and the other services get the changes later.
    servers.kill("nats");
    load.begin(&platform, &mut dice);
    load.more(40).await;
    servers.revive("nats");
    load.more(10).await;
    load.end().await;
    load.check(&platform).await;
    platform.stop();
    load.examine(&platform);
}

/// Returns the answer of the health service for a name.
async fn health(address: &str, name: &str) -> ServingStatus {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let asked = HealthCheckRequest { service: name.into() };
    HealthClient::new(channel).check(asked).await.unwrap().into_inner().status()
}

/// Waits until the log says that the program waits for the database. Returns the address on which it listens.
async fn waiting(log: &Path) -> String {
    eventually("the log says that the program waits", async || {
        let said = fs::read_to_string(log).ok()?;
        let (_, rest) = said.split_once("waiting for the database").filter(|_| said.contains("listen="))?;
        Some(rest.split_once("listen=")?.1.split_whitespace().next()?.to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_a_database_that_is_away_at_the_start_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start();
    servers.kill("postgres");
    let (data, settings) = (data(&folder), servers.settings());
    let log = data.with_extension("log");
    let starting = tokio::spawn(async move { Platform::on(HANSA, &data, &settings).await });
    let address = waiting(&log).await;
    assert_eq!(
        health(&address, "").await,
        ServingStatus::NotServing,
        "a program without its database must not get calls"
    );
    assert_eq!(
        health(&address, "hansa.live").await,
        ServingStatus::Serving,
        "a program that waits for its database must not be restarted"
    );
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let told = CityServiceClient::new(channel).get_city(GetCityRequest::default()).await.unwrap_err();
    assert_eq!((told.code(), rule(&told).as_str()), (Code::Unavailable, "PL-4"), "{told:?}");
    servers.revive("postgres");
    let mut platform = starting.await.unwrap();
    assert_eq!(platform.address(), address);
    assert_eq!(health(&address, "").await, ServingStatus::Serving);
    cities::enter(&platform, &[(OWN, "Own", "DE")], &[]).await;
    assert_eq!(name(&platform.steward()).await.unwrap(), "Own");
    platform.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_who_waits_for_a_database_ends_when_told_to_and_on_what_no_waiting_cures() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start();
    let database = servers.database();
    let serve = |database: &str| {
        let mut command = Command::new(HANSA);
        command.args(["serve", "--listen", "127.0.0.1:0", "--nats", &servers.nats(), "--database", database]);
        command.arg("--data").arg(data(&folder));
        command
    };
    let none = format!("{}/nobody_made_it", database.rsplit_once('/').unwrap().0);
    let stranger = database.replace("hansa:", "hansa:not-");
    for wrong in [none, stranger] {
        let output = serve(&wrong).output().unwrap();
        assert!(!output.status.success(), "the program waits, although waiting cannot help");
    }
    servers.kill("postgres");
    let log = folder.path().join("waits.log");
    let mut waits = serve(&database).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    waiting(&log).await;
    assert!(Command::new("kill").args(["-TERM", &waits.id().to_string()]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || waits.wait());
    assert!(ended.await.unwrap().unwrap().success(), "the program exits with success");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_an_end_under_load_is_clean_embedded() {
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::on(HANSA, &data(&folder), &[]).await;
    ends_cleanly(platform).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_an_end_under_load_is_clean_on_servers() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start();
    let platform = Platform::on(HANSA, &data(&folder), &servers.settings()).await;
    ends_cleanly(platform).await;
}

/// Stops the program by SIGTERM under load. The program exits cleanly and in time, and keeps all acknowledged commands.
async fn ends_cleanly(mut platform: Platform) {
    let mut dice = Dice::new("ends");
    let mut load = Load::on(&platform).await;
    load.begin(&platform, &mut dice);
    for _ in 0..3 {
        load.more(10 + dice.below(30)).await;
        let start = Instant::now();
        platform.stop();
        println!("stopped after {:.2} s", start.elapsed().as_secs_f64());
        platform.revive().await;
    }
    load.more(5).await;
    load.end().await;
    println!("{}", load.account());
    load.check(&platform).await;
    platform.stop();
    load.examine(&platform);
}
