//! What a service is to the program that runs it: a [`ServiceType`] in the list of the binary, which a [`ServiceBuilder`] opens as a
//! [`Module`].

use crate::{
    config::Config,
    handler::Handlers,
    policy::{Policies, Policy, PolicyError},
};
use anyhow::Context as _;
use hansa_journal::{Clock, Journal, JournalBuilder, NodeKeys, Store, StoreError, Subscription, View, Worker};
use hansa_kernel::Record;
use sea_orm_migration::MigratorTrait;
use std::{pin::Pin, sync::Arc};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

/// A service that a node can run.
#[derive(Clone, Copy, Debug)]
pub struct ServiceType {
    /// The name of its package, its database and its feed, such as `partnerships`.
    pub name: &'static str,
    /// Its policies.
    pub policies: Policies,
    /// Opens it.
    pub open: fn(ServiceContext) -> OpenFuture,
}

/// The future of an opening service.
pub type OpenFuture = Pin<Box<dyn Future<Output = anyhow::Result<Module>> + Send>>;

/// What a service needs to open.
#[derive(Clone)]
pub struct ServiceContext {
    /// The configuration, which says where the databases are.
    pub config: Arc<Config>,
    /// The node's keys.
    pub keys: NodeKeys,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ServiceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceContext").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ServiceContext {
    /// Opens the database of a service and applies its migrations, then opens the service.
    ///
    /// # Errors
    /// If the database is unreachable or cannot be migrated.
    pub async fn open<M: MigratorTrait>(self, service: ServiceBuilder) -> anyhow::Result<Module> {
        let store = match &self.config.database {
            Some(url) => Store::postgres::<M>(url, service.name).await.context("cannot use PostgreSQL")?,
            None => {
                let file = self.config.data.join(format!("{}.db", service.name));
                Store::sqlite::<M>(&file).await.with_context(|| format!("cannot use {}", file.display()))?
            }
        };
        Ok(service.open(store, self.keys, self.clock).await?)
    }
}

type MakeSubscription = fn(&Journal) -> Subscription;
type MakeWorkers = Box<dyn FnOnce(&Journal) -> Vec<Box<dyn Worker>> + Send>;
type MountGrpc = Box<dyn FnOnce(&mut RoutesBuilder, Handlers) + Send>;

/// Collects what a service consists of.
pub struct ServiceBuilder {
    name: &'static str,
    policies: Policies,
    journal: JournalBuilder,
    subscriptions: Vec<(&'static str, MakeSubscription)>,
    workers: Vec<MakeWorkers>,
    grpc: Vec<MountGrpc>,
}

impl std::fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ServiceBuilder {
    /// Starts to build a service.
    #[must_use]
    pub fn new(name: &'static str, policies: Policies) -> Self {
        let journal = Journal::builder(name);
        Self { name, policies, journal, subscriptions: Vec::new(), workers: Vec::new(), grpc: Vec::new() }
    }

    /// Adds a record type without a view.
    #[must_use]
    pub fn record<R: Record>(mut self) -> Self {
        self.journal = self.journal.record::<R>();
        self
    }

    /// Adds a view, and its record type.
    #[must_use]
    pub fn view<V: View>(mut self) -> Self
    where
        V::State: Record,
    {
        self.journal = self.journal.view::<V>();
        self
    }

    /// Adds a subscription to the changes of the service `owner`, which may be this service.
    #[must_use]
    pub fn subscription(mut self, owner: &'static str, subscription: fn(&Journal) -> Subscription) -> Self {
        self.subscriptions.push((owner, subscription));
        self
    }

    /// Adds background workers, such as those of work queues.
    #[must_use]
    pub fn workers(mut self, make: impl FnOnce(&Journal) -> Vec<Box<dyn Worker>> + Send + 'static) -> Self {
        self.workers.push(Box::new(make));
        self
    }

    /// Adds gRPC services to the routes of the server.
    #[must_use]
    pub fn grpc(mut self, mount: impl FnOnce(&mut RoutesBuilder, Handlers) + Send + 'static) -> Self {
        self.grpc.push(Box::new(mount));
        self
    }

    /// Returns the journal of the service, without the rest. For tests.
    #[must_use]
    pub fn into_journal(self) -> JournalBuilder {
        self.journal
    }

    /// Opens the service on a store whose migrations are applied.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open(self, store: Store, keys: NodeKeys, clock: Arc<dyn Clock>) -> Result<Module, StoreError> {
        let journal = self.journal.open(store, keys, clock).await?;
        let subscriptions = self.subscriptions.into_iter().map(|(owner, make)| (owner, make(&journal))).collect();
        let workers = self.workers.into_iter().flat_map(|make| make(&journal)).collect();
        Ok(Module { name: self.name, policies: self.policies, grpc: self.grpc, subscriptions, workers, journal })
    }
}

/// An open service: what it mounts and what runs in the background. The binary collects the modules and connects them.
pub struct Module {
    /// The name of the service.
    pub name: &'static str,
    /// Its journal.
    pub journal: Journal,
    /// Its policies.
    pub policies: Policies,
    /// Its subscriptions, each with the service whose changes it follows.
    pub subscriptions: Vec<(&'static str, Subscription)>,
    /// Its background workers, except those of the journal and of the subscriptions.
    pub workers: Vec<Box<dyn Worker>>,
    grpc: Vec<MountGrpc>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Module {
    /// Adds the gRPC services to the routes of the server. Can be called once; a second call adds nothing.
    pub fn mount(&mut self, routes: &mut RoutesBuilder, policy: &Arc<Policy>, drain: &CancellationToken) {
        let handlers = Handlers::new(self.journal.clone(), policy.clone(), drain.clone());
        for mount in std::mem::take(&mut self.grpc) {
            mount(routes, handlers.clone());
        }
    }

    /// Builds the policy table of some modules and of the chassis' own services.
    ///
    /// # Errors
    /// If a policy is malformed, names an unknown rpc, role or relation, or leaves an rpc without anyone who may call it.
    pub fn policy(modules: &[Self]) -> Result<Policy, PolicyError> {
        let mut policy = Policy::default();
        let own = modules.iter().flat_map(|module| module.policies);
        for (package, text) in crate::changes::POLICIES.iter().chain(own) {
            policy.add(package, text)?;
        }
        Ok(policy)
    }
}
