//! Reproducible random numbers, and time budgets of randomised tests.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pseudo-random numbers (SplitMix64) from a seed that is printed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Creates dice with the seed of `TEST_SEED`, or a new one. Prints how to repeat the test with the same seed.
    #[must_use]
    pub fn new(test: &str) -> Self {
        Self(seed(test))
    }

    /// Creates dice with a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Creates independent dice for a concurrent task.
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

    /// Returns a number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    /// Returns one element of `of`.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Returns the seed of `TEST_SEED`, or a new one. Prints how to repeat the test with the same seed.
#[must_use]
pub fn seed(test: &str) -> u64 {
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64 % 1_000_000_007);
    let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh);
    println!("{test}: repeat with TEST_SEED={seed}");
    seed
}

/// Returns the time budget of a test: `seconds`, or the seconds in `TEST_SOAK` (`make soak`).
#[must_use]
pub fn budget(seconds: u64) -> Duration {
    Duration::from_secs(std::env::var("TEST_SOAK").ok().and_then(|soak| soak.parse().ok()).unwrap_or(seconds))
}

/// Returns whether a test that began at `start` continues. If the variable `often` (such as `TEST_KILLS`) is set, the
/// test continues until `done` reaches its value, otherwise until its [`budget`] is used up.
#[must_use]
pub fn goes_on(often: &str, done: u64, start: Instant, seconds: u64) -> bool {
    match std::env::var(often) {
        Ok(wanted) => done < wanted.parse().unwrap_or_else(|_| panic!("{often} must be a number")),
        Err(_) => start.elapsed() < budget(seconds),
    }
}
