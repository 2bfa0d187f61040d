//! memory per idle tenant.

use crate::{
    Options, data, load,
    node::{self, Node, number, until},
    table::{Must, Row, median},
};
use futures::StreamExt;
use std::time::Duration;

/// Number of cities that do not join.
const OTHERS: usize = 100;
/// Number of concurrent callers.
const CALLERS: usize = 32;
/// Maximum time for the other services to apply all cities and to evaluate them.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// Time between the start of the process and the measurement.
const IDLE: Duration = Duration::from_secs(5);

/// The resources of one process without load.
#[derive(Debug, Default)]
struct MemoryUse {
    /// Memory in kB, once per start.
    memory: Vec<f64>,
    /// Connections to PostgreSQL; none if the node is embedded.
    connections: f64,
    /// Streams of the broker and their consumers; none if the node is embedded.
    assets: (usize, usize),
}

impl MemoryUse {
    /// Restarts the process `times` times and measures it after each start.
    async fn of(node: &mut Node, times: usize) -> anyhow::Result<Self> {
        let mut held = Self::default();
        for _ in 0..times {
            node.restart().await?;
            tokio::time::sleep(IDLE).await;
            held.memory.push(kilobytes(node)?);
        }
        if node.database.is_some() {
            held.connections = connections(node).await?;
            held.assets = assets().await?;
        }
        Ok(held)
    }
}

fn kilobytes(node: &Node) -> anyhow::Result<f64> {
    Ok(node.process.own_memory()? * 1.024)
}

async fn connections(node: &Node) -> anyhow::Result<f64> {
    let query = "SELECT count(*)::float8 FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name LIKE 'hansa-%'";
    number(&node.connect().await?, query).await
}

async fn assets() -> anyhow::Result<(usize, usize)> {
    let context = async_nats::jetstream::new(async_nats::connect(node::nats()?).await?);
    let mut streams = context.streams();
    let mut out = (0, 0);
    while let Some(stream) = streams.next().await {
        out = (out.0 + 1, out.1 + stream?.state.consumer_count);
    }
    Ok(out)
}

/// Makes `count` cities tenants and waits until all of them are evaluated.
async fn join(node: &Node, token: &str, count: usize) -> anyhow::Result<()> {
    let lines = node.callers(token, load::connections(CALLERS)).await?;
    load::each(&lines, CALLERS, count, |steward, city| async move {
        data::join(&steward, city).await?;
        Ok(())
    })
    .await?;
    node.settled_within(PATIENCE).await?;
    until("all cities that joined are evaluated", PATIENCE, async || {
        let evaluated = node.count("strategy", "records WHERE name LIKE 'evaluations/%'").await?;
        Ok(evaluated >= count as f64 && node.count("strategy", "dirty").await? == 0.0)
    })
    .await
}

/// Returns the row of one node.
async fn idle(options: &Options, mut node: Node, on: &str) -> anyhow::Result<Row> {
    let (times, count) = (options.runs.min(3), options.tenants);
    let token = node.token(None, "steward")?;
    data::enter_many(&node.callers(&token, load::connections(CALLERS)).await?, count + OTHERS).await?;
    node.settled_within(PATIENCE).await?;
    let before = MemoryUse::of(&mut node, times).await?;
    join(&node, &token, count).await?;
    let joining = kilobytes(&node)?;
    let after = MemoryUse::of(&mut node, times).await?;
    anyhow::ensure!(
        before.assets == after.assets,
        "{count} more tenants changed the broker's streams and consumers from {:?} to {:?}",
        before.assets,
        after.assets
    );
    let share = |(after, before): (&f64, &f64)| (after - before) / count as f64;
    let runs: Vec<f64> = after.memory.iter().zip(&before.memory).map(share).collect();
    let base = median(&before.memory);
    let mut row = Row::alone("Q-14", format!("memory of an idle tenant, of {count}, {on}"), "kB", &runs)
        .must(Must::Most(4.0))
        .note(format!(
            "anonymous memory {} s after a start: the difference with and without {count} tenants ({:.0} and {:.0} \
             kB, medians of {times} starts each); in the process in which they joined, before its restart: {:.1} kB \
             per tenant",
            IDLE.as_secs(),
            median(&after.memory),
            base,
            share((&joining, &base))
        ));
    if node.database.is_some() {
        row.notes.push(format!(
            "{} streams with {} consumers, before and after; {:.0} connections to PostgreSQL before, {:.0} after",
            after.assets.0, after.assets.1, before.connections, after.connections
        ));
    }
    Ok(row)
}

/// A failure on one kind of store does not affect the row of the other.
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut rows = Vec::new();
    let embedded = Node::embedded(options, here.path()).await?;
    rows.push(idle(options, embedded, "embedded").await.unwrap_or_else(|error| Row::failed("Q-14", &error)));
    let servers = Node::on_servers(options, there.path()).await?;
    let on_servers = idle(options, servers, "PostgreSQL + NATS").await;
    rows.push(on_servers.unwrap_or_else(|error| Row::failed("Q-14", &error)));
    Ok(rows)
}
