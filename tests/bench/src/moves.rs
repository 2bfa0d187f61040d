//! what travels from one service to another.

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
    register::{CreateTenantRequest, Office, OfficeExistence, Tenant, TenantKind, UpdateOfficeRequest},
    strategy::{FindingCode, GetEvaluationRequest},
};
use hansa_tests::{Caller, request_id};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use std::time::{Duration, Instant};
use tonic::Status;

/// Cities whose offices come and go as load.
const CITIES: usize = 200;
/// Cities whose evaluations are waited for.
const PROBES: usize = 4;
/// Part of the rate of Q-1 at which commands come.
const SHARE: f64 = 0.3;

/// A joined city and its office's people.
#[derive(Clone)]
struct Joined {
    city: String,
    /// The office's own name.
    named: String,
    office: Caller,
}

impl Joined {
    async fn join(node: &Node, steward: &Caller, number: usize) -> anyhow::Result<Self> {
        let city = data::city(number);
        let tenant = Tenant { kind: TenantKind::City as i32, city: city.clone(), ..Default::default() };
        let request = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
        let tenant = steward.tenants().create_tenant(request).await?.into_inner().name;
        let token = node.token(Some(&tenant), "ir_officer")?;
        let office = node.callers(&token, 1).await?.pop().context("one caller")?;
        let id = RecordName::parse(&city, "cities", "city").map_err(|refusal| anyhow::anyhow!("{refusal}"))?.id;
        Ok(Self { city, named: format!("offices/{}", id.of("office")), office })
    }

    /// Says whether there is an office; its city must then be evaluated again.
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

    /// Whether the newest evaluation says so as well.
    async fn evaluated(&self, exists: bool) -> bool {
        let request = GetEvaluationRequest { city: self.city.clone(), ..Default::default() };
        match self.office.evaluations().get_evaluation(request).await {
            Ok(answer) => {
                let found = &answer.get_ref().findings;
                found.iter().any(|finding| finding.code() == FindingCode::NoOffice) != exists
            }
            Err(_) => false,
        }
    }

    /// Milliseconds from the acknowledgement of a command until its evaluation can be read.
    async fn probe(&self, exists: bool) -> anyhow::Result<f64> {
        self.say(exists).await?;
        let said = Instant::now();
        while !self.evaluated(exists).await {
            anyhow::ensure!(said.elapsed() < Duration::from_secs(30), "no new evaluation of {} in 30 s", self.city);
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(said.elapsed().as_secs_f64() * 1e3)
    }
}

/// Has offices come and go at a fixed rate. Answers how many commands that were.
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

///
pub async fn evaluation(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let node = Node::on_servers(options, folder.path()).await?;
    let steward = node.steward().await?;
    data::enter(&steward, options.records).await?;
    let lines = node.callers(&node.token(None, "steward")?, load::connections(32)).await?;
    renames(&lines, 32, options, 0).await?;
    let rate = renames(&lines, 32, options, 1).await?.rate * SHARE;
    let mut cities = Vec::new();
    for number in 0..CITIES + PROBES {
        cities.push(Joined::join(&node, &steward, number).await?);
    }
    let probes = cities.split_off(CITIES);
    node.settled().await?;
    for probe in &probes {
        probe.probe(false).await?;
    }
    let db = node.connect().await?;
    let (mut half, mut most, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let mut floor = stream::deliver_and_commit_twice(&node::nats()?, &db, 600, options.run()).await?;
        let long = options.run() * 2;
        let mut watching = tokio::task::JoinSet::new();
        for probe in probes.clone() {
            watching.spawn(async move {
                let (began, mut millis, mut exists) = (Instant::now(), Vec::new(), true);
                while began.elapsed() < long {
                    millis.push(probe.probe(exists).await?);
                    exists = !exists;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // So that the next run begins alike.
                if !exists {
                    probe.probe(false).await?;
                }
                anyhow::Ok(millis)
            });
        }
        let done = come_and_go(&cities, rate, long).await;
        let mut millis = Vec::new();
        while let Some(ended) = watching.join_next().await {
            millis.extend(ended??);
        }
        made.push(done as f64 / long.as_secs_f64());
        half.push((part(&mut floor, 0.5), part(&mut millis, 0.5)));
        most.push((part(&mut floor, 0.99), part(&mut millis, 0.99)));
    }
    let what = |of: &str| format!("acknowledged command to readable evaluation, {of}");
    Ok(vec![
        Row::beside("Q-4", what("p50"), "ms", &half).must(Must::Most(3.0)).note(format!(
            "{:.0} commands/s of {rate:.0} meant, each a change of an office, after which its city is evaluated; {PROBES} \
             cities more are asked for their evaluation every half millisecond; the floor, alone on the machine: publish, \
             deliver, acknowledge, then two transactions of one row",
            median(&made)
        )),
        Row::beside("Q-4", what("p99"), "ms", &most).must(Must::Most(10.0)),
    ])
}

/// How many changes there are, how many of them the broker has, and how many the two services have applied; all at one
/// moment.
async fn progress(db: &DatabaseConnection) -> anyhow::Result<[f64; 4]> {
    let mirrored = |service: &str| {
        format!("(SELECT coalesce(sum(version), 0)::float8 FROM {service}.mirrors WHERE subscription = 'cities')")
    };
    let query = format!(
        "SELECT count(*)::float8, count(published)::float8, {}, {} FROM register.changes",
        mirrored("partnerships"),
        mirrored("strategy")
    );
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    let row = row.context("the query answers")?;
    let mut out = [0.0; 4];
    for (at, out) in out.iter_mut().enumerate() {
        *out = row.try_get_by_index(at)?;
    }
    Ok(out)
}

/// Waits until all have everything; answers the seconds.
async fn drained(db: &DatabaseConnection) -> anyhow::Result<f64> {
    let began = Instant::now();
    loop {
        let [made, others @ ..] = progress(db).await?;
        if others.iter().all(|have| *have >= made) {
            return Ok(began.elapsed().as_secs_f64());
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "{others:?} of {made} after a minute");
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
        // The first moments are the start of the load, the last may be its end.
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
        "the floor is the command rate of 32 callers, both seen between two moments while the load goes on: 1 is as much \
         as there is; the most that any was behind was {most:.0} changes; after the load all had everything within {:.2} s \
         (median; longest {:.2} s)",
        median(&behind),
        behind.iter().copied().fold(0.0, f64::max)
    ));
    Ok(rows)
}
