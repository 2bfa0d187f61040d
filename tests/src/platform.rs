//! A running platform: processes of the real program on real databases and a real broker.

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

/// The shapes in which the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One process, files, changes in process.
    Embedded,
    /// One process on PostgreSQL and NATS.
    OneProcess,
    /// A process a service on PostgreSQL and NATS.
    ProcessAService,
}

/// Longest that a caller waits for an answer.
const CALL: Duration = Duration::from_secs(20);

/// The services of the platform.
pub const SERVICES: [&str; 4] = ["register", "partnerships", "networks", "strategy"];

/// Processes that make up a platform. They end with it.
pub struct Platform {
    binary: PathBuf,
    data: PathBuf,
    settings: Vec<String>,
    /// What its processes say, where it shall not mix with what the test says.
    log: Option<PathBuf>,
    /// What each process serves, and where: the same after a restart, so that callers find it again.
    groups: Vec<(Vec<&'static str>, String)>,
    environment: Vec<(&'static str, String)>,
    /// How each service is started, where a file says so and not the test.
    commands: HashMap<&'static str, Start>,
    /// What looks after all services, where a file says so.
    caretaker: Option<Start>,
    /// How its callers speak TLS, where it does.
    tls: Option<ClientTlsConfig>,
    processes: Vec<Process>,
    /// Removed with the platform, where it is its own.
    own: Option<TempDir>,
    channels: HashMap<&'static str, Channel>,
}

/// How to start a service, as `tests/deploy/compose.py` reads it from the compose file.
#[derive(Clone, Debug, serde::Deserialize)]
struct Start {
    service: String,
    arguments: Vec<String>,
    environment: HashMap<String, String>,
    address: String,
}

/// What the compose file starts.
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

/// A process that says where it listens, and of which no more is known.
pub struct Listening {
    /// Where it does.
    pub address: String,
    _process: Process,
}

impl Listening {
    /// Starts it, and waits until it serves.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let process = Process { child };
        let first = output.next().expect("it says where it listens").expect("in words");
        // It says more, and must find someone who reads.
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
    std::env::var(name).unwrap_or_else(|_| panic!("these tests need real servers: run them with `make test` ({name})"))
}

/// An address that nobody listens on, below the ports that systems hand out to clients.
fn free_address() -> String {
    let from = 10_000 + uuid::Uuid::new_v4().as_u128() as u16 % 9_000;
    let free = (from..20_000).map(|port| format!("127.0.0.1:{port}"));
    free.into_iter().find(|address| TcpListener::bind(address).is_ok()).expect("a port is free")
}

/// A database of the test's own, on the server of a URL.
pub async fn database_on(url: &str) -> String {
    let name = format!("hansa_{}", uuid::Uuid::now_v7().simple());
    let server = Database::connect(url).await.expect("PostgreSQL answers");
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database can be made");
    let (base, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{base}/{name}")
}

impl Platform {
    /// Starts the program in a shape and waits until it serves.
    pub async fn start(binary: &str, shape: Shape) -> Self {
        Self::start_with(binary, shape, Vec::new()).await
    }

    /// The same, with variables for the servers.
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
        let own = tempfile::tempdir().expect("a folder can be made");
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

    /// Starts one process in a folder and with settings that are the test's. What it says goes to a file beside the folder.
    pub async fn on(binary: &str, data: &Path, settings: &[String]) -> Self {
        Self::on_with(binary, data, settings, Vec::new()).await
    }

    /// The same, with variables for the process.
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

    /// Starts one process on files that speaks TLS, as its variables say. Its callers do so as `tls` says.
    pub async fn secured(binary: &str, environment: Vec<(&'static str, String)>, tls: ClientTlsConfig) -> Self {
        let own = tempfile::tempdir().expect("a folder can be made");
        let mut platform = Self::at(binary, own.path(), Vec::new());
        (platform.own, platform.environment, platform.tls) = (Some(own), environment, Some(tls));
        platform.first(&SERVICES).await;
        platform
    }

    /// Starts the services of `deploy/compose/compose.yaml` in its order, with its arguments, variables and files, on servers
    /// that are set up as it says. They end with `servers`.
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

    /// What looks after all services, as the compose file runs it.
    #[must_use]
    pub fn caretaker(&self) -> Command {
        self.caretaker.as_ref().expect("a platform of the compose file").command(&self.binary)
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where the first process serves.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.groups[0].1
    }

    /// The first process, as the operating system numbers it.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.processes[0].child.id()
    }

    /// The numbers of its processes.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.child.id()).collect()
    }

    /// The name of the node's key, and the key.
    #[must_use]
    pub fn key(&self) -> (String, VerifyingKey) {
        let text = std::fs::read_to_string(self.data.join("node.key")).expect("the node has a key");
        let secret = hex::decode(text.trim()).expect("it is hex").try_into().expect("it has 32 bytes");
        let key = SigningKey::from_bytes(&secret).verifying_key();
        let node = TenantId::from_key(key.as_bytes());
        (format!("nodes/{node}/keys/{}", envelope::fingerprint(&key)), key)
    }

    /// The database of a service, as it lies there.
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

    /// A command of the program, on this platform's data.
    #[must_use]
    pub fn hansa(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data").arg(&self.data).args(&self.settings);
        command.env_remove("HANSA_SERVER").env_remove("HANSA_TOKEN");
        command
    }

    /// Starts a process at an address that is free.
    async fn first(&mut self, services: &[&'static str]) {
        let deadline = Instant::now() + SOON;
        loop {
            let address = free_address();
            match self.launch(services, &address).await {
                Ok(()) => return self.groups.push((services.to_vec(), address)),
                // Another test may have taken the address.
                Err(ended) => assert!(Instant::now() < deadline, "it does not start: {ended}\n{}", self.log()),
            }
        }
    }

    /// Starts a process. Fails where it ends instead of serving.
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
        let output = child.stdout.take().expect("its output is piped");
        let process = Process { child };
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        lines.recv_timeout(SOON).map_err(|_| format!("{services:?} ended, or said nothing"))?;
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

    /// Ends all processes as a crash would.
    pub fn kill(&mut self) {
        self.processes.clear();
    }

    /// Starts the processes that were killed or stopped, again and again where they end because a server is away: as what
    /// supervises them would.
    pub async fn revive(&mut self) {
        for (services, address) in self.groups.clone() {
            let deadline = Instant::now() + SOON;
            while let Err(ended) = self.launch(&services, &address).await {
                assert!(Instant::now() < deadline, "it does not come back: {ended}\n{}", self.log());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Says which program its processes are from now on, as they are started.
    pub fn become_program(&mut self, binary: &str) {
        self.binary = binary.into();
    }

    /// Ends all processes as a crash would, and starts them again.
    pub async fn crash_and_restart(&mut self) {
        self.kill();
        self.revive().await;
    }

    /// The end of what its processes have said.
    #[must_use]
    pub fn log(&self) -> String {
        let text = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Asks all processes to end, and waits until they have; each must end well.
    pub fn stop(&mut self) {
        for mut process in self.processes.drain(..) {
            let id = process.child.id().to_string();
            let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
            assert!(sent.success());
            let ended = process.child.wait().expect("it ends");
            assert!(ended.success(), "it drains cleanly: {ended}");
        }
    }

    /// A token, as the program issues it.
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

    /// A token for a role by its name, with a program's scopes.
    #[must_use]
    pub fn token_for(&self, tenant: Option<&str>, role: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["token", "--subject", "test", "--role", role];
        arguments.extend(tenant.iter().flat_map(|tenant| ["--tenant", tenant]));
        arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        let output = self.hansa(&arguments).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    }

    /// Someone with these roles.
    #[must_use]
    pub fn caller(&self, tenant: Option<&str>, roles: &[Role]) -> Caller {
        Caller::new(self.channels.clone(), &self.token(tenant, roles))
    }

    /// Someone with a token of the test's own making.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Caller {
        Caller::new(self.channels.clone(), token)
    }

    /// The steward of the node.
    #[must_use]
    pub fn steward(&self) -> Caller {
        self.caller(None, &[Role::Steward])
    }
}
