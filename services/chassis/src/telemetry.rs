//! Logs, traces and metrics (OTLP). They contain no content and no secrets: records are named, never quoted.

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

/// Log targets that are never exported: exporting the exporter's own messages would cause a loop.
const OWN_NOISE: &str = ",h2=off,hyper=off,hyper_util=off,tower=off,tonic=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off";

/// The running exporters.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Starts logging to standard error and, if a collector is configured, exporting by OTLP as the service `name`. A second start has no
/// effect, so that tests may call it.
///
/// # Errors
/// If the address of the collector is malformed. If it is unavailable, exporting resumes when it returns.
pub fn start(config: &Config, name: &str) -> anyhow::Result<Telemetry> {
    let filter = || EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    // Colours only on a terminal.
    let console = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let console = if config.log_json { console.json().boxed() } else { console.compact().boxed() };
    let registry = tracing_subscriber::registry().with(console.with_filter(filter()));
    let Some(endpoint) = &config.otlp else {
        let _ = registry.try_init();
        return Ok(Telemetry::default());
    };
    // Each replica needs an instance id; otherwise replicas would overwrite each other's metrics.
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
    /// Exports what is buffered and stops. It blocks, so it must run on a thread that may block.
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
