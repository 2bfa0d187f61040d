//! Logs. They hold no content and no secrets: records are named, never quoted.

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging to standard error. A second start is ignored, so that tests may call it.
pub fn start(filter: &str, json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let _ = if json { logs.json().try_init() } else { logs.compact().try_init() };
}
