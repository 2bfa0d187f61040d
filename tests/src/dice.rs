//! Chance that can be had again, and how long a test may try its luck.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pseudo-random numbers (SplitMix64) from a seed that is printed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice with the seed of `TEST_SEED`, or a fresh one. Says how to run the test again with the same.
    #[must_use]
    pub fn new(test: &str) -> Self {
        Self(seed(test))
    }

    /// Dice with a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own, for a task beside.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.roll())
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    /// One of some.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The seed of `TEST_SEED`, or a fresh one. Says how to run the test again with the same.
#[must_use]
pub fn seed(test: &str) -> u64 {
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64 % 1_000_000_007);
    let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh);
    println!("{test}: again with TEST_SEED={seed}");
    seed
}

/// How long a test tries: a few seconds, or with `TEST_SOAK` (`make soak`) as many as that says.
#[must_use]
pub fn budget(seconds: u64) -> Duration {
    Duration::from_secs(std::env::var("TEST_SOAK").ok().and_then(|soak| soak.parse().ok()).unwrap_or(seconds))
}

/// Whether a test that began at `start` goes on: until it did something as often as a variable such as `TEST_KILLS` says, or
/// where there is none for its `budget`.
#[must_use]
pub fn goes_on(often: &str, done: u64, start: Instant, seconds: u64) -> bool {
    match std::env::var(often) {
        Ok(wanted) => done < wanted.parse().unwrap_or_else(|_| panic!("{often} is a number")),
        Err(_) => start.elapsed() < budget(seconds),
    }
}
