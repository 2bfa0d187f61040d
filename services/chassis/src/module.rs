//! What a service is to the program that runs it.

use crate::policy::{Policy, PolicyError};
use hansa_journal::{Journal, Worker, subscription::Subscription};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

/// Adds a service's gRPC services to the server's routes. Streams end when the token is cancelled, as draining begins.
pub type Mount = Box<dyn FnOnce(&mut RoutesBuilder, Arc<Policy>, CancellationToken) + Send>;

/// A running service: what it mounts and needs. The binary collects these and starts them.
pub struct Module {
    /// Its name, such as `partnerships`: of its package, its database, its feed.
    pub name: &'static str,
    /// Its journal.
    pub journal: Journal,
    /// Its packages and their policies.
    pub policies: &'static [(&'static str, &'static str)],
    /// Adds its gRPC services.
    pub mount: Mount,
    /// What it learns from others: the other's name, and how. Its own name means its own changes.
    pub subscriptions: Vec<(&'static str, Subscription)>,
    /// What goes on beside the calls, but for its timers and subscriptions.
    pub workers: Vec<Box<dyn Worker>>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Module {
    /// The policies of some modules, and the chassis' own.
    ///
    /// # Errors
    /// Where one does not hold.
    pub fn policy(modules: &[Self]) -> Result<Policy, PolicyError> {
        let mut policy = Policy::default();
        for (package, text) in crate::changes::POLICIES.iter().chain(modules.iter().flat_map(|module| module.policies))
        {
            policy.add(package, text)?;
        }
        Ok(policy)
    }
}
