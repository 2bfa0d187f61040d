//! Daily checks: some keys become due by the calendar alone.

use crate::{journal::Journal, workers::worker::Worker};
use async_trait::async_trait;
use chrono::NaiveDate;
use hansa_kernel::Refusal;
use std::{future::Future, time::Duration};
use uuid::Uuid;

/// How often the worker checks whether a new day has begun.
const CHECK_PERIOD: Duration = Duration::from_secs(60);

impl Journal {
    /// Creates a worker that enqueues the keys that `find` returns, once for each day and once at the start.
    #[must_use]
    pub fn daily<F, W>(&self, queue: &'static str, find: F) -> Box<dyn Worker>
    where
        F: Fn(NaiveDate) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Vec<Uuid>, Refusal>> + Send + 'static,
    {
        Box::new(Daily { journal: self.clone(), queue, find, done: None })
    }
}

struct Daily<F> {
    journal: Journal,
    queue: &'static str,
    find: F,
    /// The last day whose keys were enqueued.
    done: Option<NaiveDate>,
}

#[async_trait]
impl<F, W> Worker for Daily<F>
where
    F: Fn(NaiveDate) -> W + Send + Sync,
    W: Future<Output = Result<Vec<Uuid>, Refusal>> + Send + 'static,
{
    fn name(&self) -> String {
        format!("daily check for queue {} of {}", self.queue, self.journal.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        let today = self.journal.clock().moment().today();
        if self.done == Some(today) {
            return Ok(0);
        }
        let keys = (self.find)(today).await?;
        let count = keys.len();
        if count > 0 {
            self.journal.mark(self.queue, keys).await?;
        }
        self.done = Some(today);
        Ok(count)
    }

    async fn rest(&mut self) {
        tokio::time::sleep(CHECK_PERIOD).await;
    }
}
