//! The worker that runs a subscription.

use crate::{
    inbox::{source::Source, subscription::Subscription},
    workers::worker::Worker,
};
use async_trait::async_trait;
use hansa_kernel::Refusal;

/// Applies what a source delivers to a subscription, one batch per step.
pub struct SubscriptionWorker {
    subscription: Subscription,
    source: Box<dyn Source>,
    /// Whether mirrors of an older shape have been looked for.
    is_refolded: bool,
}

impl std::fmt::Debug for SubscriptionWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriptionWorker").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

impl SubscriptionWorker {
    /// Creates the worker of a subscription.
    #[must_use]
    pub fn new(subscription: Subscription, source: Box<dyn Source>) -> Self {
        Self { subscription, source, is_refolded: false }
    }
}

#[async_trait]
impl Worker for SubscriptionWorker {
    fn name(&self) -> String {
        format!("subscription {}", self.subscription.name())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        if !self.is_refolded {
            self.subscription.refold(self.source.as_mut()).await?;
            self.is_refolded = true;
        }
        Ok(self.subscription.step(self.source.as_mut()).await?)
    }

    async fn rest(&mut self) {
        self.source.ready().await;
    }
}
