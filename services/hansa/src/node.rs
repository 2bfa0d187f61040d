//! A node: its key, its data folder, the services in this process, and the connections between them.

use anyhow::{Context, bail};
use hansa_chassis::{
    Config, Module, ServiceContext, ServiceType,
    auth_layer::AuthLayer,
    changes::{self, Changes},
    limits::MESSAGE_SIZES,
    policy::Policy,
    server,
    token::{Issuer, Verifier},
};
use hansa_journal::{
    Bus, Clock, JetStreamSource, Journal, JournalSource, NodeKeys, Relay, Source, Subscription, SubscriptionWorker,
    Worker, run_worker,
};
use hansa_proto::handlers::change_service;
use std::{collections::HashMap, fs, io::Write, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

/// All services of the platform.
pub const SERVICES: [ServiceType; 4] =
    [hansa_register::SERVICE, hansa_partnerships::SERVICE, hansa_networks::SERVICE, hansa_strategy::SERVICE];

/// Returns the names of all services, separated by commas.
fn service_names() -> String {
    SERVICES.map(|service| service.name).join(", ")
}

/// An opened node.
pub struct Node {
    /// The configuration.
    pub config: Config,
    /// The node's keys.
    pub keys: NodeKeys,
    /// The open services.
    pub modules: Vec<Module>,
    clock: Arc<dyn Clock>,
    /// The lock of the data folder, because only one process may write an SQLite file.
    lock: Option<fs::File>,
}

/// Reads the node's key, or generates it at the first start.
///
/// # Errors
/// If the file cannot be read or written, or is not a valid key.
pub fn keys(config: &Config) -> anyhow::Result<NodeKeys> {
    let file = config.node_key.clone().unwrap_or_else(|| config.data.join("node.key"));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    NodeKeys::open(&file).with_context(|| format!("cannot use the node's key {}", file.display()))
}

/// Locks the data folder in the embedded shape. Returns `None` if the data is in PostgreSQL.
fn lock(config: &Config) -> anyhow::Result<Option<fs::File>> {
    if config.database.is_some() {
        return Ok(None);
    }
    fs::create_dir_all(&config.data).with_context(|| format!("cannot create {}", config.data.display()))?;
    let file = config.data.join("lock");
    let mut lock = fs::File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file)
        .with_context(|| format!("cannot write to {}", config.data.display()))?;
    if lock.try_lock().is_err() {
        let holder = fs::read_to_string(&file).unwrap_or_default();
        bail!("{} is in use by another hansa {holder}. Call that server instead: --server URL.", config.data.display());
    }
    // The next process that finds the folder locked reads the holder from this file.
    lock.set_len(0)?;
    write!(lock, "(process {}, set to listen on {})", std::process::id(), config.listen)?;
    Ok(Some(lock))
}

impl Node {
    /// Opens the services named in `only`, or all services if the list is empty.
    ///
    /// # Errors
    /// If a service is unknown, the data folder is locked, the key cannot be used, or a database cannot be opened.
    pub async fn open(config: Config, only: &[String], clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let is_known = |name: &String| SERVICES.iter().any(|service| service.name == name);
        if let Some(other) = only.iter().find(|name| !is_known(name)) {
            bail!("there is no service `{other}`. The services are: {}", service_names());
        }
        let is_wanted = |service: &ServiceType| only.is_empty() || only.iter().any(|name| name == service.name);
        let services: Vec<ServiceType> = SERVICES.into_iter().filter(is_wanted).collect();
        if config.nats.is_none() && services.len() < SERVICES.len() {
            bail!("a process with only some services needs NATS. Add --database and --nats, or omit --only.");
        }
        let lock = lock(&config)?;
        let keys = keys(&config)?;
        let context = ServiceContext { config: Arc::new(config.clone()), keys: keys.clone(), clock: clock.clone() };
        let mut modules = Vec::with_capacity(services.len());
        for service in services {
            modules.push((service.open)(context.clone()).await?);
        }
        Ok(Self { config, keys, modules, clock, lock })
    }

    /// Returns the journal of a service, or `None` if this process has not opened the service.
    pub fn journal(&self, service: &str) -> Option<&Journal> {
        self.modules.iter().find(|module| module.name == service).map(|module| &module.journal)
    }

    fn verifier(&self) -> anyhow::Result<Verifier> {
        let mut verifier = Verifier::new(&self.keys, self.clock.clone());
        for other in &self.config.issuers {
            verifier.accept(other).with_context(|| format!("cannot accept the issuer {}", other.issuer))?;
        }
        Ok(verifier)
    }

    /// Splits the node into its routes and its background workers. `source` creates the source of a subscription's
    /// changes, given the subscription and the name of the service that it follows.
    ///
    /// # Errors
    /// If a source cannot be created.
    pub fn parts(
        self,
        policy: &Arc<Policy>,
        source: impl Fn(&Subscription, &'static str) -> anyhow::Result<Box<dyn Source>>,
        drain: &CancellationToken,
    ) -> anyhow::Result<Parts> {
        let journals: HashMap<&'static str, Journal> =
            self.modules.iter().map(|module| (module.name, module.journal.clone())).collect();
        let mut routes = RoutesBuilder::default();
        routes.add_service(change_service(Changes::new(journals, policy, drain), MESSAGE_SIZES));
        let mut workers = Vec::new();
        for mut module in self.modules {
            module.mount(&mut routes, policy, drain);
            workers.extend(module.journal.workers());
            workers.extend(module.workers);
            for (owner, subscription) in module.subscriptions {
                let source = source(&subscription, owner)?;
                workers.push(Box::new(SubscriptionWorker::new(subscription, source)));
            }
        }
        Ok(Parts { routes, workers, lock: self.lock })
    }

    /// Serves until `stop` is cancelled. Then first the calls end, and after them the background tasks.
    ///
    /// # Errors
    /// If the node cannot start, or a background task fails.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let policy: Arc<Policy> = Arc::new(Module::policy(&self.modules)?);
        let verifier = Arc::new(self.verifier()?);
        let auth = AuthLayer::new(verifier.clone(), policy.clone());
        let bus = bus(&self.config, &self.keys).await?;
        let background = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let fetching = tokio::spawn(async move { verifier.fetch_keys().await });
        let journals: Vec<Journal> = self.modules.iter().map(|module| module.journal.clone()).collect();
        for (journal, bus) in journals.iter().flat_map(|journal| bus.iter().map(move |bus| (journal, bus))) {
            tasks.spawn(Relay::new(journal, bus).run(background.clone()));
        }
        for journal in journals.iter().cloned() {
            let stopped = background.clone();
            tasks.spawn(async move {
                stopped.run_until_cancelled(journal.writer_ended()).await;
            });
        }
        let config = self.config.clone();
        let source = |subscription: &Subscription, owner| -> anyhow::Result<Box<dyn Source>> {
            if let Some(bus) = &bus {
                return Ok(Box::new(JetStreamSource::new(bus, owner, subscription)));
            }
            let journal = journals.iter().find(|journal| journal.service() == owner);
            Ok(Box::new(JournalSource::new(journal.with_context(|| format!("{owner} does not run here"))?)))
        };
        let Parts { routes, workers, lock: _lock } = self.parts(&policy, source, &stop)?;
        for worker in workers {
            tasks.spawn(run_worker(worker, background.clone()));
        }
        let serving = server::serve(&config, listener, routes, auth, stop.clone());
        let outcome = supervise(&mut tasks, serving, stop).await;
        fetching.abort();
        background.cancel();
        while tasks.join_next().await.is_some() {}
        outcome
    }
}

/// Serves while all background tasks run. A task that ends early has panicked: the process then drains and fails, so
/// that its supervisor restarts it. Otherwise a node could run without one of its tasks unnoticed.
async fn supervise(
    tasks: &mut JoinSet<()>,
    serving: impl Future<Output = anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = &mut serving => served,
        Some(_) = tasks.join_next() => {
            tracing::error!("a background task has ended; the process drains and must be restarted");
            stop.cancel();
            serving.await?;
            bail!("a background task failed; see the log")
        }
    }
}

/// Connects to the broker, if one is configured.
async fn bus(config: &Config, keys: &NodeKeys) -> anyhow::Result<Option<Bus>> {
    let Some(url) = &config.nats else { return Ok(None) };
    let bus = Bus::connect(url, keys, config.nats_replicas).await.context("cannot use NATS")?;
    if let Err(error) = bus.answers().await {
        tracing::warn!(error, "NATS is unavailable; the services start, and follow each other once NATS returns");
    }
    Ok(Some(bus))
}

/// The routes and background workers of a node.
pub struct Parts {
    /// The routes of the server.
    pub routes: RoutesBuilder,
    /// The background workers: timers, work queues, subscriptions.
    pub workers: Vec<Box<dyn Worker>>,
    /// The lock of the data folder; keep it while the node runs.
    pub lock: Option<fs::File>,
}

/// Returns the embedded issuer of tokens.
pub fn issuer(keys: &NodeKeys) -> Issuer {
    Issuer::new(keys)
}

/// Returns the policies of all services.
pub fn policies() -> Vec<(&'static str, &'static str)> {
    let services = SERVICES.iter().flat_map(|service| service.policies);
    services.chain(changes::POLICIES).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_ends_with_its_background_tasks() {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { panic!("a task that panics") });
        let draining = stop.clone();
        let serving = async move {
            draining.cancelled().await;
            Ok(())
        };
        assert!(supervise(&mut tasks, serving, stop).await.is_err(), "the process must fail with its task");
        // Without a failure, the server runs until it stops, and succeeds.
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        assert!(supervise(&mut tasks, async { Ok(()) }, CancellationToken::new()).await.is_ok());
    }
}
