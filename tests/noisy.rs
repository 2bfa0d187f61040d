//! a tenant that calls without pause gets its share and `RESOURCE_EXHAUSTED` for the rest. No call of another
//! tenant is refused.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_chassis::limits::{RETRY_AFTER, TENANT_CALLS};
use hansa_proto::register::RenameCityRequest;
use hansa_tests::{Caller, Platform, Shape, cities, eventually, request_id, rule};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Endpoint};
use tonic_types::StatusExt;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// Number of concurrent calls that the noisy tenant tries to keep open.
const NOISE: usize = 4 * TENANT_CALLS;
/// Number of commands of the quiet tenant, sent one after the other.
const QUIET: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_12_a_noisy_tenant_is_told_to_wait_and_the_others_are_not_embedded() {
    noisy(Platform::start(HANSA, Shape::Embedded).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_12_a_noisy_tenant_is_told_to_wait_and_the_others_are_not_on_servers() {
    noisy(Platform::start(HANSA, Shape::OneProcess).await).await;
}

/// Both tenants share one connection, as behind a gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_12_refusals_do_not_cut_the_connection_that_others_share() {
    noisy_on(Platform::start(HANSA, Shape::Embedded).await, true).await;
}

async fn rename(office: &Caller, city: &str, to: &str) -> Result<(), Status> {
    let request = RenameCityRequest {
        name: city.into(),
        display_name: to.into(),
        correction: true,
        request_id: request_id(),
        ..Default::default()
    };
    office.cities().rename_city(request).await.map(drop)
}

/// The results of the noisy tenant's calls.
#[derive(Default)]
struct Noise {
    stop: AtomicBool,
    done: AtomicU64,
    /// Calls that failed because their connection broke.
    broken: AtomicU64,
    refused: Mutex<Vec<Status>>,
}

impl Noise {
    fn refused(&self) -> usize {
        self.refused.lock().unwrap().len()
    }
}

/// Returns the caller with a connection of its own.
async fn alone(platform: &Platform, of: &Caller) -> Caller {
    let endpoint = Endpoint::from_shared(format!("http://{}", platform.address())).unwrap();
    of.through(&endpoint.connect().await.unwrap())
}

async fn call_without_end(noise: Arc<Noise>, office: Caller, city: String) {
    while !noise.stop.load(Ordering::Relaxed) {
        // The name stays the same, so the history of the city does not reach its maximum length.
        match rename(&office, &city, "Dresden").await {
            Ok(()) => drop(noise.done.fetch_add(1, Ordering::Relaxed)),
            Err(status) if status.get_details_error_info().is_none() => {
                noise.broken.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => noise.refused.lock().unwrap().push(status),
        }
    }
}

async fn noisy(platform: Platform) {
    noisy_on(platform, false).await;
}

async fn noisy_on(mut platform: Platform, shared: bool) {
    cities::enter(&platform, &[("1", "Dresden", "DE"), ("2", "Bologna", "IT")], &[]).await;
    let (loud, quiet) = (cities::join(&platform, "1").await, cities::join(&platform, "2").await);
    let noise = Arc::new(Noise::default());
    let office = if shared { loud.office.clone() } else { alone(&platform, &loud.office).await };
    let call = |_| call_without_end(noise.clone(), office.clone(), loud.city.clone());
    let mut callers: JoinSet<()> = (0..NOISE).map(call).collect();
    eventually("the noisy tenant is refused", async || (noise.refused() > 0).then_some(())).await;
    let before = noise.refused();
    for turn in 0..QUIET {
        let named = rename(&quiet.office, &quiet.city, &format!("Bologna {turn}")).await;
        named.unwrap_or_else(|status| panic!("command {turn} of the quiet tenant failed: {status:?}"));
    }
    let meanwhile = noise.refused() - before;
    noise.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let (done, broken) = (noise.done.load(Ordering::Relaxed), noise.broken.load(Ordering::Relaxed));
    let refused = noise.refused();
    println!("noisy tenant: {done} done, {refused} refused ({meanwhile} during the quiet commands), {broken} cut off");
    assert!(!shared || broken == 0, "{broken} calls failed because their connection broke");
    assert!(meanwhile > 0, "the noisy tenant was not refused during the quiet tenant's commands");
    assert!(done > 0, "the noisy tenant got no call through");
    for status in noise.refused.lock().unwrap().iter() {
        assert_eq!((status.code(), rule(status).as_str()), (Code::ResourceExhausted, "PL-1"), "{status:?}");
        assert_eq!(status.get_details_quota_failure().unwrap().violations[0].subject, "TENANT_CALLS");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_AFTER));
    }
    platform.stop();
}
