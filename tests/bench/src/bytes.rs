//! bytes stored and sent per command.

use crate::{
    Options,
    commands::rename,
    data,
    floors::sqlite,
    load,
    node::{self, Node, number},
    table::{Must, Row},
};
use sea_orm::ConnectionTrait;
use std::time::Duration;

/// Renames every city once.
async fn rename_all(node: &Node, options: &Options, turn: usize) -> anyhow::Result<()> {
    let lines = node.callers(&node.token(None, "steward")?, load::connections(32)).await?;
    load::each(&lines, 32, options.records, move |line, city| async move {
        Ok(rename(line, city, format!("City {city}-{turn}")).await?)
    })
    .await?;
    // Wait also until the relay has recorded its last publications.
    node.settled().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn streamed() -> anyhow::Result<f64> {
    let context = async_nats::jetstream::new(async_nats::connect(node::nats()?).await?);
    let mut streams = context.streams();
    let mut bytes = 0.0;
    while let Some(stream) = futures::StreamExt::next(&mut streams).await {
        bytes += stream?.state.bytes as f64;
    }
    Ok(bytes)
}

///
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    Ok(vec![embedded(options, here.path()).await?, servers(options, there.path()).await?])
}

async fn embedded(options: &Options, folder: &std::path::Path) -> anyhow::Result<Row> {
    let register = folder.join("register.db");
    let (mut runs, commands) = (Vec::new(), options.records as f64);
    let seeding = Node::embedded(options, folder).await?;
    data::enter(&seeding.steward().await?, options.records).await?;
    rename_all(&seeding, options, 0).await?;
    let mut node = seeding;
    for run in 1..=options.runs.min(3) {
        let before = sqlite::bytes(&register)?;
        rename_all(&node, options, run).await?;
        let grown = sqlite::bytes(&register)? - before;
        let envelope = sqlite::number(&register, "SELECT avg(length(envelope)) FROM changes WHERE version > 1")?;
        runs.push((envelope, grown / commands));
    }
    node.process.stop()?;
    Ok(Row::beside("Q-11", "bytes a command leaves, embedded", "B", &runs).must(Must::Most(6.0)).note(
        "growth of the register's file per rename (journal with signature, feed, idempotency key, indexes; state and \
         view are overwritten in place); the floor is the envelope with its payload",
    ))
}

async fn servers(options: &Options, folder: &std::path::Path) -> anyhow::Result<Row> {
    let node = Node::on_servers(options, folder).await?;
    data::enter(&node.steward().await?, options.records).await?;
    rename_all(&node, options, 0).await?;
    let db = node.connect().await?;
    db.execute_unprepared("VACUUM").await?;
    let size = "SELECT sum(pg_total_relation_size(c.oid))::float8 FROM pg_class c JOIN pg_namespace n \
                ON n.oid = c.relnamespace WHERE n.nspname = 'register' AND c.relkind = 'r'";
    let envelope = "SELECT avg(length(envelope))::float8 FROM register.changes WHERE version > 1";
    let (mut runs, commands) = (Vec::new(), options.records as f64);
    for run in 1..=options.runs.min(3) {
        let (stored, sent) = (number(&db, size).await?, streamed().await?);
        rename_all(&node, options, run).await?;
        db.execute_unprepared("VACUUM").await?;
        let grown = number(&db, size).await? - stored + streamed().await? - sent;
        runs.push((number(&db, envelope).await?, grown / commands));
    }
    Ok(Row::beside("Q-11", "bytes a command leaves, PostgreSQL and NATS", "B", &runs).must(Must::Most(6.0)).note(
        "growth of the register's tables and indexes after VACUUM, and of the stream; neither the write-ahead log \
         nor the mirrors of the other services are counted; three runs",
    ))
}
