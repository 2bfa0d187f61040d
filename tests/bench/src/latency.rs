//! the latency from a command in one service to its effect in another.

use crate::{
    Options,
    commands::renames,
    data,
    floors::stream,
    load,
    node::{self, Node},
    table::{Must, Row, median, part},
};
use anyhow::Context;
use hansa_kernel::RecordName;
use hansa_proto::{
    register::{Office, OfficeExistence, UpdateOfficeRequest},
    strategy::{FindingCode, WatchEvaluationsRequest, WatchEvaluationsResponse},
};
use hansa_tests::{Caller, request_id};
use sea_orm::DatabaseConnection;
use std::time::{Duration, Instant};
use tonic::{Response, Status, Streaming};

/// Number of cities whose office records the load updates.
const CITIES: usize = 200;
/// Number of cities whose evaluations are measured.
const PROBES: usize = 4;
/// Command rates, as shares of the maximum rate: the share that Q-4 defines, and one at which queues stay almost empty.
const SHARES: [f64; 2] = [0.3, 0.03];
/// Pause of each probe between two commands.
const REST: Duration = Duration::from_millis(20);
/// Maximum time to wait for an evaluation.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of evaluations.
type Coming = Streaming<WatchEvaluationsResponse>;

/// A city that has joined, and the caller of its office.
#[derive(Clone)]
struct Joined {
    city: String,
    /// The name of the office record.
    named: String,
    office: Caller,
}

impl Joined {
    async fn join(node: &Node, steward: &Caller, number: usize) -> anyhow::Result<Self> {
        let city = data::city(number);
        let tenant = data::join(steward, number).await?;
        let token = node.token(Some(&tenant), "ir_officer")?;
        let office = node.callers(&token, 1).await?.pop().context("no caller")?;
        let id = RecordName::parse(&city, "cities", "city").map_err(|refusal| anyhow::anyhow!("{refusal}"))?.id;
        Ok(Self { city, named: format!("offices/{}", id.of("office")), office })
    }

    /// Sets whether the office exists. The strategy service then evaluates the city again.
    async fn say(&self, exists: bool) -> Result<(), Status> {
        let existence = if exists { OfficeExistence::Exists } else { OfficeExistence::None };
        let (name, city) = (self.named.clone(), self.city.clone());
        let office = Office { name, city, existence: existence as i32, ..Default::default() };
        let mask = UpdateOfficeRequest {
            office: Some(office),
            update_mask: Some(prost_types::FieldMask { paths: vec!["existence".into()] }),
            request_id: request_id(),
            ..Default::default()
        };
        self.office.offices().update_office(mask).await.map(drop)
    }

    /// Returns the milliseconds from the acknowledgement of a command to the evaluation that it causes.
    async fn probe(&self, exists: bool, coming: &mut Coming) -> anyhow::Result<f64> {
        self.say(exists).await?;
        let said = Instant::now();
        tokio::time::timeout(PATIENCE, async {
            while !heard(coming, exists).await? {}
            anyhow::Ok(())
        })
        .await
        .with_context(|| format!("no new evaluation of {}", self.city))??;
        Ok(said.elapsed().as_secs_f64() * 1e3)
    }

    /// Opens a stream of the city's evaluations.
    async fn watch(&self) -> Result<Coming, Status> {
        let request = WatchEvaluationsRequest { city: self.city.clone(), ..Default::default() };
        self.office.evaluations().watch_evaluations(request).await.map(Response::into_inner)
    }

    /// Repeats the probe for `long`, with pauses. Returns the milliseconds of each.
    async fn probes(self, long: Duration) -> anyhow::Result<Vec<f64>> {
        let mut coming = self.watch().await?;
        let (began, mut millis, mut exists) = (Instant::now(), Vec::new(), true);
        while began.elapsed() < long {
            millis.push(self.probe(exists, &mut coming).await?);
            exists = !exists;
            tokio::time::sleep(REST).await;
        }
        // The next run must begin in the same state.
        if !exists {
            self.probe(false, &mut coming).await?;
        }
        Ok(millis)
    }
}

/// Reads the next evaluation. Returns whether it agrees with `exists` about the office.
async fn heard(coming: &mut Coming, exists: bool) -> anyhow::Result<bool> {
    // A heartbeat has no evaluation.
    let evaluation = loop {
        if let Some(evaluation) = coming.message().await?.context("the watch ended")?.evaluation {
            break evaluation;
        }
    };
    Ok(evaluation.findings.iter().any(|finding| finding.code() == FindingCode::NoOffice) != exists)
}

/// Updates offices at a fixed rate. Returns the number of commands that succeeded.
async fn come_and_go(cities: &[Joined], rate: f64, long: Duration) -> usize {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    let mut said = 0;
    let mut running = tokio::task::JoinSet::new();
    while began.elapsed() < long {
        tick.tick().await;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        while said < due {
            let (city, exists) = (cities[said % cities.len()].clone(), (said / cities.len()).is_multiple_of(2));
            running.spawn(async move { city.say(exists).await });
            said += 1;
        }
    }
    let mut done = 0;
    while let Some(ended) = running.join_next().await {
        done += usize::from(matches!(ended, Ok(Ok(()))));
    }
    done
}

/// Runs the floor, then the probes under load. Returns the milliseconds of both, and the commands per second.
async fn run(
    options: &Options,
    db: &DatabaseConnection,
    (cities, probes): (&[Joined], &[Joined]),
    rate: f64,
) -> anyhow::Result<(Vec<f64>, Vec<f64>, f64)> {
    let floor = stream::deliver_and_commit_twice(&node::nats()?, db, 600, options.run()).await?;
    let long = options.run() * 2;
    let mut watching = tokio::task::JoinSet::new();
    for probe in probes {
        watching.spawn(probe.clone().probes(long));
    }
    let done = come_and_go(cities, rate, long).await;
    let mut millis = Vec::new();
    while let Some(ended) = watching.join_next().await {
        millis.extend(ended??);
    }
    Ok((floor, millis, done as f64 / long.as_secs_f64()))
}

///
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let node = Node::on_servers(options, folder.path()).await?;
    let steward = node.steward().await?;
    data::enter(&steward, options.records).await?;
    let lines = node.callers(&node.token(None, "steward")?, load::connections(32)).await?;
    renames(&lines, 32, options, 0).await?;
    let full = renames(&lines, 32, options, 1).await?.rate;
    let mut cities = Vec::new();
    for number in 0..CITIES + PROBES {
        cities.push(Joined::join(&node, &steward, number).await?);
    }
    let probes = cities.split_off(CITIES);
    node.settled().await?;
    node.analysed().await?;
    for probe in &probes {
        let mut coming = probe.watch().await?;
        probe.say(false).await?;
        while !heard(&mut coming, false).await? {}
    }
    let db = node.connect().await?;
    let mut rows = Vec::new();
    for (share, meant) in SHARES.into_iter().zip([true, false]) {
        let (mut half, mut most, mut made, mut cores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.runs {
            node.settled().await?;
            let (began, before) = (Instant::now(), node.process.on_core()?);
            let (mut floor, mut millis, done) = run(options, &db, (&cities, &probes), full * share).await?;
            cores.push((node.process.on_core()? - before) / began.elapsed().as_secs_f64());
            made.push(done);
            half.push((part(&mut floor, 0.5), part(&mut millis, 0.5)));
            most.push((part(&mut floor, 0.99), part(&mut millis, 0.99)));
        }
        let rate = median(&made);
        let what = |of: &str| format!("acknowledged command to new evaluation, {of}, at {rate:.0} commands/s");
        let note = format!(
            "target rate {:.0} commands/s, each an update of an office that causes an evaluation of its city; {PROBES} \
             more cities are watched (WatchEvaluations); the program used {:.2} cores, the floor's time included; the \
             floor, alone on the machine: publish, deliver, acknowledge, then two transactions of one row",
            full * share,
            median(&cores)
        );
        let must = |row: Row, must| if meant { row.must(Must::Most(must)) } else { row };
        rows.push(must(Row::beside("Q-4", what("p50"), "ms", &half), 3.0).note(note));
        rows.push(must(Row::beside("Q-4", what("p99"), "ms", &most), 10.0));
    }
    Ok(rows)
}
