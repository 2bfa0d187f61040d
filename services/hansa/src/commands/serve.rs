//! `hansa serve`: runs the services.

use crate::node::Node;
use anyhow::Context;
use hansa_chassis::{
    Config,
    limits::{START_PAUSE, START_PAUSE_MAX},
    server,
};
use hansa_journal::{SystemClock, is_away};
use std::sync::Arc;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// If the node cannot be opened or started, or a background task fails.
pub async fn run(config: Config, only: &[String]) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let listener = listener.into_std()?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let Some(node) = open(&config, only, &listener, &stop).await? else { return Ok(()) };
    let services: Vec<&str> = node.modules.iter().map(|module| module.name).collect();
    println!("hansa {} serves {} on {address}", env!("CARGO_PKG_VERSION"), services.join(", "));
    println!("{} with the key {}", node.keys.name(), node.keys.public_hex());
    node.run(TcpListener::from_std(listener)?, stop).await
}

/// Opens the node. If the database is unavailable, the program waits without a time limit, and the health service
/// answers NOT_SERVING meanwhile: a restart would not help. Other failures, such as a wrong password, end the program
/// immediately. Returns `None` if the program must stop before the node is open.
async fn open(
    config: &Config,
    only: &[String],
    listener: &std::net::TcpListener,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Node>> {
    let ready = CancellationToken::new();
    let mut waiting = JoinSet::new();
    let mut pause = START_PAUSE;
    loop {
        let opened = Node::open(config.clone(), only, Arc::new(SystemClock)).await;
        let Some(error) = opened.as_ref().err().filter(|error| config.database.is_some() && away(error)) else {
            ready.cancel();
            while let Some(ended) = waiting.join_next().await {
                ended??;
            }
            return opened.map(Some);
        };
        let listen = config.listen;
        tracing::warn!(%listen, error = format!("{error:#}"), "waiting for the database; health answers NOT_SERVING");
        if waiting.is_empty() {
            let (config, ready) = (config.clone(), ready.clone());
            let listener = TcpListener::from_std(listener.try_clone()?)?;
            waiting.spawn(async move { server::wait(&config, listener, ready).await });
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = sleep(pause) => {}
            Some(ended) = waiting.join_next() => ended??,
        }
        pause = START_PAUSE_MAX.min(pause * 2);
    }
}

fn away(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref()).any(is_away)
}

/// Cancels `stop` at SIGTERM or Ctrl-C.
///
/// # Errors
/// If the signal handlers cannot be installed.
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
