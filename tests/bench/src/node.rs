//! A running node: its processes, its resources, and its callers.

use crate::{Options, floors::sqlite};
use anyhow::{Context, bail};
use hansa_tests::Caller;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// A server process. It is killed when this value is dropped.
pub struct Process {
    child: Child,
    /// The address on which the process listens.
    pub address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a command whose first line of output ends with the address on which it listens.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("the process does not start")?;
        let mut output = BufReader::new(child.stdout.take().context("the output is not piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        if address.is_empty() {
            bail!("the process ended before it served: {}", child.wait()?);
        }
        Ok(Self { child, address })
    }

    /// Connects to the process.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true).connect().await?)
    }

    /// Waits until the health service reports `SERVING`.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Ok(channel) = self.connect().await
                && let Ok(answer) = HealthClient::new(channel).check(HealthCheckRequest::default()).await
                && answer.into_inner().status() == ServingStatus::Serving
            {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "the process does not become ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns the resident memory, in MiB.
    pub fn memory(&self) -> anyhow::Result<f64> {
        Ok(self.resident("VmRSS:")? / 1024.0)
    }

    /// Returns the anonymous memory, in KiB: without the program text and mapped files.
    pub fn own_memory(&self) -> anyhow::Result<f64> {
        self.resident("RssAnon:")
    }

    fn resident(&self, field: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(field));
        let line = line.with_context(|| format!("/proc reports no {field}"))?;
        Ok(line.split_whitespace().nth(1).with_context(|| format!("{field} has no value"))?.parse()?)
    }

    /// Returns the CPU time of the process, in seconds.
    pub fn on_core(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in brackets: the state, ten other fields, then user and system time in hundredths of a second.
        let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat has an unknown form")?;
        let times: Vec<f64> = rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(times.iter().sum::<f64>() / 100.0)
    }

    /// Asks the process to end, and waits.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        anyhow::ensure!(sent.success(), "kill failed");
        let ended = self.child.wait()?;
        anyhow::ensure!(ended.success(), "the process failed: {ended}");
        Ok(())
    }
}

/// The program with its own data folder and, unless it is embedded, its own database.
pub struct Node {
    program: PathBuf,
    /// The data folder.
    pub folder: PathBuf,
    /// The URL of the database, unless the node is embedded.
    pub database: Option<String>,
    nats: Option<String>,
    /// The only service that the process runs; `None` if it runs all.
    only: Option<&'static str>,
    /// The running process.
    pub process: Process,
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run the bench with `make bench`"))
}

/// Returns the URL of the broker.
pub fn nats() -> anyhow::Result<String> {
    variable("NATS_URL")
}

async fn database() -> anyhow::Result<String> {
    let url = variable("DATABASE_URL")?;
    let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
    let server = Database::connect(&url).await?;
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    let (base, _) = url.rsplit_once('/').context("DATABASE_URL names no database")?;
    Ok(format!("{base}/{name}"))
}

fn command(program: &Path, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg("--data").arg(folder).env_remove("HANSA_SERVER").env_remove("HANSA_TOKEN");
    command
}

impl Node {
    /// Starts the embedded program on a folder.
    pub async fn embedded(options: &Options, folder: &Path) -> anyhow::Result<Self> {
        Self::start(options, folder, (None, None), None).await
    }

    /// Starts only one service on a folder. A single service does not start without a broker, because other services
    /// could not receive its changes. So it publishes, although there are no subscribers.
    pub async fn one_service_on_a_file(options: &Options, folder: &Path, only: &'static str) -> anyhow::Result<Self> {
        Self::start(options, folder, (None, Some(nats()?)), Some(only)).await
    }

    /// Starts the program on PostgreSQL and NATS.
    pub async fn on_servers(options: &Options, folder: &Path) -> anyhow::Result<Self> {
        Self::start(options, folder, (Some(database().await?), Some(nats()?)), None).await
    }

    /// Starts only one service on PostgreSQL and NATS.
    pub async fn one_service(options: &Options, folder: &Path, only: &'static str) -> anyhow::Result<Self> {
        Self::start(options, folder, (Some(database().await?), Some(nats()?)), Some(only)).await
    }

    async fn start(
        options: &Options,
        folder: &Path,
        (database, nats): (Option<String>, Option<String>),
        only: Option<&'static str>,
    ) -> anyhow::Result<Self> {
        let program = options.program()?;
        let process = launch(&program, folder, (database.as_deref(), nats.as_deref()), only).await?;
        Ok(Self { program, folder: folder.to_owned(), database, nats, only, process })
    }

    /// Restarts the process on the same data, with an empty cache.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.stop()?;
        let servers = (self.database.as_deref(), self.nats.as_deref());
        self.process = launch(&self.program, &self.folder, servers, self.only).await?;
        Ok(())
    }

    /// Returns a command of the program on this node's data.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.program, arguments, &self.folder);
        command.args(self.database.iter().flat_map(|url| ["--database", url]));
        command.args(self.nats.iter().flat_map(|url| ["--nats", url]));
        command
    }

    /// Issues a token with the node's own key.
    pub fn token(&self, tenant: Option<&str>, role: &str) -> anyhow::Result<String> {
        let mut arguments = vec!["token", "--subject", "bench", "--role", role];
        arguments.extend(tenant.iter().flat_map(|tenant| ["--tenant", *tenant]));
        let output = self.command(&arguments).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Returns callers with one token, each on its own connection.
    pub async fn callers(&self, token: &str, connections: usize) -> anyhow::Result<Vec<Caller>> {
        callers(&self.process, token, connections).await
    }

    /// Returns the steward, on one connection.
    pub async fn steward(&self) -> anyhow::Result<Caller> {
        let token = self.token(None, "steward")?;
        self.callers(&token, 1).await?.pop().context("no caller")
    }

    /// Waits until the other services have applied all changes of the register. If the register runs alone, waits
    /// until the broker has them. Afterwards there is no background work that could disturb a measurement.
    pub async fn settled(&self) -> anyhow::Result<()> {
        self.settled_within(Duration::from_secs(120)).await
    }

    /// Waits in the same way, with another time limit.
    pub async fn settled_within(&self, patience: Duration) -> anyhow::Result<()> {
        let Some(only) = self.only else {
            return until("the services have caught up", patience, async || self.caught_up().await).await;
        };
        let published = async || Ok(self.count(only, "changes WHERE stream_sequence IS NULL").await? == 0.0);
        until("the broker has all changes", patience, published).await
    }

    /// Runs `VACUUM ANALYZE`, which autovacuum otherwise does within a minute. The floors' tables are analysed as well.
    pub async fn analysed(&self) -> anyhow::Result<()> {
        if self.database.is_some() {
            self.connect().await?.execute_unprepared("VACUUM ANALYZE").await?;
        }
        Ok(())
    }

    /// Counts rows of a service. `so` names a table and, optionally, a condition.
    pub async fn count(&self, service: &str, so: &str) -> anyhow::Result<f64> {
        match &self.database {
            None => sqlite::number(&self.folder.join(format!("{service}.db")), &format!("SELECT count(*) FROM {so}")),
            Some(_) => number(&self.connect().await?, &format!("SELECT count(*)::float8 FROM {service}.{so}")).await,
        }
    }

    async fn caught_up(&self) -> anyhow::Result<bool> {
        let made = "SELECT coalesce(sum(version), 0) FROM records WHERE name LIKE 'cities/%'";
        let heard = "SELECT coalesce(sum(version), 0) FROM mirrors WHERE collection = 'cities'";
        let mut versions = Vec::new();
        for (service, query) in [("register", made), ("partnerships", heard), ("strategy", heard)] {
            versions.push(match &self.database {
                None => sqlite::number(&self.folder.join(format!("{service}.db")), query)?,
                Some(_) => {
                    let query = query.replace("FROM ", &format!("FROM {service}."));
                    number(&self.connect().await?, &query.replace("sum(version), 0)", "sum(version), 0)::float8"))
                        .await?
                }
            });
        }
        Ok(versions[1..].iter().all(|heard| *heard >= versions[0]))
    }

    /// Connects to the node's database.
    pub async fn connect(&self) -> anyhow::Result<DatabaseConnection> {
        Ok(Database::connect(self.database.as_deref().context("the node is embedded")?).await?)
    }
}

/// Starts the program, or only one of its services, and waits until it is ready.
async fn launch(
    program: &Path,
    folder: &Path,
    (database, nats): (Option<&str>, Option<&str>),
    only: Option<&str>,
) -> anyhow::Result<Process> {
    let mut command = serve(program, folder, database, nats);
    command.args(only.iter().flat_map(|only| ["--only", *only]));
    let process = Process::start(command)?;
    process.ready().await?;
    Ok(process)
}

/// Waits until a condition holds; `what` describes the condition.
pub async fn until(
    what: &str,
    patience: Duration,
    holds: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let looked = Instant::now();
        if holds().await? {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "not reached within {patience:?}: {what}");
        // An expensive check must not slow down the work that it waits for.
        tokio::time::sleep(Duration::from_millis(50).max(looked.elapsed() * 10)).await;
    }
}

/// Returns the number that a query selects.
pub async fn number(db: &DatabaseConnection, query: &str) -> anyhow::Result<f64> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    Ok(row.map(|row| row.try_get_by_index::<f64>(0)).transpose()?.unwrap_or_default())
}

/// Returns callers of a process, each on its own connection.
pub async fn callers(process: &Process, token: &str, connections: usize) -> anyhow::Result<Vec<Caller>> {
    let mut out = Vec::with_capacity(connections);
    for _ in 0..connections {
        out.push(over(&process.connect().await?, token));
    }
    Ok(out)
}

/// Returns a caller on a shared connection.
pub fn over(channel: &Channel, token: &str) -> Caller {
    let services = ["register", "partnerships", "strategy"];
    let channels: HashMap<_, _> = services.into_iter().map(|service| (service, channel.clone())).collect();
    Caller::new(channels, token)
}

/// Returns the command that serves a folder.
pub fn serve(program: &Path, folder: &Path, database: Option<&str>, nats: Option<&str>) -> Command {
    let mut command = command(program, &["serve", "--listen", "127.0.0.1:0"], folder);
    command.args(database.iter().flat_map(|url| ["--database", url]));
    command.args(nats.iter().flat_map(|url| ["--nats", url]));
    command.stderr(Stdio::null());
    command
}
