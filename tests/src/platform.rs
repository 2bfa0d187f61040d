//! A running platform: processes of the real program, with real databases and a real broker.

use crate::{Caller, SOON, servers::ComposeServers};
use ed25519_dalek::{SigningKey, VerifyingKey};
use hansa_kernel::{Role, TenantId, envelope};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// The deployment shapes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One process with SQLite files and no broker.
    Embedded,
    /// One process on PostgreSQL and NATS.
    OneProcess,
    /// One process per service on PostgreSQL and NATS.
    ProcessAService,
}

/// Maximum time that a caller waits for an answer.
const CALL: Duration = Duration::from_secs(20);

/// The services of the platform.
pub const SERVICES: [&str; 4] = ["register", "partnerships", "networks", "strategy"];

/// The processes of a platform. They are killed when this value is dropped.
pub struct Platform {
    binary: PathBuf,
    data: PathBuf,
    settings: Vec<String>,
    /// The file for the processes' log, if it must not mix with the test's output.
    log: Option<PathBuf>,
    /// The services and the address of each process. Restarts keep the address, so that callers can reconnect.
    groups: Vec<(Vec<&'static str>, String)>,
    environment: Vec<(&'static str, String)>,
    /// The start command of each service, if a compose file defines it.
    commands: HashMap<&'static str, Start>,
    /// The command that administers all services, if a compose file defines it.
    caretaker: Option<Start>,
    /// The TLS settings of the callers, if the platform uses TLS.
    tls: Option<ClientTlsConfig>,
    processes: Vec<Process>,
    /// The data folder, if the platform owns it. It is removed with the platform.
    own: Option<TempDir>,
    channels: HashMap<&'static str, Channel>,
}

/// The start command of a service, as `tests/deploy/compose.py` reads it from the compose file.
#[derive(Clone, Debug, serde::Deserialize)]
struct Start {
    service: String,
    arguments: Vec<String>,
    environment: HashMap<String, String>,
    address: String,
}

/// The services of the compose file.
#[derive(Debug, serde::Deserialize)]
struct Composed {
    processes: Vec<Start>,
    caretaker: Start,
    data: PathBuf,
}

struct Process {
    child: Child,
}

impl Start {
    fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command.args(&self.arguments).envs(&self.environment);
        command
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process of which only the address is known.
pub struct Listening {
    /// The address on which the process listens.
    pub address: String,
    _process: Process,
}

impl Listening {
    /// Starts the command and waits until it prints its address.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("the output is piped")).lines();
        let process = Process { child };
        let first = output.next().expect("the process prints its address").expect("the line is UTF-8");
        // Keep reading: the process would block on a full pipe.
        std::thread::spawn(move || output.map_while(Result::ok).for_each(drop));
        let address = first.rsplit(' ').next().unwrap_or_default().to_owned();
        Self { address, _process: process }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run these tests with `make test`"))
}

/// Returns an unused address. Its port lies below the range that systems assign to clients.
fn free_address() -> String {
    let from = 10_000 + uuid::Uuid::new_v4().as_u128() as u16 % 9_000;
    let free = (from..20_000).map(|port| format!("127.0.0.1:{port}"));
    free.into_iter().find(|address| TcpListener::bind(address).is_ok()).expect("a port is free")
}

/// Creates a database for one test on the server of a URL.
pub async fn database_on(url: &str) -> String {
    let name = format!("hansa_{}", uuid::Uuid::now_v7().simple());
    let server = Database::connect(url).await.expect("PostgreSQL answers");
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database can be created");
    let (base, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{base}/{name}")
}

impl Platform {
    /// Starts the program in a shape and waits until it serves.
    pub async fn start(binary: &str, shape: Shape) -> Self {
        Self::start_with(binary, shape, Vec::new()).await
    }

    /// Starts the program in the same way, with environment variables for its processes.
    pub async fn start_with(binary: &str, shape: Shape, environment: Vec<(&'static str, String)>) -> Self {
        let settings = match shape {
            Shape::Embedded => Vec::new(),
            _ => vec![
                "--database".into(),
                database_on(&variable("DATABASE_URL")).await,
                "--nats".into(),
                variable("NATS_URL"),
            ],
        };
        let own = tempfile::tempdir().expect("a folder can be created");
        let mut platform = Self::at(binary, own.path(), settings);
        platform.own = Some(own);
        platform.environment = environment;
        match shape {
            Shape::ProcessAService => {
                for service in SERVICES {
                    platform.first(&[service]).await;
                }
            }
            _ => platform.first(&SERVICES).await,
        }
        platform
    }

    fn at(binary: &str, data: &Path, settings: Vec<String>) -> Self {
        Self {
            binary: binary.into(),
            data: data.into(),
            settings,
            log: None,
            groups: Vec::new(),
            environment: Vec::new(),
            commands: HashMap::new(),
            caretaker: None,
            tls: None,
            processes: Vec::new(),
            own: None,
            channels: HashMap::new(),
        }
    }

    /// Starts one process with a data folder and settings of the test. The log goes to a file next to the folder.
    pub async fn on(binary: &str, data: &Path, settings: &[String]) -> Self {
        Self::on_with(binary, data, settings, Vec::new()).await
    }

    /// Starts one process in the same way, with environment variables.
    pub async fn on_with(
        binary: &str,
        data: &Path,
        settings: &[String],
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let mut platform = Self::at(binary, data, settings.to_vec());
        (platform.log, platform.environment) = (Some(data.with_extension("log")), environment);
        platform.first(&SERVICES).await;
        platform
    }

    /// Starts one embedded process that uses TLS as configured by its environment. Callers connect with `tls`.
    pub async fn secured(binary: &str, environment: Vec<(&'static str, String)>, tls: ClientTlsConfig) -> Self {
        let own = tempfile::tempdir().expect("a folder can be created");
        let mut platform = Self::at(binary, own.path(), Vec::new());
        (platform.own, platform.environment, platform.tls) = (Some(own), environment, Some(tls));
        platform.first(&SERVICES).await;
        platform
    }

    /// Starts the services of `deploy/compose/compose.yaml`, with the file's order, arguments, variables and files,
    /// on the servers that the file defines.
    pub async fn composed(binary: &str, servers: &ComposeServers) -> Self {
        let plan: Composed = serde_json::from_str(&servers.plan).expect("the plan can be read");
        let mut platform = Self::at(binary, &plan.data, Vec::new());
        platform.log = Some(plan.data.with_extension("log"));
        platform.caretaker = Some(plan.caretaker);
        for start in plan.processes {
            let service = SERVICES.into_iter().find(|one| *one == start.service).expect("a service of the platform");
            let address = start.address.clone();
            platform.commands.insert(service, start);
            platform.launch(&[service], &address).await.unwrap_or_else(|ended| panic!("{ended}\n{}", platform.log()));
            platform.groups.push((vec![service], address));
        }
        platform
    }

    /// Returns the command that administers all services, as the compose file defines it.
    #[must_use]
    pub fn caretaker(&self) -> Command {
        self.caretaker.as_ref().expect("the platform was started from the compose file").command(&self.binary)
    }

    /// Returns the data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the address of the first process.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.groups[0].1
    }

    /// Returns the process id of the first process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.processes[0].child.id()
    }

    /// Returns the process ids of all processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.child.id()).collect()
    }

    /// Returns the name of the node's key, and the key.
    #[must_use]
    pub fn key(&self) -> (String, VerifyingKey) {
        let text = std::fs::read_to_string(self.data.join("node.key")).expect("the node has a key");
        let secret = hex::decode(text.trim()).expect("the key is hex").try_into().expect("the key has 32 bytes");
        let key = SigningKey::from_bytes(&secret).verifying_key();
        let node = TenantId::from_key(key.as_bytes());
        (format!("nodes/{node}/keys/{}", envelope::fingerprint(&key)), key)
    }

    /// Connects to the database of a service.
    pub async fn database(&self, service: &'static str) -> DatabaseConnection {
        let options = match self.settings.iter().position(|setting| setting == "--database") {
            Some(at) => {
                let mut options = ConnectOptions::new(&self.settings[at + 1]);
                options.set_schema_search_path(service);
                options
            }
            None => ConnectOptions::new(format!("sqlite://{}/{service}.db", self.data.display())),
        };
        Database::connect(options).await.expect("the database can be read")
    }

    /// Returns a command of the program on this platform's data.
    #[must_use]
    pub fn hansa(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data").arg(&self.data).args(&self.settings);
        command.env_remove("HANSA_SERVER").env_remove("HANSA_TOKEN");
        command
    }

    /// Starts a process at an unused address.
    async fn first(&mut self, services: &[&'static str]) {
        let deadline = Instant::now() + SOON;
        loop {
            let address = free_address();
            match self.launch(services, &address).await {
                Ok(()) => return self.groups.push((services.to_vec(), address)),
                // Retry: another test may have taken the address.
                Err(ended) => assert!(Instant::now() < deadline, "the process does not start: {ended}\n{}", self.log()),
            }
        }
    }

    /// Starts a process. Fails if the process ends before it serves.
    async fn launch(&mut self, services: &[&'static str], address: &str) -> Result<(), String> {
        let only = services.join(",");
        let mut arguments = vec!["serve", "--listen", address];
        if services.len() < SERVICES.len() {
            arguments.extend(["--only", &only]);
        }
        let mut command = match self.commands.get(services[0]) {
            Some(start) => start.command(&self.binary),
            None => self.hansa(&arguments),
        };
        if let Some(log) = &self.log {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log can be written");
            command.stderr(log);
        }
        command.envs(self.environment.iter().cloned()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let output = child.stdout.take().expect("the output is piped");
        let process = Process { child };
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        lines.recv_timeout(SOON).map_err(|_| format!("{services:?} ended or printed nothing"))?;
        let mut endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        if let Some(tls) = &self.tls {
            endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
            endpoint = endpoint.tls_config(tls.clone()).expect("certificates");
        }
        let endpoint = endpoint.connect_timeout(Duration::from_secs(2)).timeout(CALL);
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        for service in services {
            self.channels.insert(service, channel.clone());
        }
        self.processes.push(process);
        Ok(())
    }

    /// Kills all processes, as a crash would.
    pub fn kill(&mut self) {
        self.processes.clear();
    }

    /// Restarts the processes that were killed or stopped. Retries, as a supervisor would, while a server is
    /// unavailable.
    pub async fn revive(&mut self) {
        for (services, address) in self.groups.clone() {
            let deadline = Instant::now() + SOON;
            while let Err(ended) = self.launch(&services, &address).await {
                assert!(Instant::now() < deadline, "the process does not restart: {ended}\n{}", self.log());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Sets the program that later starts run.
    pub fn become_program(&mut self, binary: &str) {
        self.binary = binary.into();
    }

    /// Kills all processes, as a crash would, and restarts them.
    pub async fn crash_and_restart(&mut self) {
        self.kill();
        self.revive().await;
    }

    /// Returns the last lines of the log.
    #[must_use]
    pub fn log(&self) -> String {
        let text = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Stops all processes with SIGTERM and waits. Each must exit successfully.
    pub fn stop(&mut self) {
        for mut process in self.processes.drain(..) {
            let id = process.child.id().to_string();
            let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
            assert!(sent.success());
            let ended = process.child.wait().expect("the process can be waited for");
            assert!(ended.success(), "the process did not drain cleanly: {ended}");
        }
    }

    /// Issues a token with the program.
    #[must_use]
    pub fn token(&self, tenant: Option<&str>, roles: &[Role]) -> String {
        let mut arguments = vec!["token", "--subject", "test"];
        let roles: Vec<String> =
            roles.iter().map(|role| role.as_str_name().trim_start_matches("ROLE_").to_lowercase()).collect();
        for role in &roles {
            arguments.extend(["--role", role]);
        }
        if let Some(tenant) = tenant {
            arguments.extend(["--tenant", tenant]);
        }
        let output = self.hansa(&arguments).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    }

    /// Issues a token for a role by its name, with the scopes of a program.
    #[must_use]
    pub fn token_for(&self, tenant: Option<&str>, role: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["token", "--subject", "test", "--role", role];
        arguments.extend(tenant.iter().flat_map(|tenant| ["--tenant", tenant]));
        arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        let output = self.hansa(&arguments).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    }

    /// Returns a caller with these roles.
    #[must_use]
    pub fn caller(&self, tenant: Option<&str>, roles: &[Role]) -> Caller {
        Caller::new(self.channels.clone(), &self.token(tenant, roles))
    }

    /// Returns a caller with a given token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Caller {
        Caller::new(self.channels.clone(), token)
    }

    /// Returns the steward of the node.
    #[must_use]
    pub fn steward(&self) -> Caller {
        self.caller(None, &[Role::Steward])
    }
}
