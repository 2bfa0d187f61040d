//! `hansa doctor`: checks the health of a node.

use crate::{node::Node, output};
use anyhow::bail;
use hansa_chassis::Config;
use hansa_journal::{Bus, Clock, Journal, SystemClock, limits::PUBLISHED_WITHIN};
use std::{os::unix::fs::MetadataExt, sync::Arc};

struct Look {
    what: String,
    well: bool,
    found: String,
}

/// Runs all checks and prints the results.
///
/// # Errors
/// If a check fails, or the node cannot be opened.
pub async fn run(config: Config, json: bool) -> anyhow::Result<()> {
    let mut looks = vec![key(&config)];
    let node = Node::open(config, &[], Arc::new(SystemClock)).await?;
    looks.push(Look { what: "the public key, for verify --key".into(), well: true, found: node.keys.public_hex() });
    if let Some(url) = &node.config.nats {
        looks.push(broker(url, &node).await);
    }
    for module in &node.modules {
        let state = module.journal.health().await?;
        let look =
            |what: &str, well: bool, found: String| Look { what: format!("{}: {what}", module.name), well, found };
        looks.push(look("records", true, state.records.to_string()));
        looks.push(look("frozen records", state.frozen == 0, state.frozen.to_string()));
        looks.push(look("timers overdue by an hour", state.overdue == 0, state.overdue.to_string()));
        if node.config.nats.is_some() {
            let waiting = waiting(&module.journal).await?;
            looks.push(look("changes that NATS should have", waiting == 0, waiting.to_string()));
        }
        for (_, subscription) in &module.subscriptions {
            let stuck = subscription.quarantined().await?.len();
            looks.push(look(&format!("quarantine of {}", subscription.name()), stuck == 0, stuck.to_string()));
        }
    }
    let unwell = looks.iter().filter(|look| !look.well).count();
    if json {
        let looks: Vec<_> = looks
            .iter()
            .map(|look| serde_json::json!({"what": look.what, "well": look.well, "found": look.found}))
            .collect();
        output::print_json(&looks.into())?;
    } else {
        let rows = looks.into_iter().map(|look| {
            let verdict = if look.well { "ok" } else { "FAILED" };
            vec![look.what, verdict.to_owned(), look.found]
        });
        println!("{}", output::table(&["check", "result", "found"], rows));
    }
    if unwell > 0 {
        bail!("{unwell} checks failed. docs/runbook.md says what to do.");
    }
    Ok(())
}

/// Checks that NATS answers. While it does not, services receive no changes of each other, but no change is lost.
async fn broker(url: &str, node: &Node) -> Look {
    let answer = match Bus::connect(url, &node.keys, node.config.nats_replicas).await {
        Ok(bus) => bus.answers().await,
        Err(error) => Err(error.to_string()),
    };
    let well = answer.is_ok();
    let found = answer.map_or_else(|why| format!("unavailable: {why}"), |()| "answers".into());
    Look { what: "NATS".into(), well, found }
}

/// Counts the changes that the relay should have published by now.
async fn waiting(journal: &Journal) -> anyhow::Result<u64> {
    Ok(journal.unpublished_since(SystemClock.now() - PUBLISHED_WITHIN).await?)
}

/// Checks that only the owner can read the key file, because the key can sign for the node. If root owns the file, its
/// group may read it too: secret stores provide a file in this way to a program that does not run as root.
fn key(config: &Config) -> Look {
    let file = config.node_key.clone().unwrap_or_else(|| config.data.join("node.key"));
    let (well, found) = match std::fs::metadata(&file) {
        Err(error) => (error.kind() == std::io::ErrorKind::NotFound, format!("{}: {error}", file.display())),
        Ok(metadata) => {
            let mode = metadata.mode() & 0o777;
            let others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
            (mode & others == 0, format!("{} has mode {mode:o}", file.display()))
        }
    };
    Look { what: "the node's key".into(), well, found }
}
