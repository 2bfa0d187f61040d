//! A running platform: processes of the real program on real databases and a real broker.

use crate::{Caller, SOON};
use hansa_kernel::Role;
use sea_orm::{ConnectionTrait, Database};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

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

/// The services of the platform.
pub const SERVICES: [&str; 3] = ["register", "partnerships", "strategy"];

/// Processes that make up a platform. They end with it.
pub struct Platform {
    binary: PathBuf,
    data: TempDir,
    settings: Vec<String>,
    environment: Vec<(&'static str, String)>,
    processes: Vec<Process>,
    channels: HashMap<&'static str, Channel>,
}

struct Process {
    child: Child,
    services: Vec<&'static str>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("these tests need real servers: run them with `make test` ({name})"))
}

/// A database of the test's own.
async fn database() -> String {
    let url = variable("DATABASE_URL");
    let name = format!("hansa_{}", uuid::Uuid::now_v7().simple());
    let server = Database::connect(&url).await.expect("PostgreSQL answers");
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
            _ => vec!["--database".into(), database().await, "--nats".into(), variable("NATS_URL")],
        };
        let mut platform = Self {
            binary: binary.into(),
            data: tempfile::tempdir().expect("a folder can be made"),
            settings,
            environment,
            processes: Vec::new(),
            channels: HashMap::new(),
        };
        match shape {
            Shape::ProcessAService => {
                for service in SERVICES {
                    platform.launch(&[service]).await;
                }
            }
            _ => platform.launch(&SERVICES).await,
        }
        platform
    }

    /// A command of the program, on this platform's data.
    #[must_use]
    pub fn hansa(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data").arg(self.data.path()).args(&self.settings);
        command.env_remove("HANSA_SERVER").env_remove("HANSA_TOKEN");
        command
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    async fn launch(&mut self, services: &[&'static str]) {
        let only = services.join(",");
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
        if services.len() < SERVICES.len() {
            arguments.extend(["--only", &only]);
        }
        let mut command = self.hansa(&arguments);
        command.envs(self.environment.iter().cloned()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let output = child.stdout.take().expect("its output is piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let first = lines.recv_timeout(SOON).expect("it says where it serves");
        let address = first.rsplit(' ').next().expect("an address").to_owned();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("it answers");
        for service in services {
            self.channels.insert(service, channel.clone());
        }
        self.processes.push(Process { child, services: services.to_vec() });
    }

    /// Ends all processes as a crash would, and starts them again.
    pub async fn crash_and_restart(&mut self) {
        let services: Vec<Vec<&'static str>> =
            self.processes.drain(..).map(|process| process.services.clone()).collect();
        for group in services {
            self.launch(&group).await;
        }
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
