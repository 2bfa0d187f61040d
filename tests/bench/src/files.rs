//! rebuild, import and start of the embedded program.

use crate::{
    Options, data,
    floors::sqlite,
    node::{Node, Process, serve},
    table::{Must, Row, median},
};
use std::{path::Path, process::Command, time::Instant};

/// Runs a command of the program to its end. Returns the seconds that it took.
fn timed(options: &Options, arguments: &[&str], folder: &Path) -> anyhow::Result<f64> {
    let began = Instant::now();
    let output = Command::new(options.program()?)
        .args(arguments)
        .arg("--data")
        .arg(folder)
        .env_remove("HANSA_SERVER")
        .env_remove("HANSA_TOKEN")
        .output()?;
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "hansa {arguments:?}: {}", said());
    Ok(began.elapsed().as_secs_f64())
}

/// Imports synthetic cities into a folder. Returns the seconds that the import took.
fn cities(options: &Options, folder: &Path, count: usize) -> anyhow::Result<f64> {
    let file = tempfile::Builder::new().suffix(".csv").tempfile()?;
    data::cities_file(file.path(), count)?;
    let name = file.path().to_string_lossy().into_owned();
    let began = Instant::now();
    timed(options, &["import", "cities", &name, "--format", "csv"], folder)?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(seconds)
}

fn ties(options: &Options, folder: &Path, count: usize, cities: usize) -> anyhow::Result<f64> {
    let file = tempfile::Builder::new().suffix(".csv").tempfile()?;
    data::ties_file(file.path(), count, cities)?;
    let name = file.path().to_string_lossy().into_owned();
    timed(options, &["import", "ties", &name], folder)
}

/// Serves a folder until the services have applied all changes, so that the next start finds no pending work.
async fn settle(options: &Options, folder: &Path) -> anyhow::Result<()> {
    let mut node = Node::embedded(options, folder).await?;
    for (service, mirrored) in [("partnerships", "cities"), ("strategy", "cities"), ("strategy", "agreements")] {
        let owner = if mirrored == "cities" { "register" } else { "partnerships" };
        let there = format!("SELECT count(*) FROM records WHERE name LIKE '{mirrored}/%'");
        let wanted = sqlite::number(&folder.join(format!("{owner}.db")), &there)?;
        let here = format!("SELECT count(*) FROM mirrors WHERE collection = '{mirrored}'");
        while sqlite::number(&folder.join(format!("{service}.db")), &here)? < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    node.process.stop()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

const SERVICES: [&str; 3] = ["register", "partnerships", "strategy"];

///
pub async fn rebuild(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    // With many cities, the command's start time is negligible.
    cities(options, folder.path(), options.cities)?;
    settle(options, folder.path()).await?;
    let mut runs = Vec::new();
    let mut changes = 0;
    for _ in 0..options.runs {
        let mut floor = 0.0;
        changes = 0;
        for service in SERVICES {
            let (seconds, count) = sqlite::read_changes(&folder.path().join(format!("{service}.db")))?;
            floor += seconds;
            changes += count;
        }
        let seconds = timed(options, &["rebuild"], folder.path())?;
        runs.push((changes as f64 / floor, changes as f64 / seconds));
    }
    let what = format!("changes rebuilt, embedded, {changes} of as many records");
    Ok(vec![Row::beside("Q-7", what, "/s", &runs).must(Must::Least(0.2)).note(
        "the floor reads the rows with SQLite's C interface from the page cache; the figure is the whole `hansa \
         rebuild` with its start; it also compares every state and row before and after, and writes with synchronous \
         = FULL",
    )])
}

///
pub async fn import(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let count = options.records;
    cities(options, folder.path(), count)?;
    settle(options, folder.path()).await?;
    let mut runs = Vec::new();
    let mut rows = 0;
    for _ in 0..options.runs {
        let fresh = tempfile::tempdir()?;
        copy(folder.path(), fresh.path())?;
        let seconds = ties(options, fresh.path(), options.ties, count)?;
        let file = fresh.path().join("partnerships.db");
        let written = sqlite::Rows::read(&file, &["changes", "feed", "records", "requests", "seals", "agreements"])?;
        rows = written.len();
        let floor = written.write(&fresh.path().join("floor.db"), 500)?;
        runs.push((options.ties as f64 / floor, options.ties as f64 / seconds));
    }
    let what = format!("ties imported, embedded, {} ties between {count} cities", options.ties);
    Ok(vec![Row::beside("Q-8", what, "/s", &runs).must(Must::Least(0.2)).note(format!(
        "synthetic ties; the floor writes the same {rows} rows of the partnerships service with SQLite's C \
         interface, 500 of each table per commit; the figure is the whole `hansa import ties`: its start, reading the \
         file, looking up the cities, and the strategy service, which applies the ties in parallel",
    ))])
}

/// Returns the seconds from the start of the process until it is ready, and its memory in MiB three seconds later.
async fn start_once(options: &Options, folder: &Path) -> anyhow::Result<(f64, f64)> {
    let began = Instant::now();
    let mut process = Process::start(serve(&options.program()?, folder, None, None))?;
    process.ready().await?;
    let seconds = began.elapsed().as_secs_f64();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let memory = process.memory()?;
    process.stop()?;
    Ok((seconds, memory))
}

///
pub async fn start(options: &Options) -> anyhow::Result<Vec<Row>> {
    let large = tempfile::tempdir()?;
    let seconds = cities(options, large.path(), options.cities)?;
    eprintln!("bench: {} cities imported in {seconds:.1} s", options.cities);
    let seconds = ties(options, large.path(), options.ties, options.cities)?;
    eprintln!("bench: {} ties imported in {seconds:.1} s", options.ties);
    settle(options, large.path()).await?;
    let mut times = [Vec::new(), Vec::new()];
    let mut memories = [Vec::new(), Vec::new()];
    for _ in 0..options.runs {
        let empty = tempfile::tempdir()?;
        for (at, folder) in [empty.path(), large.path()].into_iter().enumerate() {
            let (seconds, memory) = start_once(options, folder).await?;
            times[at].push(seconds);
            memories[at].push(memory);
        }
    }
    let many = format!("{} cities and {} ties", options.cities, options.ties);
    let [empty, full] = times;
    let [small, big] = memories;
    eprintln!("bench: started in {:.3} s empty, {:.3} s full", median(&empty), median(&full));
    Ok(vec![
        Row::alone("Q-9", "start to ready, empty folder", "s", &empty).must(Must::Most(0.5)),
        Row::alone("Q-9", format!("start to ready, {many}"), "s", &full)
            .must(Must::Most(2.0))
            .note("synthetic records; the files are in the page cache"),
        Row::alone("Q-9", "memory, idle, empty folder", "MiB", &small).must(Must::Most(60.0)),
        Row::alone("Q-9", format!("memory, idle, {many}"), "MiB", &big)
            .must(Must::Most(300.0))
            .note("resident memory three seconds after the start, without any calls"),
    ])
}
