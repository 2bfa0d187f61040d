//! What the running gear counts, for those who run it. Labels are limits: few, and never of a tenant.

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
        let refused =
            meter.u64_counter("hansa.calls.refused").with_description("Calls and streams refused, by the limit");
        let panics = meter.u64_counter("hansa.panics").with_description("Panics: each is a mistake in the program");
        Self { refused: refused.build(), panics: panics.build() }
    }
}

/// A call or a stream was refused by a limit.
pub(crate) fn refused(limit: &'static str) {
    INSTRUMENTS.refused.add(1, &[KeyValue::new("limit", limit)]);
}

/// Something panicked.
pub(crate) fn panicked() {
    INSTRUMENTS.panics.add(1, &[]);
}
