//! `hansa rebuild`: folds states and views again from the journal, and compares them with the stored rows.

use crate::{files, node::Node, output};
use anyhow::bail;
use hansa_chassis::Config;
use hansa_journal::SystemClock;
use std::sync::Arc;

/// Rebuilds all services.
///
/// # Errors
/// If a stored state or view differed from the journal, or a record cannot be folded.
pub async fn run(config: Config, json: bool) -> anyhow::Result<()> {
    let node = Node::open(config, &[], Arc::new(SystemClock)).await?;
    let mut rows = Vec::new();
    let mut wrong = 0;
    for module in &node.modules {
        let bar = files::bar(module.journal.count().await?, module.name);
        let rebuilt = module.journal.rebuild(|done| bar.set_position(done)).await?;
        bar.finish_and_clear();
        wrong += rebuilt.differing.len() + rebuilt.broken.len();
        rows.push((module.name, rebuilt));
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(service, r)| {
                serde_json::json!({"service": service, "records": r.records, "changes": r.changes,
                    "differing": r.differing, "broken": r.broken, "erased": r.erased})
            })
            .collect();
        output::print_json(&rows.into())?;
    } else {
        let cells = rows.iter().map(|(service, r)| {
            let counts = [r.records, r.changes, r.differing.len() as u64, r.broken.len() as u64];
            std::iter::once((*service).to_owned()).chain(counts.map(|n| n.to_string())).collect()
        });
        println!("{}", output::table(&["service", "records", "changes", "differed", "cannot be folded"], cells));
        let erased: u64 = rows.iter().map(|(_, r)| r.erased).sum();
        if erased > 0 {
            println!("{erased} erased texts were in the database again, as after a restore. They are erased again.");
        }
    }
    if wrong > 0 {
        bail!("{wrong} records or tables differed from the journal. Those that can be folded are now correct.");
    }
    Ok(())
}
