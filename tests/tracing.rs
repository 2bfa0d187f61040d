//! One trace leads from a command to its last effect, through the broker and across services; and nothing that was said in
//! confidence reaches a collector.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::{
    register::{Office, OfficeExistence, UpdateOfficeRequest},
    strategy::GetEvaluationRequest,
};
use hansa_tests::{Platform, Shape, cities, eventually, request_id, text};
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
    trace::v1::Span,
};
use prost::Message;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const CITIES: [(&str, &str, &str); 1] = [("1", "Dresden", "DE")];
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Takes what is exported, as it comes.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<Vec<String>>>,
    /// Everything of all three kinds, byte by byte.
    bytes: Arc<Mutex<Vec<u8>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        self.bytes.lock().unwrap().extend(request.encode_to_vec());
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
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
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        self.metrics.lock().unwrap().extend(scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name));
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
    async fn start() -> (Self, String) {
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

    /// The spans of the test's own trace.
    fn traced(&self) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|span| hex::encode(&span.trace_id) == TRACE).cloned().collect()
    }

    fn holds(&self, text: &str) -> bool {
        self.bytes.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    found.map(|attribute| format!("{:?}", attribute.value)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_and_no_secret() {
    let (collector, address) = Collector::start().await;
    let environment = vec![("HANSA_OTLP", address)];
    let mut platform = Platform::start_with(HANSA, Shape::OneProcess, environment).await;
    cities::enter(&platform, &CITIES, &[]).await;
    let dresden = cities::join(&platform, "1").await;
    let asked = GetEvaluationRequest { city: dresden.city.clone(), ..Default::default() };
    eventually("the city is evaluated", async || {
        dresden.observer.evaluations().get_evaluation(asked.clone()).await.ok()
    })
    .await;

    let token = platform.token(Some(&dresden.tenant), &[hansa_kernel::Role::Mayor]);
    let mayor = platform.with_token(&token);
    let id = hansa_kernel::RecordName::parse(&dresden.city, "cities", "city").unwrap().id.of("office");
    let update = |contact: &str| {
        let office = Office {
            name: format!("offices/{id}"),
            city: dresden.city.clone(),
            existence: OfficeExistence::Exists as i32,
            contact: text(contact),
            ..Default::default()
        };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["*".into()] });
        UpdateOfficeRequest { office: Some(office), update_mask, request_id: request_id(), ..Default::default() }
    };
    let mut request = Request::new(update("xTEXTx Ana Müller"));
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01").parse().unwrap());
    mayor.offices().update_office(request).await.unwrap();

    // What is refused is told no more than what is done.
    let long = mayor.offices().update_office(update(&"xLONGx".repeat(2_000))).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    let mut odd = update("xODDx");
    odd.office.as_mut().unwrap().languages = vec!["xLANGUAGEx".into()];
    mayor.offices().update_office(odd).await.unwrap_err();
    let forged = format!("{token}xFORGEDx");
    let unknown = platform.with_token(&forged).offices().update_office(update("x")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);

    eventually("the trace arrives", async || {
        let names: Vec<String> = collector.traced().into_iter().map(|span| span.name).collect();
        ["rpc", "apply", "work"].iter().all(|name| names.iter().any(|one| one == name)).then_some(())
    })
    .await;
    platform.stop();

    let spans = collector.traced();
    let rpc = spans.iter().find(|span| span.name == "rpc").unwrap();
    assert_eq!(hex::encode(&rpc.parent_span_id), "b7ad6b7169203331");
    assert!(attribute(rpc, "rpc.method").contains("OfficeService/UpdateOffice"));
    let applied: Vec<_> = spans.iter().filter(|span| span.name == "apply").collect();
    assert!(applied.iter().any(|span| attribute(span, "subscription").contains("strategy")));
    let below: Vec<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    for span in &applied {
        assert!(below.contains(&span.parent_span_id.as_slice()), "what follows hangs below what it follows from");
    }
    assert!(applied.iter().any(|span| span.parent_span_id == rpc.span_id));
    let worked = spans.iter().filter(|span| span.name == "work");
    assert!(worked.clone().any(|span| attribute(span, "queue").contains("evaluate")));

    let metrics = collector.metrics.lock().unwrap().clone();
    for name in
        ["hansa.commands", "hansa.batch.commands", "hansa.queue.depth", "hansa.relay.backlog", "hansa.subscription.lag"]
    {
        assert!(metrics.iter().any(|metric| metric == name), "{name} is missing of {metrics:?}");
    }
    let key = std::fs::read_to_string(platform.data().join("node.key")).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let secrets = ["xTEXTx", "Ana Müller", "xLONGx", "xODDx", "xLANGUAGEx", "xFORGEDx", parts[1], parts[2], key.trim()];
    for secret in secrets {
        assert!(!collector.holds(secret), "{secret} was exported");
    }
    assert!(collector.holds("UpdateOffice"), "the search finds what is there");
}
