//! How long calls take and how they end, for those who run the platform. Labels are rpcs and codes: few, and never of a
//! record or a tenant.

use http::Response;
use opentelemetry::{KeyValue, global, metrics::Histogram};
use std::{sync::LazyLock, time::Instant};
use tonic::{Code, Status};

/// Bounds of the buckets, in seconds.
const SECONDS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// It belongs to the exporter that stands when the first call is told.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter("hansa")
        .f64_histogram("hansa.rpc.duration")
        .with_unit("s")
        .with_boundaries(SECONDS.to_vec())
        .with_description("From a call to the first of its answer, by rpc and code")
        .build()
});

/// A call was answered. A code that stands behind the answer's body is not waited for: that answer counts as OK.
pub(crate) fn answered<B>(rpc: &str, began: Instant, answer: &Response<B>) {
    let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
    let labels = [KeyValue::new("rpc", rpc.to_owned()), KeyValue::new("code", format!("{code:?}"))];
    DURATION.record(began.elapsed().as_secs_f64(), &labels);
}
