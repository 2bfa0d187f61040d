//! Workers: background work that proceeds in steps. A server runs each worker in a loop; the simulation calls the steps itself, so
//! that a fault can occur between any two of them.

use crate::limits::WORKER_RETRY;
use async_trait::async_trait;
use hansa_kernel::Refusal;
use tokio_util::sync::CancellationToken;

/// Background work.
#[async_trait]
pub trait Worker: Send {
    /// Returns a name for the log.
    fn name(&self) -> String;

    /// Does the work that is there now. Returns how many items it processed. A step may be cancelled at any await point; the next
    /// step then does what is left.
    ///
    /// # Errors
    /// If the database or the broker is unavailable. The next step tries again.
    async fn step(&mut self) -> Result<usize, Refusal>;

    /// Waits until there may be more work.
    async fn rest(&mut self);
}

/// Runs a worker until `stop` is cancelled.
pub async fn run_worker(mut worker: Box<dyn Worker>, stop: CancellationToken) {
    let name = worker.name();
    let work = async {
        loop {
            match worker.step().await {
                Ok(0) => worker.rest().await,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(worker = name, %error, "a step failed; the worker tries again");
                    tokio::time::sleep(WORKER_RETRY).await;
                }
            }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}
