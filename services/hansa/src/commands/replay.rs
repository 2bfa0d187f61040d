//! `hansa replay`: lists the changes that subscriptions could not apply, or applies them again.

use crate::{node::Node, output};
use hansa_chassis::Config;
use hansa_journal::{JournalSource, SystemClock};
use hansa_kernel::RecordId;
use std::sync::Arc;

/// Lists the records in quarantine. With `all`, first applies their changes again.
///
/// # Errors
/// If the node cannot be opened, or its database fails.
pub async fn run(config: Config, all: bool, json: bool) -> anyhow::Result<()> {
    let node = Node::open(config, &[], Arc::new(SystemClock)).await?;
    let mut rows = Vec::new();
    for module in &node.modules {
        for (from, subscription) in &module.subscriptions {
            let mut stuck = subscription.quarantined().await?;
            if let Some(journal) = node.journal(from).filter(|_| all) {
                let mut source = JournalSource::new(journal);
                for row in &stuck {
                    subscription.replay(&mut source, RecordId(row.record)).await?;
                }
                stuck = subscription.quarantined().await?;
            }
            rows.extend(stuck.into_iter().map(|row| (subscription.name(), row)));
        }
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(subscription, row)| {
                serde_json::json!({"subscription": subscription, "record": row.name, "version": row.version,
                    "reason": row.reason})
            })
            .collect();
        return output::print_json(&rows.into());
    }
    if rows.is_empty() {
        println!("Nothing is in quarantine.");
        return Ok(());
    }
    let cells =
        rows.into_iter().map(|(name, row)| vec![name.to_owned(), row.name, row.version.to_string(), row.reason]);
    println!("{}", output::table(&["subscription", "record", "version", "reason"], cells));
    Ok(())
}
