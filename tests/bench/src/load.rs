//! Closed-loop load: concurrent callers, each of which waits for its answer before its next call.

use hansa_tests::Caller;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::Status;

/// The result of one run.
#[derive(Debug)]
pub struct LoadResult {
    /// Answers per second.
    pub rate: f64,
    /// Latency of each call, in milliseconds.
    pub millis: Vec<f64>,
}

/// Returns the number of connections that `callers` share.
pub fn connections(callers: usize) -> usize {
    callers.div_ceil(16).clamp(1, 4)
}

/// Runs `callers` loops for `long`. `call` receives the connection, the loop's number, and the number of the loop's
/// earlier calls. The first error ends the run.
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

/// Calls once for each number below `count`, with `callers` concurrent callers. `call` receives the connection and the
/// number. The first error ends the run.
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

/// The order in which callers visit many records. Each caller has its own records, and no run visits the records of
/// another run as long as there are enough. A prime stride ensures that neighbours are not visited in sequence.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Number of records.
    pub records: usize,
    /// Number of callers that share the records.
    pub callers: usize,
    /// Number of runs that share the records.
    pub runs: usize,
}

/// Distance between two successive records of a walk, counted in the caller's own records.
const STRIDE: usize = 7_919;

impl Walk {
    fn own(&self) -> usize {
        (self.records / self.callers).max(1)
    }

    /// Returns the number of records that a caller visits in one run before it reaches those of the next run.
    pub fn fresh(&self) -> usize {
        self.own() / self.runs
    }

    /// Returns the record of a caller's call.
    pub fn at(&self, caller: usize, run: usize, turn: usize) -> usize {
        let step = run * self.fresh() + turn;
        (caller + step % self.own() * STRIDE % self.own() * self.callers) % self.records
    }
}
