//! the clock of the machine jumps back and forth under the program that runs. Nothing is lost or done twice, and nothing
//! stands still until the clock has come to where it was.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_tests::{Dice, Load, Platform, Servers, clock::Clock};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// How far ahead the program's clock begins: tokens bear the machine's time, and are of the future to a clock behind it.
const AHEAD: u32 = 7_200;
/// How far ahead it is put: back by a second, by half a minute, by ten minutes, forward by five, and back by all the rest.
const JUMPS: [u32; 5] = [7_199, 7_169, 6_569, 6_869, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_a_clock_that_jumps_stops_nothing_embedded() {
    jumps(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_8_a_clock_that_jumps_stops_nothing_on_servers() {
    jumps(Some(Servers::start())).await;
}

async fn jumps(servers: Option<Servers>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::ahead(folder.path(), AHEAD);
    let settings = servers.as_ref().map(Servers::settings).unwrap_or_default();
    let data = folder.path().join("data");
    let mut platform = Platform::on_with(HANSA, &data, &settings, clock.variables()).await;
    let mut load = Load::on(&platform).await;
    load.begin(&platform, &mut Dice::new("clock"));
    load.more(30).await;
    for ahead in JUMPS {
        // What cannot be published now waits for the broker, and not for the clock.
        if let Some(servers) = &servers {
            servers.kill("nats");
            load.more(20).await;
        }
        clock.put(ahead);
        if let Some(servers) = &servers {
            servers.revive("nats");
        }
        load.more(40).await;
    }
    load.end().await;
    println!("{}", load.account());
    load.check(&platform).await;
    platform.stop();
    load.examine(&platform);
}
