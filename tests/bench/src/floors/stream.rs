//! The floor for the latency between services: delivery by JetStream, then two commits in sequence.

use async_nats::jetstream::{self, consumer, stream};
use futures::StreamExt;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};
use std::time::{Duration, Instant};

/// Repeats for `long`: publishes a message, waits for its delivery, and commits two transactions of one row. Returns
/// the milliseconds of each round.
pub async fn deliver_and_commit_twice(
    nats: &str,
    db: &DatabaseConnection,
    bytes: usize,
    long: Duration,
) -> anyhow::Result<Vec<f64>> {
    db.execute_unprepared("CREATE TABLE IF NOT EXISTS floor_commits (id bigserial PRIMARY KEY, body bytea)").await?;
    let context = jetstream::new(async_nats::connect(nats).await?);
    let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
    let config = stream::Config { name: name.clone(), subjects: vec![name.clone()], ..Default::default() };
    let stream = context.create_stream(config).await?;
    let consumer =
        stream.create_consumer(consumer::pull::Config { durable_name: Some("bench".into()), ..Default::default() });
    let mut messages = consumer.await?.messages().await?;
    let body = bytes::Bytes::from(vec![7; bytes]);
    let insert = Statement::from_sql_and_values(
        db.get_database_backend(),
        "INSERT INTO floor_commits (body) VALUES ($1)",
        [sea_orm::Value::from(body.to_vec())],
    );
    let began = Instant::now();
    let mut millis = Vec::new();
    while began.elapsed() < long {
        let sent = Instant::now();
        context.publish(name.clone(), body.clone()).await?.await?;
        if let Some(message) = messages.next().await {
            message?.ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        for _ in 0..2 {
            let tx = db.begin().await?;
            tx.execute_raw(insert.clone()).await?;
            tx.commit().await?;
        }
        millis.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    context.delete_stream(&name).await?;
    Ok(millis)
}
