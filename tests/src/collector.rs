//! An OTLP collector that stores the telemetry of the processes under test.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// The properties of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Instrument {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The unit; empty if the metric has none.
    pub unit: String,
    /// The names of the labels.
    pub labels: BTreeSet<String>,
}

/// A running collector.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    /// Each span, with the name of the service that exported it.
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    metrics: Arc<Mutex<BTreeMap<String, Instrument>>>,
    instances: Arc<Mutex<BTreeSet<(String, String)>>>,
    /// The encoded requests of all three kinds.
    bytes: Arc<Mutex<Vec<u8>>>,
}

fn text_of(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

/// Returns an attribute of a span as text; empty if the span does not have it.
#[must_use]
pub fn attribute(span: &Span, key: &str) -> String {
    text_of(&span.attributes, key)
}

fn service(resource: Option<Resource>) -> (String, String) {
    let attributes = resource.map(|resource| resource.attributes).unwrap_or_default();
    (text_of(&attributes, "service.name"), text_of(&attributes, "service.instance.id"))
}

fn instrument(metric: &Metric) -> Instrument {
    let labels = |points: Vec<&Vec<KeyValue>>| points.into_iter().flatten().map(|label| label.key.clone()).collect();
    let (kind, labels) = match &metric.data {
        Some(Data::Sum(sum)) => ("counter", labels(sum.data_points.iter().map(|point| &point.attributes).collect())),
        Some(Data::Gauge(gauge)) => {
            ("gauge", labels(gauge.data_points.iter().map(|point| &point.attributes).collect()))
        }
        Some(Data::Histogram(histogram)) => {
            ("histogram", labels(histogram.data_points.iter().map(|point| &point.attributes).collect()))
        }
        _ => ("unknown", BTreeSet::new()),
    };
    Instrument { kind: kind.into(), unit: metric.unit.clone(), labels }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        self.bytes.lock().unwrap().extend(request.encode_to_vec());
        for resource in request.resource_spans {
            let (name, _) = service(resource.resource);
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| (name.clone(), span)));
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = request.into_inner();
        self.bytes.lock().unwrap().extend(request.encode_to_vec());
        for resource in request.resource_metrics {
            self.instances.lock().unwrap().insert(service(resource.resource));
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let found = instrument(&metric);
                let mut metrics = self.metrics.lock().unwrap();
                let known = metrics.entry(metric.name).or_insert_with(|| found.clone());
                known.labels.extend(found.labels);
            }
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.bytes.lock().unwrap().extend(request.into_inner().encode_to_vec());
        Ok(Response::new(Default::default()))
    }
}

impl Collector {
    /// Starts a collector. Returns it with its address.
    pub async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, address)
    }

    /// Returns the spans of one trace, each with the name of the service that exported it.
    #[must_use]
    pub fn traced(&self, trace: &str) -> Vec<(String, Span)> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|(_, span)| hex::encode(&span.trace_id) == trace).cloned().collect()
    }

    /// Returns the received metrics by name.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, Instrument> {
        self.metrics.lock().unwrap().clone()
    }

    /// Returns service name and instance id of each process that sent metrics.
    #[must_use]
    pub fn instances(&self) -> BTreeSet<(String, String)> {
        self.instances.lock().unwrap().clone()
    }

    /// Returns whether any received telemetry contains a text.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        self.bytes.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}
