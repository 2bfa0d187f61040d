//! The duration and status code of rpcs as metrics. Labels are rpcs and codes: few values, and never a record or a tenant.

use http::Response;
use opentelemetry::{KeyValue, global, metrics::Histogram};
use std::{sync::LazyLock, time::Instant};
use tonic::{Code, Status};

/// The bucket boundaries, in seconds.
const SECONDS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The instrument. It belongs to the meter provider that is set when the first rpc is recorded.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter("hansa")
        .f64_histogram("hansa.rpc.duration")
        .with_unit("s")
        .with_boundaries(SECONDS.to_vec())
        .with_description("From a call to the start of its response, by rpc and code")
        .build()
});

/// Records a response. A code in the trailers, which follow the body, is not awaited: such a response counts as OK.
pub(crate) fn record<B>(rpc: &str, start: Instant, response: &Response<B>) {
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    let labels = [KeyValue::new("rpc", rpc.to_owned()), KeyValue::new("code", format!("{code:?}"))];
    DURATION.record(start.elapsed().as_secs_f64(), &labels);
}
