//! `hansa serve`.

use crate::node::Node;
use anyhow::Context;
use hansa_chassis::Config;
use hansa_journal::SystemClock;
use std::sync::Arc;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// Serves until it is told to stop.
pub async fn run(config: Config, only: &[String]) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let node = Node::open(config, only, Arc::new(SystemClock)).await?;
    let services: Vec<&str> = node.modules.iter().map(|module| module.name).collect();
    println!("hansa {} serves {} on {address}", env!("CARGO_PKG_VERSION"), services.join(", "));
    println!("{} with the key {}", node.keys.name(), node.keys.public_hex());
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    node.run(listener, stop).await
}

/// Cancels `stop` at SIGTERM or Ctrl-C.
pub fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
