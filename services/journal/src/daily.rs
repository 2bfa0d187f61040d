//! What is to be looked at again because a new day has begun: some things follow from the calendar alone.

use crate::{journal::Journal, worker::Worker};
use async_trait::async_trait;
use chrono::NaiveDate;
use hansa_kernel::Refusal;
use std::{future::Future, time::Duration};
use uuid::Uuid;

/// How often it is looked whether a new day has begun.
const LOOK_PERIOD: Duration = Duration::from_secs(60);

impl Journal {
    /// Puts on a queue what `find` answers for each new day, and for the day of the start: it may be new as well.
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
    done: Option<NaiveDate>,
}

#[async_trait]
impl<F, W> Worker for Daily<F>
where
    F: Fn(NaiveDate) -> W + Send + Sync,
    W: Future<Output = Result<Vec<Uuid>, Refusal>> + Send + 'static,
{
    fn name(&self) -> String {
        format!("daily look at queue {} of {}", self.queue, self.journal.service())
    }

    /// The day counts as not yet done where the database is away.
    async fn step(&mut self) -> Result<usize, Refusal> {
        let today = self.journal.clock().moment().today();
        if self.done == Some(today) {
            return Ok(0);
        }
        let keys = (self.find)(today).await?;
        let many = keys.len();
        if many > 0 {
            self.journal.mark(self.queue, keys).await?;
        }
        self.done = Some(today);
        Ok(many)
    }

    async fn rest(&mut self) {
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}
