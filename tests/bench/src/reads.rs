//! the rate of reads of one record over gRPC.

use crate::{
    Options, data,
    floors::echo,
    load,
    node::{Node, Process, callers},
    table::{Must, Row, median},
};
use hansa_proto::register::GetCityRequest;
use hansa_tests::Caller;

const CALLERS: usize = 64;

/// Returns the reads per second, and the CPU time per read in the server, in microseconds.
async fn reads(server: &Process, lines: &[Caller], options: &Options) -> anyhow::Result<(f64, f64)> {
    let before = server.on_core()?;
    let records = options.records;
    let done = load::closed(lines, CALLERS, options.run(), move |caller, number, turn| async move {
        let name = data::city((number + turn * CALLERS) % records);
        caller.cities().get_city(GetCityRequest { name, ..Default::default() }).await.map(drop)
    });
    let done = done.await?;
    Ok((done.rate, (server.on_core()? - before) * 1e6 / done.millis.len() as f64))
}

///
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let memory = Node::embedded(options, here.path()).await?;
    let rows = Node::on_servers(options, there.path()).await?;
    for node in [&memory, &rows] {
        data::enter(&node.steward().await?, options.records).await?;
    }
    let token = memory.token(None, "steward")?;
    let request = GetCityRequest { name: data::city(1), ..Default::default() };
    let city = memory.steward().await?.cities().get_city(request).await?.into_inner();
    let bare = echo::start(&city)?;
    let count = load::connections(CALLERS);
    let bare_lines = callers(&bare, &token, count).await?;
    let memory_lines = memory.callers(&token, count).await?;
    let row_lines = rows.callers(&rows.token(None, "steward")?, count).await?;
    for node in [&memory, &rows] {
        node.settled().await?;
    }
    let (mut cached, mut read) = (Vec::new(), Vec::new());
    let mut cores = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..options.runs {
        let (floor, bare) = reads(&bare, &bare_lines, options).await?;
        let (from_memory, memory) = reads(&memory.process, &memory_lines, options).await?;
        let (from_rows, rows) = reads(&rows.process, &row_lines, options).await?;
        cached.push((floor, from_memory));
        read.push((floor, from_rows));
        for (cores, took) in cores.iter_mut().zip([bare, memory, rows]) {
            cores.push(took);
        }
    }
    let [bare, memory, rows] = cores.map(|cores| median(&cores));
    Ok(vec![
        Row::beside("Q-3", "GetCity from memory, 64 callers", "/s", &cached).must(Must::Least(0.6)),
        Row::beside("Q-3", "GetCity from PostgreSQL, 64 callers", "/s", &read).must(Must::Least(0.4)).note(format!(
            "the floor is a bare tonic server in its own process that answers each call with the same city; the \
             callers, in one process, share the cores with both servers and limit their rates; CPU time per call: \
             {bare:.1} µs in the bare server, {memory:.1} in the program from memory, {rows:.1} from PostgreSQL"
        )),
    ])
}
