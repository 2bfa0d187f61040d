//! One trace from the command to its last effect: the W3C trace context travels with the change.

use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Longest trace context that is taken from outside.
const CONTEXT_BYTES: usize = 128;

struct Parent(Option<String>);

impl Injector for Parent {
    fn set(&mut self, key: &str, value: String) {
        // An empty tracestate is no header.
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

/// The trace context of the current span; `None` where nothing is traced.
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

/// Makes a span go on with a trace that began elsewhere.
pub fn follow(span: &Span, trace: Option<&str>) {
    if let Some(trace) = trace.filter(|trace| trace.len() <= CONTEXT_BYTES) {
        let context = TraceContextPropagator::new().extract(&Parent(Some(trace.to_owned())));
        // A span that nobody records cannot follow anything.
        let _ = span.set_parent(context);
    }
}
