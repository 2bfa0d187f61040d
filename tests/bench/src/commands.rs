//! a durable command over gRPC.

use crate::{
    Options, data,
    floors::{pgbench, sample::Sample, sqlite},
    load::{self, Done},
    node::Node,
    table::{Must, Row, median, part},
};
use hansa_proto::register::RenameCityRequest;
use hansa_tests::{Caller, request_id};
use tonic::Status;

/// Renames a city, as a correction: one change, one state, one row of a view, one of a feed, one request id.
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

/// Callers rename cities of their own, in turn.
pub async fn renames(lines: &[Caller], callers: usize, options: &Options, run: usize) -> anyhow::Result<Done> {
    let records = options.records;
    load::closed(lines, callers, options.run(), move |caller, number, turn| {
        let own = records.div_ceil(callers);
        // No two callers have a city in common.
        let city = number + (turn % own) * callers;
        rename(caller, city % records, format!("City {run}-{turn}"))
    })
    .await
}

fn latencies(done: &mut [Done]) -> String {
    let mut all: Vec<f64> = done.iter_mut().flat_map(|done| std::mem::take(&mut done.millis)).collect();
    format!("latency over all runs: p50 {:.2} ms, p99 {:.2} ms", part(&mut all, 0.5), part(&mut all, 0.99))
}

///
pub async fn embedded(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let node = Node::embedded(options, folder.path()).await?;
    data::enter(&node.steward().await?, options.records).await?;
    let lines = node.callers(&node.token(None, "steward")?, load::connections(32)).await?;
    renames(&lines, 32, options, 0).await?;
    let register = folder.path().join("register.db");
    let mut floor = sqlite::Floor::make(&folder.path().join("floor.db"), &register, options.records)?;
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
    let what = "command, embedded, 32 callers";
    Ok(vec![
        Row::beside("Q-2", what, "/s", &runs)
            .must(Must::Least(1.0))
            .note(format!(
                "{}; {:.0} µs of a core each in the program; the floor is SQLite's C interface from one thread while nothing \
                 else runs here; the program shares its cores with the callers, and two more services apply each rename",
                latencies(&mut all),
                median(&cores)
            )),
        Row::beside("Q-2", "the same beside bare SQLite with 16 commands a commit", "/s", &best),
    ])
}

/// Q-1, for the register alone, as it is defined, and for a node that runs all services.
pub async fn postgres(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (alone, all) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let register = Node::one_service(options, alone.path(), "register").await?;
    let mut rows = on_postgres(options, &register, "the register alone").await?;
    drop(register);
    let node = Node::on_servers(options, all.path()).await?;
    let mut whole = on_postgres(options, &node, "the whole node").await?;
    for (row, note) in [
        (
            rows.last_mut(),
            "the floor writes five rows as statements and reads nothing; the program also reads the record and the \
             request id, publishes to NATS and marks what it published",
        ),
        (whole.last_mut(), "beyond the definition: two more services in the same process apply each change"),
    ] {
        row.into_iter().for_each(|row| row.notes.push(note.into()));
    }
    rows.append(&mut whole);
    Ok(rows)
}

async fn on_postgres(options: &Options, node: &Node, called: &str) -> anyhow::Result<Vec<Row>> {
    data::enter(&node.steward().await?, options.records).await?;
    let token = node.token(None, "steward")?;
    let lines = node.callers(&token, load::connections(64)).await?;
    renames(&lines, 32, options, 0).await?;
    let db = node.connect().await?;
    let sample = Sample::server(&db).await?;
    let database = node.database.clone().unwrap_or_default();
    let floor = pgbench::Floor::make(options.pgbench.clone(), &database, &db, &sample, options.records).await?;
    let mut rows = Vec::new();
    for (callers, must) in [(1, 0.7), (32, 1.0), (64, 1.5)] {
        let lines = node.callers(&token, load::connections(callers)).await?;
        let (mut runs, mut cores, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for run in 1..=options.runs {
            node.settled().await?;
            let bare = floor.run(callers, options.seconds)?;
            let before = node.process.on_core()?;
            let done = renames(&lines, callers, options, callers * 100 + run).await?;
            cores.push((node.process.on_core()? - before) * 1e6 / done.millis.len() as f64);
            runs.push((bare, done.rate));
            all.push(done);
        }
        let what = format!("command, PostgreSQL, {callers} callers, {called}, {} records", options.records);
        let note = format!("{}; {:.0} µs of a core each in the program", latencies(&mut all), median(&cores));
        rows.push(Row::beside("Q-1", what, "/s", &runs).must(Must::Least(must)).note(note));
    }
    Ok(rows)
}
