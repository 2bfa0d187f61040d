//! the rates of the relay and of subscriptions under full load.

use crate::{
    Options,
    commands::renames,
    data, load,
    node::Node,
    table::{Must, Row, median},
};
use anyhow::Context;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use std::time::{Duration, Instant};

/// Returns the number of committed changes, of published changes, and of changes that each of the two services has
/// applied. One statement reads all four.
async fn progress(db: &DatabaseConnection) -> anyhow::Result<[f64; 4]> {
    let mirrored = |service: &str| {
        format!("(SELECT coalesce(sum(version), 0)::float8 FROM {service}.mirrors WHERE collection = 'cities')")
    };
    let query = format!(
        "SELECT count(*)::float8, count(stream_sequence)::float8, {}, {} FROM register.changes",
        mirrored("partnerships"),
        mirrored("strategy")
    );
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    let row = row.context("the query returned no row")?;
    let mut out = [0.0; 4];
    for (at, out) in out.iter_mut().enumerate() {
        *out = row.try_get_by_index(at)?;
    }
    Ok(out)
}

/// Waits until the broker and both services have every change. Returns the seconds that this took.
async fn drained(db: &DatabaseConnection) -> anyhow::Result<f64> {
    let began = Instant::now();
    loop {
        let [made, others @ ..] = progress(db).await?;
        if others.iter().all(|have| *have >= made) {
            return Ok(began.elapsed().as_secs_f64());
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "only {others:?} of {made} changes after a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

///
pub async fn relay(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let node = Node::on_servers(options, folder.path()).await?;
    data::enter(&node.steward().await?, options.records).await?;
    let lines = node.callers(&node.token(None, "steward")?, load::connections(32)).await?;
    let db = node.connect().await?;
    renames(&lines, 32, options, 0).await?;
    drained(&db).await?;
    let mut runs: [Vec<(f64, f64)>; 3] = Default::default();
    let (mut behind, mut most) = (Vec::new(), 0.0_f64);
    for run in 1..=options.runs {
        let load = tokio::spawn({
            let (lines, options) = (lines.clone(), options.clone());
            async move { renames(&lines, 32, &options, run).await }
        });
        let mut seen: Vec<(f64, [f64; 4])> = Vec::new();
        let began = Instant::now();
        while !load.is_finished() {
            seen.push((began.elapsed().as_secs_f64(), progress(&db).await?));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        load.await??;
        // The first and the last sample are dropped: the load may be starting or ending then.
        let (Some(first), Some(last)) = (seen.get(1), seen.get(seen.len().saturating_sub(2))) else { continue };
        let took = last.0 - first.0;
        let rate = |at: usize| (last.1[at] - first.1[at]) / took;
        for (at, runs) in runs.iter_mut().enumerate() {
            runs.push((rate(0), rate(at + 1)));
        }
        for (_, [made, others @ ..]) in &seen {
            most = others.iter().map(|have| made - have).fold(most, f64::max);
        }
        behind.push(drained(&db).await?);
    }
    let names = ["the relay published", "partnerships applied", "strategy applied"];
    let mut rows: Vec<Row> = names
        .iter()
        .zip(&runs)
        .map(|(name, runs)| {
            Row::beside("Q-13", format!("changes that {name} under full load"), "/s", runs).must(Must::Least(1.0))
        })
        .collect();
    rows[0].notes.push(format!(
        "the floor is the command rate of 32 callers; both rates are measured between two samples under load, so 1 \
         means that nothing falls behind; the maximum lag was {most:.0} changes; after the load, everything was \
         applied within {:.2} s (median; longest {:.2} s)",
        median(&behind),
        behind.iter().copied().fold(0.0, f64::max)
    ));
    Ok(rows)
}
