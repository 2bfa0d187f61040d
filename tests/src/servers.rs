//! A PostgreSQL and a nats-server for one test, which the test may kill.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// Runs `servers.py`.
fn servers(arguments: &[&str]) -> Output {
    python("servers.py", arguments)
}

/// Runs a Python script of the tests.
fn python(script: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new("python3").arg(path).args(arguments).output().expect("python3 runs");
    assert!(output.status.success(), "{script} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Creates a folder below the folder of the shared test servers. `servers.py` also stops the servers in its subfolders,
/// so that an aborted test leaves no processes.
fn folder() -> TempDir {
    let below = std::env::var_os("TEST_SERVERS").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix("own-").tempdir_in(below).expect("a folder can be created")
}

/// Returns the path of a program that belongs to the servers, such as `pg_dump`.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    String::from_utf8_lossy(&servers(&["tool", name]).stdout).trim().into()
}

/// Both servers. They are stopped when this value is dropped.
#[derive(Debug)]
pub struct Servers {
    folder: TempDir,
}

impl Servers {
    /// Starts both servers.
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

    /// Kills `postgres` or `nats`, as a crash would.
    pub fn kill(&self, name: &str) {
        self.say(&["kill", name]);
    }

    /// Restarts `postgres` or `nats` with its previous data.
    pub fn revive(&self, name: &str) {
        self.say(&["revive", name]);
    }

    fn variable(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("env")).expect("the servers were started");
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
    }

    /// Returns the URL of the database.
    #[must_use]
    pub fn database(&self) -> String {
        self.variable("DATABASE_URL")
    }

    /// Returns the URL of the broker.
    #[must_use]
    pub fn nats(&self) -> String {
        self.variable("NATS_URL")
    }

    /// Returns the command line settings for a program that uses both servers.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        vec!["--database".into(), self.database(), "--nats".into(), self.nats()]
    }

    /// Returns the folder in which nats-server stores its streams.
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

/// PostgreSQL and nats-server as the compose file configures them, and the file's start commands of the services. Both
/// servers are stopped when this value is dropped.
#[derive(Debug)]
pub struct ComposeServers {
    folder: TempDir,
    /// The start commands, as JSON.
    pub(crate) plan: String,
}

impl ComposeServers {
    /// Starts both servers. The services send their telemetry to the address `collector`.
    #[must_use]
    pub fn start(collector: &str) -> Self {
        let folder = folder();
        let at = folder.path().display().to_string();
        let output = python("deploy/compose.py", &["up", "--at", &at, "--otlp", collector]);
        Self { folder, plan: String::from_utf8(output.stdout).expect("the plan is UTF-8") }
    }
}

impl Drop for ComposeServers {
    fn drop(&mut self) {
        python("deploy/compose.py", &["down", "--at", &self.folder.path().display().to_string()]);
    }
}
