//! whole services in one thread, moved by a scheduler that is nothing but a seed, with faults between any two steps.
//!
//! A seed decides all: who asks for what, which of the workers takes a step, when time passes, when the node is cut off, and
//! what a broker does to what it carries. So a seed that fails is run again with `TEST_SEED`, which also prints its steps.
//! (Salts and the random part of new ids are no part of the seed; nothing turns on them but names.)
//!
//! What is cut off is a process and not a machine: a commit of SQLite stands or does not. That it survives the machine as
//! well is shown elsewhere, with kills of real processes (`tests/kills.rs`).
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

/// Seconds that `make test` gives it.
const SECONDS: u64 = 25;

/// What all seeds together did.
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

/// Runs a seed. Answers its steps where it fails.
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
        assert!(lived.is_ok(), "seed {first} fails");
        return;
    }
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    // Each seed has one thread; some seeds run side by side.
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
        "{} seeds from {first} on in {:.1} s: {} commands granted, {} refused, {} repeated; {} changes by time; {} crashes",
        count(&tally.seeds),
        begun.elapsed().as_secs_f64(),
        count(&tally.granted),
        count(&tally.refused),
        count(&tally.repeated),
        count(&tally.fired),
        count(&tally.crashes),
    );
    println!("in all histories: {:?}", tally.kinds.lock().unwrap());
    for (seed, log) in failed.lock().unwrap().iter() {
        print(log);
        println!("simulation: again with TEST_SEED={seed}");
    }
    assert!(failed.lock().unwrap().is_empty(), "a seed fails");
}
