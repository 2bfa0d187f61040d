//! the rate of proposals of agreements. The peer implementation in `tests/peer` does the same job.

use crate::{
    Options,
    commands::latencies,
    data,
    load::{self, LoadResult},
    node::{Node, number, over},
    table::{Row, median},
};
use futures::future::try_join_all;
use hansa_tests::{Caller, cities};
use sea_orm::DatabaseConnection;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::{Status, transport::Channel};

const CALLERS: usize = 32;
/// Number of cities that have joined and propose, divided evenly among the callers. Issuing each city's token takes a
/// process, so there are fewer than the peer's five thousand. Fewer cities mean more agreements per evaluation.
const OFFICES: usize = 1_024;
/// Duration of the warm-up, the same as the peer's.
const WARM: Duration = Duration::from_secs(2);
/// Maximum time for the strategy service to catch up.
const PATIENCE: Duration = Duration::from_secs(300);

/// The caller of a city that has joined.
struct Office {
    number: usize,
    caller: Caller,
    /// Number of agreements that the city has proposed.
    proposed: AtomicUsize,
}

impl Office {
    async fn join(node: &Node, steward: &Caller, channel: &Channel, number: usize) -> anyhow::Result<Self> {
        let tenant = data::join(steward, number).await?;
        let caller = over(channel, &node.token(Some(&tenant), "ir_officer")?);
        Ok(Self { number, caller, proposed: AtomicUsize::new(0) })
    }

    /// Returns a city to which this office has not yet proposed. That city has not joined, so it never proposes in
    /// return.
    fn partner(&self, records: usize) -> Result<usize, Status> {
        let partners = records - OFFICES;
        let turn = self.proposed.fetch_add(1, Ordering::Relaxed);
        if turn >= partners {
            return Err(Status::out_of_range("this city has proposed to every other city: raise --records"));
        }
        // Each office begins with another partner.
        Ok(OFFICES + (self.number * partners / OFFICES + turn) % partners)
    }

    async fn propose(&self, records: usize) -> Result<(), Status> {
        let request = cities::proposal(&data::city(self.number), &data::city(self.partner(records)?));
        self.caller.agreements().propose_agreement(request).await.map(drop)
    }
}

/// Measures callers that propose agreements. Each caller goes round its own cities.
async fn proposals(offices: &Arc<Vec<Office>>, records: usize, long: Duration) -> anyhow::Result<LoadResult> {
    let lines: Vec<Caller> = offices.iter().map(|office| office.caller.clone()).collect();
    let offices = offices.clone();
    load::closed(&lines, CALLERS, long, move |_, number, turn| {
        let offices = offices.clone();
        async move { offices[number + turn % (OFFICES / CALLERS) * CALLERS].propose(records).await }
    })
    .await
}

/// Waits until a query returns 0. Returns the seconds that this took.
async fn none_left(db: &DatabaseConnection, query: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    while number(db, query).await? > 0.0 {
        anyhow::ensure!(began.elapsed() < PATIENCE, "the strategy service does not catch up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Number of agreements that the strategy service has not yet mirrored.
const UNHEARD: &str = "SELECT (SELECT count(*) FROM partnerships.records WHERE name LIKE 'agreements/%')::float8 \
                       - (SELECT count(*) FROM strategy.mirrors WHERE collection = 'agreements')::float8";
/// Number of cities that the strategy service has yet to evaluate.
const UNEVALUATED: &str = "SELECT count(*)::float8 FROM strategy.dirty";

/// Hansa's part of Q-12. `tests/peer/run.py` measures the peer and compares both.
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    anyhow::ensure!(options.records > OFFICES, "--records must be more than {OFFICES}");
    let folder = tempfile::tempdir()?;
    let node = Node::on_servers(options, folder.path()).await?;
    let steward = node.steward().await?;
    data::enter(&steward, options.records).await?;
    let mut offices = Vec::new();
    let channels = try_join_all((0..CALLERS).map(|_| node.process.connect())).await?;
    for number in 0..OFFICES {
        offices.push(Office::join(&node, &steward, &channels[number % CALLERS], number).await?);
    }
    let offices = Arc::new(offices);
    node.settled().await?;
    proposals(&offices, options.records, WARM).await?;
    node.analysed().await?;
    let db = node.connect().await?;
    let (mut runs, mut cores, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let (mut behind, mut evaluated) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        none_left(&db, UNHEARD).await?;
        none_left(&db, UNEVALUATED).await?;
        let before = node.process.on_core()?;
        let done = proposals(&offices, options.records, options.run()).await?;
        cores.push((node.process.on_core()? - before) * 1e6 / done.millis.len() as f64);
        behind.push(none_left(&db, UNHEARD).await?);
        evaluated.push(none_left(&db, UNEVALUATED).await?);
        runs.push(done.rate);
        all.push(done);
    }
    let what = format!("proposal of an agreement, PostgreSQL + NATS, {CALLERS} callers, the whole node");
    let proposed: usize = offices.iter().map(|office| office.proposed.load(Ordering::Relaxed)).sum();
    Ok(vec![
        Row::alone("Q-12", what, "/s", &runs)
            .note(format!(
                "{}; {:.0} µs of CPU time per proposal in the program under load; the strategy service had all \
                 agreements {:.2} s after the load ended, and had evaluated all cities {:.2} s later (medians)",
                latencies(&mut all),
                median(&cores),
                median(&behind),
                median(&evaluated)
            ))
            .note(format!(
                "{OFFICES} cities have joined and propose to the others, never twice to the same; at the end each \
                 had {} agreements, and each evaluation reads all of them; the services share one process and its \
                 cores",
                proposed / OFFICES
            )),
    ])
}
