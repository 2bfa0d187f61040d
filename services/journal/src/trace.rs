//! Trace propagation: the W3C trace context travels with a change, so that one trace leads from a command to its last effect.

use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Longest trace context that is accepted from a caller.
const CONTEXT_BYTES: usize = 128;

struct Parent(Option<String>);

impl Injector for Parent {
    fn set(&mut self, key: &str, value: String) {
        // The propagator also sets an empty tracestate, which is not a valid header.
        if key == "traceparent" {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Parent {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == "traceparent")
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Returns the trace context of the current span; `None` if it is not traced.
#[must_use]
pub fn current() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut parent = Parent(None);
    TraceContextPropagator::new().inject_context(&context, &mut parent);
    parent.0
}

/// Makes `span` a child of a remote span.
pub fn follow(span: &Span, trace: Option<&str>) {
    if let Some(trace) = trace.filter(|trace| trace.len() <= CONTEXT_BYTES) {
        let context = TraceContextPropagator::new().extract(&Parent(Some(trace.to_owned())));
        // This fails for a span that is not recorded, which needs no parent.
        let _ = span.set_parent(context);
    }
}
