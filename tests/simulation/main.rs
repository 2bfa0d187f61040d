//! a deterministic simulation of all services in one thread. A seeded scheduler runs them step by step and injects
//! faults between any two steps.
//!
//! The seed decides everything: the commands, the worker that takes the next step, the passage of time, the crashes
//! of the node, and the faults of the brokers. `TEST_SEED` repeats a failed seed and prints its steps. (Salts and
//! the random part of new ids do not come from the seed. They affect only names.)
//!
//! A crash ends the process, not the machine, so SQLite keeps every commit. `tests/kills.rs` kills real processes.
#![allow(clippy::unwrap_used, missing_docs)]

mod acts;
mod acts_of_partnerships;
mod acts_of_register;
mod acts_of_strategy;
mod broker;
mod checks;
mod judging;
mod ledger;
mod life;
mod outcomes;
mod world;

use hansa_tests::dice;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};
use world::{Beginning, Kinds, Log, World};

/// Duration of the simulation in `make test`, in seconds.
const SECONDS: u64 = 25;

/// Counters over all seeds.
#[derive(Default)]
struct Tally {
    seeds: AtomicU64,
    granted: AtomicU64,
    refused: AtomicU64,
    repeated: AtomicU64,
    crashes: AtomicU64,
    fired: AtomicU64,
    kinds: Kinds,
}

/// Runs a seed.
///
/// # Errors
/// The steps of the seed, if it fails.
fn run(beginning: &Beginning, seed: u64, tally: &Tally) -> Result<Log, Log> {
    let log = Log::default();
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::of(beginning, seed, log.clone(), tally.kinds.clone());
        let before = world.ledger.granted.len();
        world.live();
        let fired = checks::all(&world);
        let ledger = &world.ledger;
        tally.granted.fetch_add((ledger.granted.len() - before) as u64, Ordering::Relaxed);
        tally.fired.fetch_add(fired, Ordering::Relaxed);
        for (all, one) in
            [(&tally.refused, ledger.refused), (&tally.repeated, ledger.repeated), (&tally.crashes, ledger.crashes)]
        {
            all.fetch_add(one, Ordering::Relaxed);
        }
    }));
    tally.seeds.fetch_add(1, Ordering::Relaxed);
    lived.map(|()| log.clone()).map_err(|_| log)
}

fn print(log: &Log) {
    for (n, step) in log.lock().unwrap().iter().enumerate() {
        println!("{n:4} {step}");
    }
}

#[test]
fn r_5_whole_services_hold_with_faults_between_any_two_steps() {
    let again = std::env::var("TEST_SEED").is_ok() && std::env::var("TEST_SEEDS").is_err();
    let first = dice::seed("simulation");
    let (beginning, tally) = (Beginning::new(), Tally::default());
    if again {
        let lived = run(&beginning, first, &tally);
        print(lived.as_ref().unwrap_or_else(|log| log));
        assert!(lived.is_ok(), "seed {first} failed");
        return;
    }
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    // Each seed runs in one thread. Several seeds run in parallel.
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while failed.lock().unwrap().is_empty() {
                    let taken = next.fetch_add(1, Ordering::Relaxed);
                    if !dice::goes_on("TEST_SEEDS", taken, begun, SECONDS) {
                        break;
                    }
                    let seed = first + taken;
                    if let Err(log) = run(&beginning, seed, &tally) {
                        failed.lock().unwrap().push((seed, log));
                    }
                }
            });
        }
    });
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    println!(
        "{} seeds from {first} in {:.1} s: {} commands granted, {} refused, {} replayed; {} timer changes; {} crashes",
        count(&tally.seeds),
        begun.elapsed().as_secs_f64(),
        count(&tally.granted),
        count(&tally.refused),
        count(&tally.repeated),
        count(&tally.fired),
        count(&tally.crashes),
    );
    println!("changes by type: {:?}", tally.kinds.lock().unwrap());
    for (seed, log) in failed.lock().unwrap().iter() {
        print(log);
        println!("simulation: repeat with TEST_SEED={seed}");
    }
    assert!(failed.lock().unwrap().is_empty(), "a seed failed");
}
