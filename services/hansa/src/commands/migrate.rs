//! `hansa migrate`: the database as this version needs it, before it serves.

use crate::node::Node;
use hansa_chassis::Config;
use hansa_journal::SystemClock;
use std::sync::Arc;

/// Opens what is wanted, which brings it up to date, and ends.
pub async fn run(config: Config, only: &[String]) -> anyhow::Result<()> {
    let node = Node::open(config, only, Arc::new(SystemClock)).await?;
    let services: Vec<&str> = node.modules.iter().map(|module| module.name).collect();
    println!("{}: as hansa {} needs it", services.join(", "), env!("CARGO_PKG_VERSION"));
    Ok(())
}
