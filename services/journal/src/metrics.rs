//! The metrics of a journal. Their labels are services, subscriptions, queues and outcomes: few values, and never a record or a
//! tenant. Without an exporter, recording does nothing.

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};
use std::sync::LazyLock;

/// All instruments. They belong to the meter provider that is set when the first one is used.
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

/// The bucket boundaries of the lag, in seconds.
const LAG: [f64; 11] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3_600.0];

impl Instruments {
    fn new() -> Self {
        let meter = global::meter("hansa");
        let commands = meter.u64_counter("hansa.commands").with_description("Commands by outcome");
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

/// Counts the commands that a batch takes, and those that wait.
pub(crate) fn batch(service: &'static str, taken: usize, waiting: usize) {
    let service = [KeyValue::new("service", service)];
    INSTRUMENTS.batch.record(taken as u64, &service);
    INSTRUMENTS.waiting.record(waiting as u64, &service);
}

/// Counts a command by its outcome.
pub(crate) fn command(service: &'static str, outcome: &'static str) {
    INSTRUMENTS.commands.add(1, &[KeyValue::new("service", service), KeyValue::new("outcome", outcome)]);
}

/// Records how many keys a queue had.
pub(crate) fn queue(service: &'static str, queue: &'static str, depth: usize) {
    INSTRUMENTS.queue.record(depth as u64, &[KeyValue::new("service", service), KeyValue::new("queue", queue)]);
}

/// Records how many changes the broker lacks.
pub(crate) fn backlog(service: &'static str, changes: u64) {
    INSTRUMENTS.backlog.record(changes, &[KeyValue::new("service", service)]);
}

/// Records the age of the newest change that a subscription has just applied.
pub(crate) fn lag(subscription: &'static str, seconds: f64) {
    INSTRUMENTS.lag.record(seconds, &[KeyValue::new("subscription", subscription)]);
}

/// Records how many records are frozen, overdue and in quarantine.
pub(crate) fn health(service: &'static str, frozen: u64, overdue: u64, quarantined: u64) {
    let service = [KeyValue::new("service", service)];
    INSTRUMENTS.frozen.record(frozen, &service);
    INSTRUMENTS.overdue.record(overdue, &service);
    INSTRUMENTS.quarantine.record(quarantined, &service);
}
