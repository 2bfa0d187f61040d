//! The bench: compares the program's speed with a floor measured on the same machine (quality.md).
//!
//! It starts the real program on real databases and a real broker and loads it over gRPC. Most rows have a figure of
//! the program and a floor: the rate of a minimal implementation of the same work. Runs of floor and figure
//! alternate, so that other load on the machine affects both.

mod bytes;
mod commands;
mod data;
mod evaluation;
mod files;
mod floors;
mod growth;
mod latency;
mod load;
mod moves;
mod node;
mod noisy;
mod overload;
mod proposals;
mod reads;
mod table;
mod tenants;

use anyhow::Context;
use clap::Parser;
use std::{path::PathBuf, time::Duration};
use table::Row;

/// The ids of all measurements, in the order of the table.
const ALL: [&str; 15] =
    ["Q-1", "Q-2", "Q-3", "Q-4", "Q-6", "Q-7", "Q-8", "Q-9", "Q-10", "Q-11", "Q-12", "Q-13", "Q-14", "Q-15", "R-12"];

/// Measures the program, compares it with its floors, and prints a table.
#[derive(Clone, Debug, Parser)]
#[command(name = "hansa-bench")]
pub(crate) struct Options {
    /// Path of the program [default: `hansa` in the folder of this executable]
    #[arg(long)]
    hansa: Option<PathBuf>,
    /// Path of PostgreSQL's pgbench
    #[arg(long, env = "PGBENCH", default_value = "pgbench")]
    pgbench: PathBuf,
    /// Run only these measurements, for example
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Number of runs per figure; the table shows the median
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Duration of a run in seconds
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Number of records that commands and reads use
    #[arg(long, default_value_t = 5_000)]
    records: usize,
    /// Number of cities on the large node
    #[arg(long, default_value_t = 170_923)]
    cities: usize,
    /// Number of ties in an import and on the large node
    #[arg(long, default_value_t = 23_890)]
    ties: usize,
    /// Number of records on the large node of Q-10
    #[arg(long, default_value_t = 1_000_000)]
    many: usize,
    /// Number of cities that join and stay idle
    #[arg(long, default_value_t = 10_000)]
    tenants: usize,
    /// File to which the table is written as JSON
    #[arg(long, default_value = "target/bench.json")]
    output: PathBuf,
    /// Run as the bare server of Q-3 with this answer; the bench starts itself with this option
    #[arg(long, hide = true, value_name = "HEX")]
    echo: Option<String>,
}

impl Options {
    fn run(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn program(&self) -> anyhow::Result<PathBuf> {
        match &self.hansa {
            Some(given) => Ok(given.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("hansa")),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(answer) = &options.echo {
        return floors::echo::serve(answer).await;
    }
    let program = options.program()?;
    anyhow::ensure!(program.exists(), "{} does not exist: build it in release mode first", program.display());
    let wanted: Vec<&str> =
        ALL.into_iter().filter(|id| options.only.is_empty() || options.only.iter().any(|only| only == id)).collect();
    anyhow::ensure!(!wanted.is_empty(), "--only names no measurement: choose from {}", ALL.join(", "));
    let mut rows: Vec<Row> = Vec::new();
    for id in wanted {
        eprintln!("bench: {id}");
        match measure(&options, id).await {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row::failed(id, &error)),
        }
        write(&options, &rows)?;
    }
    println!("{}", table::print(&rows));
    Ok(())
}

/// Writes the rows measured so far, so that an interrupted bench keeps its results.
fn write(options: &Options, rows: &[Row]) -> anyhow::Result<()> {
    if let Some(folder) = options.output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.output, table::json(rows, options)?)
        .with_context(|| format!("{} cannot be written", options.output.display()))
}

async fn measure(options: &Options, id: &str) -> anyhow::Result<Vec<Row>> {
    match id {
        "Q-1" => commands::postgres(options).await,
        "Q-2" => commands::embedded(options).await,
        "Q-3" => reads::measure(options).await,
        "Q-4" => latency::measure(options).await,
        "Q-6" => evaluation::measure(options),
        "Q-7" => files::rebuild(options).await,
        "Q-8" => files::import(options).await,
        "Q-9" => files::start(options).await,
        "Q-10" => growth::measure(options).await,
        "Q-11" => bytes::measure(options).await,
        "Q-12" => proposals::measure(options).await,
        "Q-13" => moves::relay(options).await,
        "Q-14" => tenants::measure(options).await,
        "Q-15" => overload::measure(options).await,
        _ => noisy::measure(options).await,
    }
}
