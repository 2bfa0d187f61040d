//! the broker loses messages in several ways while the platform runs under load. The services converge without an
//! operator, and each change takes effect once.
#![allow(clippy::unwrap_used, missing_docs)]

use async_nats::jetstream;
use futures::TryStreamExt;
use hansa_tests::{Dice, Load, Platform, Servers, budget, platform::SERVICES};
use std::{fs, path::Path, time::Instant};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const SECONDS: u64 = 0;

/// The ways in which the broker loses data.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The broker is killed and starts with an empty store.
    Wiped,
    /// The broker starts with an older copy of its store: streams and consumers lack their latest part.
    CutOff,
    /// The broker starts with older streams, and with consumers that have read further than these streams go.
    StreamsCutOff,
    /// An operator purges the streams.
    Purged,
    /// An operator deletes the streams.
    Deleted,
    /// An operator deletes the streams and creates new ones with the same names.
    Recreated,
}

const LOSSES: [Loss; 6] =
    [Loss::Wiped, Loss::CutOff, Loss::StreamsCutOff, Loss::Purged, Loss::Deleted, Loss::Recreated];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_2_what_the_broker_loses_it_gets_again() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start();
    let mut platform = Platform::on(HANSA, &folder.path().join("data"), &servers.settings()).await;
    let mut dice = Dice::new("lost stream");
    let mut load = Load::on(&platform).await;
    let (start, budget) = (Instant::now(), budget(SECONDS));
    let mut round = 0;
    while round < LOSSES.len() || start.elapsed() < budget {
        let loss = if round < LOSSES.len() { LOSSES[round] } else { *dice.pick(&LOSSES) };
        let began = Instant::now();
        load.begin(&platform, &mut dice);
        load.more(10 + dice.below(20)).await;
        let copy = folder.path().join("copy");
        if matches!(loss, Loss::CutOff | Loss::StreamsCutOff) {
            copy_streams(&servers, &copy);
            load.more(10 + dice.below(30)).await;
        }
        lose(&servers, loss, &copy).await;
        load.more(10 + dice.below(30)).await;
        load.end().await;
        load.converge(&platform).await;
        println!("{loss:?}: converged, {:.1} s in all", began.elapsed().as_secs_f64());
        round += 1;
    }
    println!("{round} losses in {:.1} s; {}", start.elapsed().as_secs_f64(), load.account());
    load.check(&platform).await;
    platform.stop();
    load.examine(&platform);
}

fn copy_streams(servers: &Servers, to: &Path) {
    servers.kill("nats");
    let _ = fs::remove_dir_all(to);
    copy_folder(&servers.nats_store(), to, &|_| true);
    servers.revive("nats");
}

fn copy_folder(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, kept) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() && wanted(&path) {
            copy_folder(&path, &kept, wanted);
        } else if path.is_file() {
            fs::copy(&path, &kept).unwrap();
        }
    }
}

async fn lose(servers: &Servers, loss: Loss, copy: &Path) {
    let store = servers.nats_store();
    match loss {
        Loss::Wiped => {
            servers.kill("nats");
            fs::remove_dir_all(&store).unwrap();
            servers.revive("nats");
        }
        Loss::CutOff => {
            servers.kill("nats");
            fs::remove_dir_all(&store).unwrap();
            copy_folder(copy, &store, &|_| true);
            servers.revive("nats");
        }
        Loss::StreamsCutOff => {
            servers.kill("nats");
            // Restores the older messages and keeps the current consumers.
            let streams = folders(&store, "msgs");
            assert_eq!(streams.len(), SERVICES.len(), "{streams:?}");
            for messages in streams {
                fs::remove_dir_all(&messages).unwrap();
                let older = copy.join(messages.strip_prefix(&store).unwrap());
                copy_folder(&older, &messages, &|_| true);
            }
            servers.revive("nats");
        }
        Loss::Purged | Loss::Deleted | Loss::Recreated => {
            let context = jetstream::new(async_nats::connect(servers.nats()).await.unwrap());
            let names: Vec<String> = context.stream_names().try_collect().await.unwrap();
            assert_eq!(names.len(), SERVICES.len(), "{names:?}");
            for name in names {
                let stream = context.get_stream(&name).await.unwrap();
                match loss {
                    Loss::Purged => drop(stream.purge().await.unwrap()),
                    Loss::Deleted => drop(context.delete_stream(&name).await.unwrap()),
                    _ => {
                        let config = stream.cached_info().config.clone();
                        context.delete_stream(&name).await.unwrap();
                        // The platform may have created the stream already.
                        let _ = context.create_stream(config).await;
                    }
                }
            }
        }
    }
}

/// Returns the folders with a name, at any depth.
fn folders(under: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(under).unwrap().map_while(Result::ok).filter(|entry| entry.path().is_dir()) {
        if entry.file_name() == name { found.push(entry.path()) } else { found.extend(folders(&entry.path(), name)) }
    }
    found
}
