//! Load: callers that each wait for their answer, all at once, for a while.

use hansa_tests::Caller;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::Status;

/// What a run of some callers did.
#[derive(Debug)]
pub struct Done {
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
pub async fn closed<F, W>(lines: &[Caller], callers: usize, long: Duration, call: F) -> anyhow::Result<Done>
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
    Ok(Done { rate: millis.len() as f64 / began.elapsed().as_secs_f64(), millis })
}
