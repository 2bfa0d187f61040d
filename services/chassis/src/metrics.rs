//! The metrics of the chassis: calls refused by a limit, and panics. Labels are limits: few values, and never a tenant.

use opentelemetry::{KeyValue, global, metrics::Counter};
use std::sync::LazyLock;

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(Instruments::new);

struct Instruments {
    refused: Counter<u64>,
    panics: Counter<u64>,
}

impl Instruments {
    fn new() -> Self {
        let meter = global::meter("hansa");
        let refused = meter.u64_counter("hansa.calls.refused").with_description("Calls and streams refused, by limit");
        let panics = meter.u64_counter("hansa.panics").with_description("Panics; each is a defect of the program");
        Self { refused: refused.build(), panics: panics.build() }
    }
}

/// Counts a call or a stream that a limit refused.
pub(crate) fn refused(limit: &'static str) {
    INSTRUMENTS.refused.add(1, &[KeyValue::new("limit", limit)]);
}

/// Counts a panic.
pub(crate) fn panicked() {
    INSTRUMENTS.panics.add(1, &[]);
}
