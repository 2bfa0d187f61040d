//! the system clock jumps back and forth while the program runs. The program loses nothing, does nothing twice,
//! and does not stall until the clock catches up.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_tests::{Dice, Load, Platform, Servers, clock::Clock};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// Offset of the program's clock at the start, in seconds. The clock must not fall behind the machine's time: the
/// tokens carry that time, and a clock behind it would see them as issued in the future.
const AHEAD: u32 = 7_200;
/// Offsets that the test sets one after the other, in seconds: back by one second, by half a minute and by ten minutes,
/// forward by five minutes, then back to the machine's time.
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
        // Unpublished changes must wait for the broker only, not for the clock.
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
