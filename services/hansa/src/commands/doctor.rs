//! `hansa doctor`: looks whether the node is well, and says what to do where it is not.

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

/// Looks at everything. Fails where something is not well.
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
            let verdict = if look.well { "well" } else { "NOT WELL" };
            vec![look.what, verdict.to_owned(), look.found]
        });
        println!("{}", output::table(&["", "", "found"], rows));
    }
    if unwell > 0 {
        bail!("{unwell} things are not well");
    }
    Ok(())
}

/// NATS must answer, or the services do not hear of each other. Nothing is lost meanwhile.
async fn broker(url: &str, node: &Node) -> Look {
    let answer = match Bus::connect(url, &node.keys, node.config.nats_replicas).await {
        Ok(bus) => bus.answers().await,
        Err(error) => Err(error.to_string()),
    };
    let well = answer.is_ok();
    let found = answer.map_or_else(|why| format!("away: {why}"), |()| "answers".into());
    Look { what: "NATS".into(), well, found }
}

/// What the relay has not got through for a while.
async fn waiting(journal: &Journal) -> anyhow::Result<u64> {
    Ok(journal.unpublished_since(SystemClock.now() - PUBLISHED_WITHIN).await?)
}

/// The key must be its owner's alone: who holds it can sign for the node. One that root owns a group may read as well: so it
/// comes to a program that does not run as root, from whoever keeps its secrets.
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
