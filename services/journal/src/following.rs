//! The work of a subscription: a step at a time, as long as the process lives.

use crate::{
    subscription::{Source, Subscription},
    worker::Worker,
};
use async_trait::async_trait;
use hansa_kernel::Refusal;

/// A subscription and where its changes come from.
pub(crate) struct Following {
    subscription: Subscription,
    source: Box<dyn Source>,
    /// Whether it was looked for mirrors of an older shape.
    refolded: bool,
}

impl Following {
    pub(crate) fn new(subscription: Subscription, source: Box<dyn Source>) -> Self {
        Self { subscription, source, refolded: false }
    }
}

#[async_trait]
impl Worker for Following {
    fn name(&self) -> String {
        format!("subscription {}", self.subscription.name())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        if !self.refolded {
            self.subscription.refold(self.source.as_mut()).await?;
            self.refolded = true;
        }
        self.subscription.step(self.source.as_mut()).await
    }

    async fn rest(&mut self) {
        self.source.ready().await;
    }
}
