//! A running program: where it listens, what it uses, and who calls it.

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

/// A process that serves. It ends with this.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a command whose first line ends with the address that it listens on.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("it does not start")?;
        let mut output = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        if address.is_empty() {
            bail!("it ended before it served: {}", child.wait()?);
        }
        Ok(Self { child, address })
    }

    /// A connection to it.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true).connect().await?)
    }

    /// Waits until it says that it serves.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Ok(channel) = self.connect().await
                && let Ok(answer) = HealthClient::new(channel).check(HealthCheckRequest::default()).await
                && answer.into_inner().status() == ServingStatus::Serving
            {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "it does not become ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Memory in use, in MiB.
    pub fn memory(&self) -> anyhow::Result<f64> {
        Ok(self.resident("VmRSS:")? / 1024.0)
    }

    /// Memory in use of its own, in KiB: without its program text and the files that it reads.
    pub fn own_memory(&self) -> anyhow::Result<f64> {
        self.resident("RssAnon:")
    }

    fn resident(&self, field: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(field));
        let line = line.with_context(|| format!("the system says no {field}"))?;
        Ok(line.split_whitespace().nth(1).with_context(|| format!("{field} has a value"))?.parse()?)
    }

    /// Seconds that its threads have had a core for.
    pub fn on_core(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name, which stands in brackets: state, ten others, then user and system time in hundredths.
        let (_, rest) = stat.rsplit_once(')').context("the system says no stat")?;
        let times: Vec<f64> = rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(times.iter().sum::<f64>() / 100.0)
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        anyhow::ensure!(sent.success(), "kill failed");
        let ended = self.child.wait()?;
        anyhow::ensure!(ended.success(), "it ended badly: {ended}");
        Ok(())
    }
}

/// The program on a folder, and where it has one, a database of its own.
pub struct Node {
    program: PathBuf,
    /// Its data folder.
    pub folder: PathBuf,
    /// Its database, where it is not embedded.
    pub database: Option<String>,
    nats: Option<String>,
    /// The one service that it runs, where it does not run all.
    only: Option<&'static str>,
    /// The running process.
    pub process: Process,
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run this by `make bench`"))
}

/// The URL of the broker.
pub fn nats() -> anyhow::Result<String> {
    variable("NATS_URL")
}

async fn database() -> anyhow::Result<String> {
    let url = variable("DATABASE_URL")?;
    let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
    let server = Database::connect(&url).await?;
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    let (base, _) = url.rsplit_once('/').context("the URL names a database")?;
    Ok(format!("{base}/{name}"))
}

fn command(program: &Path, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg("--data").arg(folder).env_remove("HANSA_SERVER").env_remove("HANSA_TOKEN");
    command
}

impl Node {
    /// Starts the program embedded on a folder.
    pub async fn embedded(options: &Options, folder: &Path) -> anyhow::Result<Self> {
        Self::start(options, folder, (None, None), None).await
    }

    /// Starts one service of the program alone on a folder. It does not start without a broker, since other services could
    /// learn of it in no other way: so it publishes, though nobody follows.
    pub async fn one_service_on_a_file(options: &Options, folder: &Path, only: &'static str) -> anyhow::Result<Self> {
        Self::start(options, folder, (None, Some(nats()?)), Some(only)).await
    }

    /// Starts the program on PostgreSQL and NATS.
    pub async fn on_servers(options: &Options, folder: &Path) -> anyhow::Result<Self> {
        Self::start(options, folder, (Some(database().await?), Some(nats()?)), None).await
    }

    /// Starts one service of the program alone, on PostgreSQL and NATS.
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

    /// Ends the process and starts another on the same data: what the first had in memory is gone.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.stop()?;
        let servers = (self.database.as_deref(), self.nats.as_deref());
        self.process = launch(&self.program, &self.folder, servers, self.only).await?;
        Ok(())
    }

    /// A command of the program on this node's data.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.program, arguments, &self.folder);
        command.args(self.database.iter().flat_map(|url| ["--database", url]));
        command.args(self.nats.iter().flat_map(|url| ["--nats", url]));
        command
    }

    /// A token of the node's own issuer.
    pub fn token(&self, tenant: Option<&str>, role: &str) -> anyhow::Result<String> {
        let mut arguments = vec!["token", "--subject", "bench", "--role", role];
        arguments.extend(tenant.iter().flat_map(|tenant| ["--tenant", *tenant]));
        let output = self.command(&arguments).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Callers on connections of their own, with one token.
    pub async fn callers(&self, token: &str, connections: usize) -> anyhow::Result<Vec<Caller>> {
        callers(&self.process, token, connections).await
    }

    /// The steward, on one connection.
    pub async fn steward(&self) -> anyhow::Result<Caller> {
        let token = self.token(None, "steward")?;
        self.callers(&token, 1).await?.pop().context("one caller")
    }

    /// Waits until the other services have applied what the register committed, or where it runs alone, until the broker has
    /// it: so that nothing goes on beside.
    pub async fn settled(&self) -> anyhow::Result<()> {
        self.settled_within(Duration::from_secs(120)).await
    }

    /// The same after so much that it may take longer.
    pub async fn settled_within(&self, patience: Duration) -> anyhow::Result<()> {
        let Some(only) = self.only else {
            return until("the services catch up", patience, async || self.caught_up().await).await;
        };
        let published = async || Ok(self.count(only, "changes WHERE published IS NULL").await? == 0.0);
        until("the broker has all changes", patience, published).await
    }

    /// Has PostgreSQL count what its tables hold, as it does by itself within a minute. The floors' tables are counted as well.
    pub async fn analysed(&self) -> anyhow::Result<()> {
        if self.database.is_some() {
            self.connect().await?.execute_unprepared("VACUUM ANALYZE").await?;
        }
        Ok(())
    }

    /// How many rows of a service's tables are so.
    pub async fn count(&self, service: &str, so: &str) -> anyhow::Result<f64> {
        match &self.database {
            None => sqlite::number(&self.folder.join(format!("{service}.db")), &format!("SELECT count(*) FROM {so}")),
            Some(_) => number(&self.connect().await?, &format!("SELECT count(*)::float8 FROM {service}.{so}")).await,
        }
    }

    async fn caught_up(&self) -> anyhow::Result<bool> {
        let made = "SELECT coalesce(sum(version), 0) FROM records WHERE name LIKE 'cities/%'";
        let heard = "SELECT coalesce(sum(version), 0) FROM mirrors WHERE subscription = 'cities'";
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

    /// Its database.
    pub async fn connect(&self) -> anyhow::Result<DatabaseConnection> {
        Ok(Database::connect(self.database.as_deref().context("the node is embedded")?).await?)
    }
}

/// Starts the program, or one service of it, and waits until it is ready.
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

/// Waits until something holds; `what` says it in words.
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
        anyhow::ensure!(Instant::now() < deadline, "it does not come so far within {patience:?} that {what}");
        // A look that takes long must not slow down what is waited for.
        tokio::time::sleep(Duration::from_millis(50).max(looked.elapsed() * 10)).await;
    }
}

/// One number that a query answers.
pub async fn number(db: &DatabaseConnection, query: &str) -> anyhow::Result<f64> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    Ok(row.map(|row| row.try_get_by_index::<f64>(0)).transpose()?.unwrap_or_default())
}

/// Callers of a process, on connections of their own.
pub async fn callers(process: &Process, token: &str, connections: usize) -> anyhow::Result<Vec<Caller>> {
    let mut out = Vec::with_capacity(connections);
    for _ in 0..connections {
        out.push(over(&process.connect().await?, token));
    }
    Ok(out)
}

/// A caller on a connection that others may use too.
pub fn over(channel: &Channel, token: &str) -> Caller {
    let services = ["register", "partnerships", "strategy"];
    let channels: HashMap<_, _> = services.into_iter().map(|service| (service, channel.clone())).collect();
    Caller::new(channels, token)
}

/// The command that serves a folder.
pub fn serve(program: &Path, folder: &Path, database: Option<&str>, nats: Option<&str>) -> Command {
    let mut command = command(program, &["serve", "--listen", "127.0.0.1:0"], folder);
    command.args(database.iter().flat_map(|url| ["--database", url]));
    command.args(nats.iter().flat_map(|url| ["--nats", url]));
    command.stderr(Stdio::null());
    command
}
