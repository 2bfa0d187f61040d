//! the effect of one noisy tenant on quiet tenants.

use crate::{
    Options,
    commands::rename,
    data,
    load::{self, LoadResult},
    node::Node,
    table::{Must, Row, part},
};
use hansa_proto::register::RenameCityRequest;
use hansa_tests::{Caller, request_id};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// Number of quiet tenants. Each is a city that renames itself, one call at a time.
const QUIET: usize = 8;
/// Number of concurrent calls that the noisy tenant tries to keep open.
const NOISE: usize = 512;
/// Pause of the noisy tenant after a refusal: shorter than the retry delay that the refusal states.
const IMPATIENCE: Duration = Duration::from_millis(50);

/// Makes a city of the bench a tenant and returns its mayor.
async fn mayor(node: &Node, steward: &Caller, city: usize) -> anyhow::Result<Caller> {
    let tenant = data::join(steward, city).await?;
    let token = node.token(Some(&tenant), "mayor")?;
    node.callers(&token, 1).await?.pop().ok_or_else(|| anyhow::anyhow!("no caller"))
}

async fn quiet(mayors: &[Caller], options: &Options) -> anyhow::Result<LoadResult> {
    load::closed(mayors, QUIET, options.run(), |mayor, city, turn| async move {
        let request = RenameCityRequest {
            name: data::city(city),
            request_id: request_id(),
            display_name: format!("Quiet {turn}"),
            correction: true,
            ..Default::default()
        };
        mayor.cities().rename_city(request).await.map(drop)
    })
    .await
}

/// Makes calls until `stop` is cancelled. Returns how many succeeded and how many were refused.
async fn noise(lines: Vec<Caller>, records: usize, stop: CancellationToken) -> (usize, usize) {
    let mut callers = tokio::task::JoinSet::new();
    let lines = Arc::new(lines);
    for number in 0..NOISE {
        let (lines, stop) = (lines.clone(), stop.clone());
        callers.spawn(async move {
            let (mut done, mut refused) = (0, 0);
            while !stop.is_cancelled() {
                let city = QUIET + (number + done * NOISE) % (records - QUIET);
                match rename(lines[number % lines.len()].clone(), city, format!("Loud {done}")).await {
                    Ok(()) => done += 1,
                    Err(status) => {
                        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                        refused += 1;
                        tokio::time::sleep(IMPATIENCE).await;
                    }
                }
            }
            (done, refused)
        });
    }
    callers.join_all().await.into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
}

///
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let node = Node::embedded(options, folder.path()).await?;
    let steward = node.steward().await?;
    data::enter(&steward, options.records).await?;
    let mut mayors = Vec::new();
    for city in 0..QUIET {
        mayors.push(mayor(&node, &steward, city).await?);
    }
    let lines = node.callers(&node.token(None, "steward")?, 8).await?;
    quiet(&mayors, options).await?;
    let (mut runs, mut notes) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        node.settled().await?;
        let mut alone = quiet(&mayors, options).await?;
        let stop = CancellationToken::new();
        let loud = tokio::spawn(noise(lines.clone(), options.records, stop.clone()));
        let mut beside = quiet(&mayors, options).await?;
        stop.cancel();
        let (done, refused) = loud.await?;
        runs.push((part(&mut alone.millis, 0.99), part(&mut beside.millis, 0.99)));
        notes.push(format!(
            "noisy tenant: {done} done, {refused} refused; quiet tenants: p50 {:.1} ms alone, {:.1} ms under noise",
            part(&mut alone.millis, 0.5),
            part(&mut beside.millis, 0.5),
        ));
    }
    let what = format!("p99 of {QUIET} quiet tenants beside one with {NOISE} calls at once, embedded");
    let mut row = Row::beside("R-12", what, "ms", &runs)
        .must(Must::Most(2.0))
        .note("the floor is the p99 without noise, measured just before; the noise is made on the same cores");
    row.notes.extend(notes);
    Ok(vec![row])
}
