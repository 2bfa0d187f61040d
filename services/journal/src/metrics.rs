//! What a journal counts, for those who run it. Labels are services, subscriptions, queues and outcomes: few, and never of a
//! record or a tenant. Without an exporter an instrument does nothing.

use crate::{
    job::{Done, Work},
    read::Health,
};
use hansa_kernel::Refusal;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};
use std::sync::LazyLock;

/// All instruments. They belong to the exporter that stands when the first one is used.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(Instruments::new);

struct Instruments {
    commands: Counter<u64>,
    batch: Histogram<u64>,
    waiting: Gauge<u64>,
    queue: Gauge<u64>,
    backlog: Gauge<u64>,
    lag: Histogram<f64>,
    frozen: Gauge<u64>,
    overdue: Gauge<u64>,
    quarantine: Gauge<u64>,
}

/// Bounds of the lag's buckets, in seconds.
const LAG: [f64; 11] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3_600.0];

impl Instruments {
    fn new() -> Self {
        let meter = global::meter("hansa");
        let commands = meter.u64_counter("hansa.commands").with_description("Commands, by what came of them");
        let batch =
            meter.u64_histogram("hansa.batch.commands").with_description("Commands that one transaction decided");
        let waiting = meter.u64_gauge("hansa.commands.waiting").with_description("Commands that wait for the writer");
        let queue = meter.u64_gauge("hansa.queue.depth").with_description("Keys that wait to be worked on, up to 500");
        let backlog = meter.u64_gauge("hansa.relay.backlog").with_description("Changes that the broker does not have");
        let lag = meter
            .f64_histogram("hansa.subscription.lag")
            .with_unit("s")
            .with_boundaries(LAG.to_vec())
            .with_description("Age of the newest change of a batch once it is applied");
        let frozen = meter.u64_gauge("hansa.records.frozen").with_description("Records that take no more commands");
        let overdue = meter
            .u64_gauge("hansa.timers.overdue")
            .with_description("Records whose timer should have fired an hour ago");
        let quarantine =
            meter.u64_gauge("hansa.quarantine.records").with_description("Records that a subscription could not apply");
        Self {
            commands: commands.build(),
            batch: batch.build(),
            waiting: waiting.build(),
            queue: queue.build(),
            backlog: backlog.build(),
            lag: lag.build(),
            frozen: frozen.build(),
            overdue: overdue.build(),
            quarantine: quarantine.build(),
        }
    }
}

/// What came of a piece of work, in one word.
fn outcome(work: &Work, answer: &Result<Vec<Done>, Refusal>) -> &'static str {
    match (work, answer) {
        (_, Err(refusal)) => refusal.reason.as_str_name().trim_start_matches("REASON_"),
        (Work::Timer { .. }, Ok(_)) => "FIRED",
        (Work::Commands { .. }, Ok(done)) if done.iter().any(|one| one.repeated) => "REPEATED",
        (Work::Commands { validate_only: true, .. }, Ok(_)) => "TRIED",
        (Work::Commands { .. }, Ok(_)) => "DONE",
    }
}

/// A transaction took a batch off the queue of commands.
pub(crate) fn batch(service: &'static str, taken: usize, waiting: usize) {
    let service = [KeyValue::new("service", service)];
    INSTRUMENTS.batch.record(taken as u64, &service);
    INSTRUMENTS.waiting.record(waiting as u64, &service);
}

/// A piece of work was answered.
pub(crate) fn answered(service: &'static str, work: &Work, answer: &Result<Vec<Done>, Refusal>) {
    let labels = [KeyValue::new("service", service), KeyValue::new("outcome", outcome(work, answer))];
    INSTRUMENTS.commands.add(1, &labels);
}

/// A round of a queue found so many keys.
pub(crate) fn queue(service: &'static str, queue: &'static str, depth: usize) {
    INSTRUMENTS.queue.record(depth as u64, &[KeyValue::new("service", service), KeyValue::new("queue", queue)]);
}

/// The broker lacks so many changes.
pub(crate) fn backlog(service: &'static str, changes: u64) {
    INSTRUMENTS.backlog.record(changes, &[KeyValue::new("service", service)]);
}

/// A subscription applied changes, the newest of which is so old.
pub(crate) fn lag(subscription: &'static str, seconds: f64) {
    INSTRUMENTS.lag.record(seconds, &[KeyValue::new("subscription", subscription)]);
}

/// A look at a service found so many records that somebody must look after.
pub(crate) fn ailing(service: &'static str, health: Health, quarantined: u64) {
    let service = [KeyValue::new("service", service)];
    INSTRUMENTS.frozen.record(health.frozen, &service);
    INSTRUMENTS.overdue.record(health.overdue, &service);
    INSTRUMENTS.quarantine.record(quarantined, &service);
}
