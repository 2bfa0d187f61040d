//! A PostgreSQL and a nats-server of a test's own, which it may kill.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// Runs `servers.py`.
fn servers(arguments: &[&str]) -> Output {
    python("servers.py", arguments)
}

/// Runs a script of the tests.
fn python(script: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new("python3").arg(path).args(arguments).output().expect("python3 runs");
    assert!(output.status.success(), "{script} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A folder below those that the tests run with, which end what is below them where a test is cut off.
fn folder() -> TempDir {
    let below = std::env::var_os("TEST_SERVERS").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix("own-").tempdir_in(below).expect("a folder can be made")
}

/// The path of a program that comes with the servers, such as `pg_dump`.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    String::from_utf8_lossy(&servers(&["tool", name]).stdout).trim().into()
}

/// Both servers. They end with it.
#[derive(Debug)]
pub struct Servers {
    folder: TempDir,
}

impl Servers {
    /// Starts both.
    #[must_use]
    pub fn start() -> Self {
        let own = Self { folder: folder() };
        own.say(&["start"]);
        own
    }

    fn say(&self, what: &[&str]) {
        let at = self.folder.path().display().to_string();
        servers(&[&["--at", &at], what].concat());
    }

    /// Ends `postgres` or `nats` as a crash would.
    pub fn kill(&self, name: &str) {
        self.say(&["kill", name]);
    }

    /// Starts it again with the data that it had.
    pub fn revive(&self, name: &str) {
        self.say(&["revive", name]);
    }

    fn variable(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("env")).expect("the servers were started");
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
    }

    /// The database's URL.
    #[must_use]
    pub fn database(&self) -> String {
        self.variable("DATABASE_URL")
    }

    /// The broker's URL.
    #[must_use]
    pub fn nats(&self) -> String {
        self.variable("NATS_URL")
    }

    /// The settings of a program that uses both.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        vec!["--database".into(), self.database(), "--nats".into(), self.nats()]
    }

    /// Where nats-server keeps its streams.
    #[must_use]
    pub fn nats_store(&self) -> PathBuf {
        self.folder.path().join("nats")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers.py");
        let _ = Command::new("python3").arg(script).arg("--at").arg(self.folder.path()).arg("stop").output();
    }
}

/// PostgreSQL and nats-server as the compose file sets them up, and how it starts the services on them. Both end with it.
#[derive(Debug)]
pub struct ComposeServers {
    folder: TempDir,
    /// What is to be started, as JSON.
    pub(crate) plan: String,
}

impl ComposeServers {
    /// Starts both; telemetry is to go to a collector's address.
    #[must_use]
    pub fn start(collector: &str) -> Self {
        let folder = folder();
        let at = folder.path().display().to_string();
        let output = python("deploy/compose.py", &["up", "--at", &at, "--otlp", collector]);
        Self { folder, plan: String::from_utf8(output.stdout).expect("a plan is text") }
    }
}

impl Drop for ComposeServers {
    fn drop(&mut self) {
        python("deploy/compose.py", &["down", "--at", &self.folder.path().display().to_string()]);
    }
}
