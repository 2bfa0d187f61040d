//! Work that goes on beside the calls, a step at a time: timers, queues, subscriptions. A server runs each in a loop; a
//! simulation moves them by hand, so that anything may happen between two steps.

use crate::limits::WORKER_RETRY;
use async_trait::async_trait;
use hansa_kernel::Refusal;
use tokio_util::sync::CancellationToken;

/// Something that goes on by itself.
#[async_trait]
pub trait Worker: Send {
    /// What it does, for those who read logs.
    fn name(&self) -> String;

    /// Does what there is to do now. Answers how much that was. A step that is cut off, wherever that be, leaves nothing
    /// undone that the next one does not do.
    ///
    /// # Errors
    /// Where something that it needs is away. The next step tries again.
    async fn step(&mut self) -> Result<usize, Refusal>;

    /// Waits until there may be more to do.
    async fn rest(&mut self);
}

/// Lets it work until it is told to stop.
pub async fn run(mut worker: Box<dyn Worker>, stop: CancellationToken) {
    let name = worker.name();
    let work = async {
        loop {
            match worker.step().await {
                Ok(0) => worker.rest().await,
                Ok(_) => {}
                Err(refusal) => {
                    tracing::warn!(worker = name, %refusal, "waits");
                    tokio::time::sleep(WORKER_RETRY).await;
                }
            }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = work => {} }
}
