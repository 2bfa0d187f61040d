//! `hansa migrate`: applies the pending migrations before this version serves.

use crate::node::Node;
use hansa_chassis::Config;
use hansa_journal::SystemClock;
use std::sync::Arc;

/// Opens the services, which applies their migrations, and ends.
///
/// # Errors
/// If a service is unknown or its database cannot be migrated.
pub async fn run(config: Config, only: &[String]) -> anyhow::Result<()> {
    let node = Node::open(config, only, Arc::new(SystemClock)).await?;
    let services: Vec<&str> = node.modules.iter().map(|module| module.name).collect();
    println!("{}: migrated for hansa {}", services.join(", "), env!("CARGO_PKG_VERSION"));
    Ok(())
}
