//! the proposal of an agreement, the job that the peer does as well (`tests/peer`).

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
/// Cities that have joined and propose, as many for each caller. A token of each takes a process of its own to make. The
/// peer's callers speak for five thousand; the fewer they are, the more agreements each evaluation has to look at.
const OFFICES: usize = 1_024;
/// How long they propose before anything is measured, as the peer's do.
const WARM: Duration = Duration::from_secs(2);
/// How long the other services may take to hear of everything.
const PATIENCE: Duration = Duration::from_secs(300);

/// The office of a city that has joined.
struct Office {
    number: usize,
    caller: Caller,
    /// How many agreements it has proposed.
    proposed: AtomicUsize,
}

impl Office {
    async fn join(node: &Node, steward: &Caller, channel: &Channel, number: usize) -> anyhow::Result<Self> {
        let tenant = data::join(steward, number).await?;
        let caller = over(channel, &node.token(Some(&tenant), "ir_officer")?);
        Ok(Self { number, caller, proposed: AtomicUsize::new(0) })
    }

    /// A city to which this office has not proposed before. None of them has joined, so that none proposes in return.
    fn partner(&self, records: usize) -> Result<usize, Status> {
        let partners = records - OFFICES;
        let turn = self.proposed.fetch_add(1, Ordering::Relaxed);
        if turn >= partners {
            return Err(Status::out_of_range("an agreement with every city is proposed: give more --records"));
        }
        // The offices do not begin with the same one.
        Ok(OFFICES + (self.number * partners / OFFICES + turn) % partners)
    }

    async fn propose(&self, records: usize) -> Result<(), Status> {
        let request = cities::proposal(&data::city(self.number), &data::city(self.partner(records)?));
        self.caller.agreements().create_agreement(request).await.map(drop)
    }
}

/// Callers propose for cities of their own each, in turn.
async fn proposals(offices: &Arc<Vec<Office>>, records: usize, long: Duration) -> anyhow::Result<LoadResult> {
    let lines: Vec<Caller> = offices.iter().map(|office| office.caller.clone()).collect();
    let offices = offices.clone();
    load::closed(&lines, CALLERS, long, move |_, number, turn| {
        let offices = offices.clone();
        async move { offices[number + turn % (OFFICES / CALLERS) * CALLERS].propose(records).await }
    })
    .await
}

/// Waits until a query answers 0; answers the seconds.
async fn none_left(db: &DatabaseConnection, query: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    while number(db, query).await? > 0.0 {
        anyhow::ensure!(began.elapsed() < PATIENCE, "the strategy service does not get through");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Agreements that the strategy service has not heard of.
const UNHEARD: &str = "SELECT (SELECT count(*) FROM partnerships.records WHERE name LIKE 'agreements/%')::float8 \
                       - (SELECT count(*) FROM strategy.mirrors WHERE subscription = 'agreements')::float8";
/// Cities that it has yet to evaluate.
const UNEVALUATED: &str = "SELECT count(*)::float8 FROM strategy.dirty";

/// Q-12, as far as it is Hansa's: the peer stands beside it in `tests/peer/run.py`.
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    anyhow::ensure!(options.records > OFFICES, "it takes more than {OFFICES} --records");
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
                "{}; {:.0} µs of a core each in the program while it is under load; the strategy service had all agreements \
                 {:.2} s after the load ended, and had evaluated the cities again {:.2} s later (medians)",
                latencies(&mut all),
                median(&cores),
                median(&behind),
                median(&evaluated)
            ))
            .note(format!(
                "{OFFICES} cities have joined and propose to the others, never twice to the same; in the end each had {} \
                 agreements, all of which an evaluation of it looks at; the services share the process and its cores",
                proposed / OFFICES
            )),
    ])
}
