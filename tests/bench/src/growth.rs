//! rates with a million records, compared with the rates with a thousand.

use crate::{
    Options,
    commands::{latencies, renames, renames_along},
    data,
    load::{self, LoadResult, Walk},
    node::Node,
    table::{Must, Row},
};
use hansa_proto::register::{GetCityRequest, ListCitiesRequest};
use hansa_tests::Caller;
use sea_orm::ConnectionTrait;
use std::time::Duration;

/// Number of records on the small node.
const FEW: usize = 1_000;
/// Number of callers for commands and for lists.
const CALLERS: usize = 32;
/// Number of callers for reads.
const READERS: usize = 64;
/// Number of cities per page.
const PAGE: i32 = 50;
/// Maximum time for the other services to apply all entered records.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// Minimum ratio of the rates: a call may take 1.5 times as long with many records.
const LEAST: f64 = 0.667;

/// One side of the comparison: a node and its callers.
struct Side {
    node: Node,
    lines: Vec<Caller>,
    /// The options, with the number of this node's records.
    options: Options,
}

impl Side {
    /// Enters the records and restarts the process, so that its cache is empty.
    async fn fill(options: &Options, mut node: Node, records: usize) -> anyhow::Result<Self> {
        let token = node.token(None, "steward")?;
        data::enter_many(&node.callers(&token, load::connections(CALLERS)).await?, records).await?;
        node.settled_within(PATIENCE).await?;
        if node.database.is_some() {
            // Otherwise autovacuum would start in the middle of a run.
            node.connect().await?.execute_unprepared("VACUUM ANALYZE").await?;
        }
        node.restart().await?;
        let lines = node.callers(&token, load::connections(READERS)).await?;
        Ok(Self { node, lines, options: Options { records, ..options.clone() } })
    }

    fn walk(&self, callers: usize) -> Walk {
        Walk { records: self.options.records, callers, runs: self.options.runs + 1 }
    }

    /// Measures lists: each call reads the first page of one country's cities, country after country.
    async fn lists(&self) -> anyhow::Result<LoadResult> {
        load::closed(&self.lines, CALLERS, self.options.run(), |caller, number, turn| async move {
            let country_code = data::COUNTRIES[(number + turn) % data::COUNTRIES.len()].to_owned();
            let request = ListCitiesRequest { page_size: PAGE, country_code, ..Default::default() };
            caller.cities().list_cities(request).await.map(drop)
        })
        .await
    }

    /// Measures reads of single records, over all records.
    async fn reads(&self, run: usize) -> anyhow::Result<LoadResult> {
        let walk = self.walk(READERS);
        load::closed(&self.lines, READERS, self.options.run(), move |caller, number, turn| async move {
            let name = data::city(walk.at(number, run, turn));
            caller.cities().get_city(GetCityRequest { name, ..Default::default() }).await.map(drop)
        })
        .await
    }

    /// Measures commands on all records.
    async fn commands(&self, run: usize) -> anyhow::Result<LoadResult> {
        renames_along(&self.lines, self.walk(CALLERS), &self.options, run).await
    }

    /// Measures commands on the same records in each run. After the first run these records are in the cache,
    /// regardless of the number of other records.
    async fn commands_in_memory(&self, run: usize) -> anyhow::Result<LoadResult> {
        renames(&self.lines, CALLERS, &self.options, self.options.runs + 1 + run).await
    }
}

/// Alternates runs on both sides. Returns a row whose floor is the small side.
async fn compare(
    [few, many]: [&Side; 2],
    what: &str,
    run: impl AsyncFn(&Side, usize) -> anyhow::Result<LoadResult>,
) -> anyhow::Result<Row> {
    let (mut runs, mut small, mut large) = (Vec::new(), Vec::new(), Vec::new());
    // Run 0 is a warm-up: it opens connections and prepares statements.
    for number in 0..=few.options.runs {
        let first = run(few, number).await?;
        few.node.settled_within(PATIENCE).await?;
        let second = run(many, number).await?;
        many.node.settled_within(PATIENCE).await?;
        if number > 0 {
            runs.push((first.rate, second.rate));
            small.push(first);
            large.push(second);
        }
    }
    Ok(Row::beside("Q-10", what, "/s", &runs).must(Must::Least(LEAST)).note(format!(
        "{} records: {}; {} records: {}",
        few.options.records,
        latencies(&mut small),
        many.options.records,
        latencies(&mut large)
    )))
}

/// Returns all rows for one kind of node.
async fn on(kind: &str, few: Side, many: Side) -> anyhow::Result<Vec<Row>> {
    let sides = [&few, &many];
    let count = many.options.records;
    let what = |what: &str| format!("{what}, {kind}, {count} records beside {FEW}");
    let mut rows = vec![
        // The measurements that change records come last.
        compare(sides, &what("ListCities, 50 of one country, 32 callers"), async |side, _| side.lists().await).await?,
        compare(sides, &what("GetCity, of all records, 64 callers"), async |side, run| side.reads(run).await).await?,
        compare(sides, &what("command, of all records, 32 callers"), async |side, run| side.commands(run).await)
            .await?,
        compare(sides, &what("command, of records in memory, 32 callers"), async |side, run| {
            side.commands_in_memory(run).await
        })
        .await?,
    ];
    rows[0].notes.push(format!(
        "floor: the rate with {FEW} records, figure: the rate with {count}; callers wait for their answers, so 1.5 \
         times the latency is {LEAST} of the rate; both processes were started after the records were entered; GetCity \
         and the first commands visit each record once before they repeat, so hardly any of the many records is in the \
         cache and nearly all of the few are; each list reads a country's first page"
    ));
    Ok(rows)
}

///
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let [one, two] = [tempfile::tempdir()?, tempfile::tempdir()?];
    let few = Side::fill(options, Node::one_service(options, one.path(), "register").await?, FEW).await?;
    let many = Side::fill(options, Node::one_service(options, two.path(), "register").await?, options.many).await?;
    let mut rows = on("PostgreSQL, the register alone", few, many).await?;
    let [one, two] = [tempfile::tempdir()?, tempfile::tempdir()?];
    // An embedded node always runs all services: a single service does not start without a broker.
    let few = Side::fill(options, Node::embedded(options, one.path()).await?, FEW).await?;
    let many = Side::fill(options, Node::embedded(options, two.path()).await?, options.many).await?;
    rows.append(&mut on("embedded, the whole node", few, many).await?);
    Ok(rows)
}
