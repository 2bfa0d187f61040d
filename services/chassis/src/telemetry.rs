//! Logs, traces and metrics. They hold no content and no secrets: records are named, never quoted.

use crate::{config::Config, limits::TELEMETRY_FLUSH};
use anyhow::Context;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    trace::{Sampler, SdkTracerProvider},
};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// What is never exported: the exporter's own noise would feed itself.
const OWN_NOISE: &str = ",h2=off,hyper=off,hyper_util=off,tower=off,tonic=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off";

/// What has been started, to be ended in order.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Starts logging to standard error and, where a collector is named, exporting by OTLP as the service `name`. A second start
/// is ignored, so that tests may call it.
///
/// # Errors
/// Where the collector's address is malformed. One that is away is none: export goes on when it is back.
pub fn start(config: &Config, name: &str) -> anyhow::Result<Telemetry> {
    let filter = || EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    // Colours are for people: a file or a collector gets the words alone.
    let console = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let console = if config.log_json { console.json().boxed() } else { console.compact().boxed() };
    let registry = tracing_subscriber::registry().with(console.with_filter(filter()));
    let Some(endpoint) = &config.otlp else {
        let _ = registry.try_init();
        return Ok(Telemetry::default());
    };
    // Replicas count for themselves: without an instance of its own each would overwrite what the others have counted.
    let instance = KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string());
    let resource = Resource::builder().with_service_name(name.to_owned()).with_attribute(instance).build();
    let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().context("OTLP traces")?;
    let traces = SdkTracerProvider::builder()
        .with_batch_exporter(spans)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio))))
        .with_resource(resource.clone())
        .build();
    let exporter = LogExporter::builder().with_tonic().with_endpoint(endpoint).build().context("OTLP logs")?;
    let logs = SdkLoggerProvider::builder().with_batch_exporter(exporter).with_resource(resource.clone()).build();
    let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build().context("OTLP metrics")?;
    let metrics = SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(resource).build();
    opentelemetry::global::set_meter_provider(metrics.clone());

    let exported = || EnvFilter::new(format!("info{OWN_NOISE}"));
    let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer("hansa")).with_filter(exported());
    let records = OpenTelemetryTracingBridge::new(&logs).with_filter(exported());
    let _ = registry.with(spans).with(records).try_init();
    Ok(Telemetry { traces: Some(traces), logs: Some(logs), metrics: Some(metrics) })
}

impl Telemetry {
    /// Sends what waits, and ends. It blocks, so it is called from a thread that may.
    pub fn stop(self) {
        if let Some(traces) = self.traces {
            let _ = traces.shutdown_with_timeout(TELEMETRY_FLUSH);
        }
        if let Some(logs) = self.logs {
            let _ = logs.shutdown_with_timeout(TELEMETRY_FLUSH);
        }
        if let Some(metrics) = self.metrics {
            let _ = metrics.shutdown_with_timeout(TELEMETRY_FLUSH);
        }
    }
}
