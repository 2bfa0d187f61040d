//! throughput at twice the capacity.

use crate::{
    Options,
    commands::{rename, renames},
    data,
    node::Node,
    table::{Must, Row, part},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::Code;

/// Maximum time that a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
const LINES: usize = 16;
/// Number of callers at the peak: the limit of concurrent calls per tenant.
const CALLERS: usize = 128;

#[derive(Default)]
struct Observed {
    done: AtomicUsize,
    refused: AtomicUsize,
    silent: AtomicUsize,
    refusals: Mutex<Vec<f64>>,
    answers: Mutex<Vec<f64>>,
}

///
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let node = Node::embedded(options, folder.path()).await?;
    data::enter(&node.steward().await?, options.records).await?;
    let lines = node.callers(&node.token(None, "steward")?, LINES).await?;
    renames(&lines, CALLERS, options, 0).await?;
    let (mut runs, mut notes) = (Vec::new(), Vec::new());
    for run in 1..=options.runs {
        let peak = renames(&lines, CALLERS, options, run).await?.rate;
        let seen = Arc::new(Observed::default());
        let began = Instant::now();
        // Long enough to fill the queues.
        let long = options.run() + PATIENCE;
        let mut sent = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while began.elapsed() < long {
            tick.tick().await;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let due = (began.elapsed().as_secs_f64() * peak * 2.0) as usize;
            while sent < due {
                let (line, seen, city) = (lines[sent % LINES].clone(), seen.clone(), sent % options.records);
                let name = format!("City {run}+{sent}");
                tokio::spawn(async move {
                    let asked = Instant::now();
                    let answer = tokio::time::timeout(PATIENCE, rename(line, city, name)).await;
                    let millis = asked.elapsed().as_secs_f64() * 1e3;
                    let keep = |list: &Mutex<Vec<f64>>| {
                        list.lock().unwrap_or_else(PoisonError::into_inner).push(millis);
                    };
                    match answer {
                        Ok(Ok(())) => {
                            if began.elapsed() < long {
                                seen.done.fetch_add(1, Ordering::Relaxed);
                            }
                            keep(&seen.answers);
                        }
                        Ok(Err(status)) if matches!(status.code(), Code::ResourceExhausted | Code::Unavailable) => {
                            seen.refused.fetch_add(1, Ordering::Relaxed);
                            keep(&seen.refusals);
                        }
                        _ => {
                            seen.silent.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
                sent += 1;
            }
        }
        let took = began.elapsed().as_secs_f64();
        runs.push((peak, seen.done.load(Ordering::Relaxed) as f64 / took));
        tokio::time::sleep(PATIENCE).await;
        let sorted = |list: &Mutex<Vec<f64>>, of| part(&mut list.lock().unwrap_or_else(PoisonError::into_inner), of);
        notes.push(format!(
            "{sent} sent, {} done in time, {} refused (p99 {:.0} ms), {} without an answer in {} s; done p50 {:.0} ms",
            seen.done.load(Ordering::Relaxed),
            seen.refused.load(Ordering::Relaxed),
            sorted(&seen.refusals, 0.99),
            seen.silent.load(Ordering::Relaxed),
            PATIENCE.as_secs(),
            sorted(&seen.answers, 0.5),
        ));
    }
    let mut row = Row::beside("Q-15", "commands done at twice the capacity, embedded", "/s", &runs)
        .must(Must::Least(0.9))
        .note("the floor is the peak rate of 128 callers just before; the load is made on the same cores");
    row.notes.extend(notes);
    Ok(vec![row])
}
