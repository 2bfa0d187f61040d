//! the rate of durable commands over gRPC.

use crate::{
    Options, data,
    floors::{pgbench, sample::Sample, sqlite},
    load::{self, LoadResult, Walk},
    node::Node,
    table::{Must, Row, median, part},
};
use hansa_proto::register::RenameCityRequest;
use hansa_tests::{Caller, request_id};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tonic::Status;

/// Number of records in the row without cache hits: twice the size of the program's cache.
const COLD: usize = 100_000;

/// Renames a city as a correction. The command writes one change, one state, one view row, one feed row and one
/// idempotency key.
pub async fn rename(caller: Caller, city: usize, called: String) -> Result<(), Status> {
    let request = RenameCityRequest {
        name: data::city(city),
        request_id: request_id(),
        display_name: called,
        correction: true,
        ..Default::default()
    };
    caller.cities().rename_city(request).await.map(drop)
}

/// Measures callers that rename cities. Each caller goes round its own cities.
pub async fn renames(lines: &[Caller], callers: usize, options: &Options, run: usize) -> anyhow::Result<LoadResult> {
    let records = options.records;
    load::closed(lines, callers, options.run(), move |caller, number, turn| {
        let own = records.div_ceil(callers);
        // No two callers share a city.
        let city = number + (turn % own) * callers;
        rename(caller, city % records, format!("City {run}-{turn}"))
    })
    .await
}

/// Measures callers that rename the cities of a walk through many records.
pub async fn renames_along(lines: &[Caller], walk: Walk, options: &Options, run: usize) -> anyhow::Result<LoadResult> {
    load::closed(lines, walk.callers, options.run(), move |caller, number, turn| {
        rename(caller, walk.at(number, run, turn), format!("City {run}-{turn}"))
    })
    .await
}

/// Describes the latency of the calls in some runs. Takes the samples out of the results.
pub fn latencies(done: &mut [LoadResult]) -> String {
    let mut all: Vec<f64> = done.iter_mut().flat_map(|done| std::mem::take(&mut done.millis)).collect();
    format!("latency over all runs: p50 {:.2} ms, p99 {:.2} ms", part(&mut all, 0.5), part(&mut all, 0.99))
}

/// Q-2, for a node that runs all services, and for the nearest possible shape to an embedded register alone.
pub async fn embedded(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let node = Node::embedded(options, folder.path()).await?;
    let mut rows = on_a_file(options, node, "embedded, the whole node").await?;
    rows[0].must = Some(Must::Least(1.0));
    rows[0].notes.push("beyond the definition: the other services in the same process also apply each rename".into());
    // Without a broker, the row above is still valid.
    rows.extend(alone_on_a_file(options).await.unwrap_or_else(|error| vec![Row::failed("Q-2", &error)]));
    Ok(rows)
}

async fn alone_on_a_file(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let register = Node::one_service_on_a_file(options, folder.path(), "register").await?;
    let mut rows = on_a_file(options, register, "a file and NATS, the register alone").await?;
    // The target applies to the embedded program, not to this shape.
    rows[0].notes.push(
        "not embedded: the program does not start a single service without a broker, so it also publishes each change, \
         records the publication in the same file, and twice a second scans all changes for unpublished ones"
            .into(),
    );
    Ok(rows)
}

async fn on_a_file(options: &Options, node: Node, called: &str) -> anyhow::Result<Vec<Row>> {
    data::enter(&node.steward().await?, options.records).await?;
    let lines = node.callers(&node.token(None, "steward")?, load::connections(32)).await?;
    renames(&lines, 32, options, 0).await?;
    let register = node.folder.join("register.db");
    let mut floor = sqlite::Floor::make(&node.folder.join("floor.db"), &register, options.records)?;
    let (mut runs, mut best, mut cores, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 1..=options.runs {
        node.settled().await?;
        let bare = floor.run(options.run(), 1)?;
        let batched = floor.run(options.run(), 16)?;
        let before = node.process.on_core()?;
        let done = renames(&lines, 32, options, run).await?;
        cores.push((node.process.on_core()? - before) * 1e6 / done.millis.len() as f64);
        runs.push((bare, done.rate));
        best.push((batched, done.rate));
        all.push(done);
    }
    let note = format!(
        "{}; {:.0} µs of CPU time per command in the program; the floor uses SQLite's C interface from one thread on \
         an otherwise idle machine; the program shares its cores with the callers",
        latencies(&mut all),
        median(&cores)
    );
    let batched = format!("the same beside bare SQLite with 16 commands a commit, {called}");
    Ok(vec![
        Row::beside("Q-2", format!("command, 32 callers, {called}"), "/s", &runs).note(note),
        Row::beside("Q-2", batched, "/s", &best),
    ])
}

/// Q-1, for the register alone (as defined), for the register alone with many records, and for a node that runs all
/// services.
pub async fn postgres(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (alone, all) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let register = Node::one_service(options, alone.path(), "register").await?;
    let mut rows = on_postgres(options, &register, "the register alone").await?;
    drop(register);
    let last = rows.len() - 1;
    rows[last].notes.push(
        "the floor writes five rows with one statement each and reads nothing; the program also reads the record and \
         the idempotency key, publishes to NATS and records the publication"
            .into(),
    );
    rows.push(cold(options).await?);
    let node = Node::on_servers(options, all.path()).await?;
    let mut whole = on_postgres(options, &node, "the whole node").await?;
    let beyond = "beyond the definition: the other services in the same process also apply each change";
    whole.last_mut().into_iter().for_each(|row| row.notes.push(beyond.into()));
    rows.append(&mut whole);
    Ok(rows)
}

/// Sets up pgbench on the node's own database, with the rows that the node's newest rename wrote.
async fn floor(options: &Options, node: &Node, records: usize) -> anyhow::Result<pgbench::Floor> {
    let db = node.connect().await?;
    let sample = Sample::server(&db).await?;
    let database = node.database.clone().unwrap_or_default();
    pgbench::Floor::make(options.pgbench.clone(), &database, &db, &sample, records).await
}

/// Alternates runs of pgbench and of renames. Returns the rates and a note.
async fn turns(
    options: &Options,
    node: &Node,
    (floor, callers): (&pgbench::Floor, usize),
    renames: impl AsyncFn(usize) -> anyhow::Result<LoadResult>,
) -> anyhow::Result<(Vec<(f64, f64)>, String)> {
    let (mut runs, mut cores, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=options.runs {
        node.settled().await?;
        let bare = floor.run(callers, options.seconds)?;
        let before = node.process.on_core()?;
        let done = renames(run).await?;
        cores.push((node.process.on_core()? - before) * 1e6 / done.millis.len() as f64);
        runs.push((bare, done.rate));
        all.push(done);
    }
    Ok((runs, format!("{}; {:.0} µs of CPU time per command in the program", latencies(&mut all), median(&cores))))
}

async fn on_postgres(options: &Options, node: &Node, called: &str) -> anyhow::Result<Vec<Row>> {
    data::enter(&node.steward().await?, options.records).await?;
    let token = node.token(None, "steward")?;
    let lines = node.callers(&token, load::connections(64)).await?;
    renames(&lines, 32, options, 0).await?;
    node.analysed().await?;
    let floor = floor(options, node, options.records).await?;
    let mut rows = Vec::new();
    for (callers, must) in [(1, 0.7), (32, 1.0), (64, 1.5)] {
        let lines = node.callers(&token, load::connections(callers)).await?;
        let run = async |run| renames(&lines, callers, options, callers * 100 + run).await;
        let (runs, note) = turns(options, node, (&floor, callers), run).await?;
        let what = format!("command, PostgreSQL, {callers} callers, {called}, {} records", options.records);
        rows.push(Row::beside("Q-1", what, "/s", &runs).must(Must::Least(must)).note(note));
    }
    Ok(rows)
}

/// The register alone, restarted with many records. Each command addresses a record that is not in the cache.
async fn cold(options: &Options) -> anyhow::Result<Row> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::one_service(options, folder.path(), "register").await?;
    let token = node.token(None, "steward")?;
    data::enter_many(&node.callers(&token, load::connections(32)).await?, COLD).await?;
    node.settled_within(Duration::from_secs(600)).await?;
    node.restart().await?;
    let lines = node.callers(&token, load::connections(32)).await?;
    let walk = Walk { records: COLD, callers: 32, runs: options.runs + 1 };
    renames_along(&lines, walk, options, 0).await?;
    node.analysed().await?;
    let floor = floor(options, &node, COLD).await?;
    let longest = AtomicUsize::new(0);
    let run = async |run| {
        let done = renames_along(&lines, walk, options, run).await?;
        longest.fetch_max(done.millis.len(), Ordering::Relaxed);
        Ok(done)
    };
    let (runs, note) = turns(options, &node, (&floor, 32), run).await?;
    let fresh = walk.fresh() * walk.callers;
    let what = format!("command, PostgreSQL, 32 callers, the register alone, {COLD} records, none in memory");
    Ok(Row::beside("Q-1", what, "/s", &runs).must(Must::Least(0.8)).note(note).note(format!(
        "the process was started after the records were entered; each run has {fresh} records that no earlier command \
         used, and the longest run had {} commands",
        longest.into_inner()
    )))
}
