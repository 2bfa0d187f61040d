//! A node in this process: its key, its data folder, its services, and how they learn of each other.

use anyhow::{Context, bail};
use hansa_chassis::{
    Config, Module,
    changes::Changes,
    guard::Guard,
    policy::Policy,
    server,
    token::{Issuer, Verifier},
};
use hansa_journal::{
    Bus, Clock, Journal, NodeKeys, Relay, Store, StreamSource, Worker,
    subscription::{JournalSource, Source, Subscription},
    worker,
};
use sea_orm_migration::MigratorTrait;
use std::{collections::HashMap, fs, io::Write, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

/// All services. "All" is only this list.
pub const SERVICES: [&str; 4] =
    [hansa_register::NAME, hansa_partnerships::NAME, hansa_networks::NAME, hansa_strategy::NAME];

/// An opened node.
pub struct Node {
    /// Its configuration.
    pub config: Config,
    /// Its keys.
    pub keys: NodeKeys,
    /// Its services.
    pub modules: Vec<Module>,
    clock: Arc<dyn Clock>,
    /// Held while the folder is in use: one process writes a file.
    lock: Option<fs::File>,
}

/// The node's key: made at the first start.
pub fn keys(config: &Config) -> anyhow::Result<NodeKeys> {
    let file = config.node_key.clone().unwrap_or_else(|| config.data.join("node.key"));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    NodeKeys::open(&file).with_context(|| format!("cannot use the node's key {}", file.display()))
}

fn lock(config: &Config) -> anyhow::Result<Option<fs::File>> {
    if config.database.is_some() {
        return Ok(None);
    }
    fs::create_dir_all(&config.data).with_context(|| format!("cannot make {}", config.data.display()))?;
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
        bail!("{} is in use by another hansa {holder}. Talk to it instead: --server URL.", config.data.display());
    }
    // Who is refused reads here who holds the folder.
    lock.set_len(0)?;
    write!(lock, "(process {}, set to listen on {})", std::process::id(), config.listen)?;
    Ok(Some(lock))
}

async fn store<M: MigratorTrait>(config: &Config, service: &'static str) -> anyhow::Result<Store> {
    match &config.database {
        Some(url) => Store::postgres::<M>(url, service).await.context("PostgreSQL cannot be used"),
        None => {
            let file = config.data.join(format!("{service}.db"));
            Store::sqlite::<M>(&file).await.with_context(|| format!("{} cannot be used", file.display()))
        }
    }
}

async fn module(config: &Config, name: &str, keys: &NodeKeys, clock: &Arc<dyn Clock>) -> anyhow::Result<Module> {
    let (keys, clock) = (keys.clone(), clock.clone());
    Ok(match name {
        hansa_register::NAME => {
            hansa_register::open(store::<hansa_register::Migrator>(config, hansa_register::NAME).await?, keys, clock)
                .await?
        }
        hansa_partnerships::NAME => {
            let store = store::<hansa_partnerships::Migrator>(config, hansa_partnerships::NAME).await?;
            hansa_partnerships::open(store, keys, clock).await?
        }
        hansa_networks::NAME => {
            hansa_networks::open(store::<hansa_networks::Migrator>(config, hansa_networks::NAME).await?, keys, clock)
                .await?
        }
        hansa_strategy::NAME => {
            hansa_strategy::open(store::<hansa_strategy::Migrator>(config, hansa_strategy::NAME).await?, keys, clock)
                .await?
        }
        other => bail!("there is no service `{other}`. There are: {}", SERVICES.join(", ")),
    })
}
impl Node {
    /// Opens the services named in `only`, all where it is empty.
    pub async fn open(config: Config, only: &[String], clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        if let Some(other) = only.iter().find(|name| !SERVICES.contains(&name.as_str())) {
            bail!("there is no service `{other}`. There are: {}", SERVICES.join(", "));
        }
        let wanted = |name: &&str| only.is_empty() || only.iter().any(|one| one == name);
        let names: Vec<&str> = SERVICES.into_iter().filter(wanted).collect();
        if config.nats.is_none() && names.len() < SERVICES.len() {
            bail!(
                "a service of its own needs NATS to learn of the others. Give --database and --nats, or leave --only out."
            );
        }
        let lock = lock(&config)?;
        let keys = keys(&config)?;
        let mut modules = Vec::with_capacity(names.len());
        for name in names {
            modules.push(module(&config, name, &keys, &clock).await?);
        }
        Ok(Self { config, keys, modules, clock, lock })
    }

    /// The journal of a service that is open.
    pub fn journal(&self, service: &str) -> Option<&Journal> {
        self.modules.iter().find(|module| module.name == service).map(|module| &module.journal)
    }

    fn verifier(&self) -> anyhow::Result<Verifier> {
        let mut verifier = Verifier::of(&self.keys, self.clock.clone());
        for other in &self.config.issuers {
            verifier.accept(other).with_context(|| format!("the issuer {} cannot be accepted", other.issuer))?;
        }
        Ok(verifier)
    }

    /// Takes the node apart: the calls that it answers, and what goes on beside. `source` says where a subscription's
    /// changes come from: its name, and the service that it learns from.
    ///
    /// # Errors
    /// Where a source cannot be had.
    pub fn parts(
        self,
        policy: &Arc<Policy>,
        source: impl Fn(&Subscription, &'static str) -> anyhow::Result<Box<dyn Source>>,
        drain: &CancellationToken,
    ) -> anyhow::Result<Parts> {
        let journals: HashMap<&'static str, Journal> =
            self.modules.iter().map(|module| (module.name, module.journal.clone())).collect();
        let mut routes = RoutesBuilder::default();
        routes.add_service(Changes::server(journals, policy.clone(), drain.clone()));
        let mut workers = Vec::new();
        for module in self.modules {
            (module.mount)(&mut routes, policy.clone(), drain.clone());
            workers.extend(module.journal.workers());
            workers.extend(module.workers);
            for (from, subscription) in module.subscriptions {
                let source = source(&subscription, from)?;
                workers.push(subscription.following(source));
            }
        }
        Ok(Parts { routes, workers, lock: self.lock })
    }

    /// Serves until `stop` is cancelled, and ends cleanly: calls first, then what goes on beside.
    ///
    /// # Errors
    /// Where it cannot begin to.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let policy: Arc<Policy> = Arc::new(Module::policy(&self.modules)?);
        let verifier = Arc::new(self.verifier()?);
        let guard = Guard::new(verifier.clone(), policy.clone());
        let bus = bus(&self.config, &self.keys).await?;
        let beside = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let asking = tokio::spawn(async move { verifier.ask_issuers().await });
        let journals: Vec<Journal> = self.modules.iter().map(|module| module.journal.clone()).collect();
        for (journal, bus) in journals.iter().flat_map(|journal| bus.iter().map(move |bus| (journal, bus))) {
            tasks.spawn(Relay::of(journal, bus).run(beside.clone()));
        }
        for journal in journals.iter().cloned() {
            let stopped = beside.clone();
            tasks.spawn(async move {
                stopped.run_until_cancelled(journal.writer_ended()).await;
            });
        }
        let config = self.config.clone();
        let source = |subscription: &Subscription, from| -> anyhow::Result<Box<dyn Source>> {
            if let Some(bus) = &bus {
                return Ok(Box::new(StreamSource::of(bus, from, subscription)));
            }
            let owner = journals.iter().find(|journal| journal.service() == from);
            Ok(Box::new(JournalSource::of(owner.with_context(|| format!("{from} is not run here"))?)))
        };
        let Parts { routes, workers, lock: _lock } = self.parts(&policy, source, &stop)?;
        for one in workers {
            tasks.spawn(worker::run(one, beside.clone()));
        }
        let serving = server::serve(&config, listener, routes, guard, stop.clone());
        let outcome = watch_over(&mut tasks, serving, stop).await;
        asking.abort();
        beside.cancel();
        while tasks.join_next().await.is_some() {}
        outcome
    }
}

/// Serves while what goes on beside does so. None of it ends before it is told to: where one does, something in it panicked,
/// and the process ends as well, cleanly, so that what supervises it starts it again. Half a node would go unnoticed.
async fn watch_over(
    tasks: &mut JoinSet<()>,
    serving: impl Future<Output = anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = &mut serving => served,
        Some(_) = tasks.join_next() => {
            tracing::error!("what goes on beside the calls has ended: draining, to be started again");
            stop.cancel();
            serving.await?;
            bail!("a part of the program failed, see the log")
        }
    }
}

/// The broker, where there is one.
async fn bus(config: &Config, keys: &NodeKeys) -> anyhow::Result<Option<Bus>> {
    let Some(url) = &config.nats else { return Ok(None) };
    let bus = Bus::connect(url, keys, config.nats_replicas).await.context("NATS cannot be used")?;
    if let Err(why) = bus.answers().await {
        tracing::warn!(why, "NATS is away: serving all the same; the services hear of each other once it is there");
    }
    Ok(Some(bus))
}

/// A node taken apart.
pub struct Parts {
    /// The calls that it answers.
    pub routes: RoutesBuilder,
    /// What goes on beside: timers, queues, subscriptions.
    pub workers: Vec<Box<dyn Worker>>,
    /// Held while the folder is in use.
    pub lock: Option<fs::File>,
}

/// A token of the node's own issuer.
pub fn issuer(keys: &NodeKeys) -> Issuer {
    Issuer::of(keys)
}

/// The policies of all services, for printing.
pub fn policies() -> Vec<(&'static str, &'static str)> {
    [
        hansa_register::POLICIES,
        hansa_partnerships::POLICIES,
        hansa_networks::POLICIES,
        hansa_strategy::POLICIES,
        hansa_chassis::changes::POLICIES,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_ends_with_what_goes_on_beside() {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { panic!("a task that panics") });
        let draining = stop.clone();
        let serving = async move {
            draining.cancelled().await;
            Ok(())
        };
        assert!(watch_over(&mut tasks, serving, stop).await.is_err(), "what supervises it hears of it");
        // Without a failure it serves until it is told to stop, and that is well.
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        assert!(watch_over(&mut tasks, async { Ok(()) }, CancellationToken::new()).await.is_ok());
    }
}
