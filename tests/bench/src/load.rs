//! Load: callers that each wait for their answer, all at once, for a while.

use hansa_tests::Caller;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::Status;

/// What a run of some callers did.
#[derive(Debug)]
pub struct LoadResult {
    /// Answers a second.
    pub rate: f64,
    /// How long each took, in milliseconds.
    pub millis: Vec<f64>,
}

/// How many connections so many callers share.
pub fn connections(callers: usize) -> usize {
    callers.div_ceil(16).clamp(1, 4)
}

/// Runs `callers` loops for `long`. `call` gets the connection, the loop's number and how often it has called before; the
/// first error ends the run.
pub async fn closed<F, W>(lines: &[Caller], callers: usize, long: Duration, call: F) -> anyhow::Result<LoadResult>
where
    F: Fn(Caller, usize, usize) -> W + Send + Sync + 'static,
    W: Future<Output = Result<(), Status>> + Send + 'static,
{
    let call = Arc::new(call);
    let began = Instant::now();
    let end = began + long;
    let mut loops = tokio::task::JoinSet::new();
    for number in 0..callers {
        let (line, call) = (lines[number % lines.len()].clone(), call.clone());
        loops.spawn(async move {
            let mut millis = Vec::new();
            let mut turn = 0;
            while Instant::now() < end {
                let asked = Instant::now();
                call(line.clone(), number, turn).await?;
                millis.push(asked.elapsed().as_secs_f64() * 1e3);
                turn += 1;
            }
            Ok::<_, Status>(millis)
        });
    }
    let mut millis = Vec::new();
    while let Some(ended) = loops.join_next().await {
        millis.extend(ended??);
    }
    Ok(LoadResult { rate: millis.len() as f64 / began.elapsed().as_secs_f64(), millis })
}

/// Calls once for each number below `count`, by so many callers at once. `call` gets the connection and the number; the first
/// error ends it.
pub async fn each<F, W>(lines: &[Caller], callers: usize, count: usize, call: F) -> anyhow::Result<()>
where
    F: Fn(Caller, usize) -> W + Send + Sync + 'static,
    W: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let call = Arc::new(call);
    let mut loops = tokio::task::JoinSet::new();
    for first in 0..callers {
        let (line, call) = (lines[first % lines.len()].clone(), call.clone());
        loops.spawn(async move {
            for number in (first..count).step_by(callers) {
                call(line.clone(), number).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(())
}

/// The way of callers through many records: each has records of its own, and no run comes to those of another run while
/// there are enough. A prime stride leads back and forth, so that neighbours are not met one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Records that there are.
    pub records: usize,
    /// Callers that share them.
    pub callers: usize,
    /// Runs that share them.
    pub runs: usize,
}

/// How far apart two records are that follow each other on a walk, in the caller's own ones.
const STRIDE: usize = 7_919;

impl Walk {
    fn own(&self) -> usize {
        (self.records / self.callers).max(1)
    }

    /// How many records a caller meets in one run before it comes to those of the next run.
    pub fn fresh(&self) -> usize {
        self.own() / self.runs
    }

    /// The record that a caller is at.
    pub fn at(&self, caller: usize, run: usize, turn: usize) -> usize {
        let step = run * self.fresh() + turn;
        (caller + step % self.own() * STRIDE % self.own() * self.callers) % self.records
    }
}
