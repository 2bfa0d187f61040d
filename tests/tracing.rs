//! One trace leads from a command to its last effect, through the broker and across services. No secret and no text
//! of a user reaches a collector.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::{
    register::{CreateTenantRequest, Office, OfficeExistence, Tenant, TenantKind, UpdateOfficeRequest},
    strategy::GetEvaluationRequest,
};
use hansa_tests::{
    Platform, Shape, cities,
    collector::{Collector, Instrument, attribute},
    eventually,
    picture::draw,
    request_id, text,
};
use std::{collections::BTreeMap, path::Path};
use tonic::{Code, Request};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const CITIES: [(&str, &str, &str); 1] = [("1", "Dresden", "DE")];
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

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

    // Refused requests must not export their texts either.
    let long = mayor.offices().update_office(update(&"xLONGx".repeat(2_000))).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    let mut odd = update("xODDx");
    odd.office.as_mut().unwrap().languages = vec!["xLANGUAGEx".into()];
    mayor.offices().update_office(odd).await.unwrap_err();
    let forged = format!("{token}xFORGEDx");
    let unknown = platform.with_token(&forged).offices().update_office(update("x")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);

    eventually("the trace arrives", async || {
        let names: Vec<String> = collector.traced(TRACE).into_iter().map(|(_, span)| span.name).collect();
        ["rpc", "apply", "work"].iter().all(|name| names.iter().any(|one| one == name)).then_some(())
    })
    .await;
    platform.stop();

    let spans: Vec<_> = collector.traced(TRACE).into_iter().map(|(_, span)| span).collect();
    let rpc = spans.iter().find(|span| span.name == "rpc").unwrap();
    assert_eq!(hex::encode(&rpc.parent_span_id), "b7ad6b7169203331");
    assert!(attribute(rpc, "rpc.method").contains("OfficeService/UpdateOffice"));
    let applied: Vec<_> = spans.iter().filter(|span| span.name == "apply").collect();
    assert!(applied.iter().any(|span| attribute(span, "subscription").contains("strategy")));
    let below: Vec<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    for span in &applied {
        assert!(
            below.contains(&span.parent_span_id.as_slice()),
            "the span of an effect must be a child of the span of its cause"
        );
    }
    assert!(applied.iter().any(|span| span.parent_span_id == rpc.span_id));
    let worked = spans.iter().filter(|span| span.name == "work");
    assert!(worked.clone().any(|span| attribute(span, "queue").contains("evaluate")));

    the_metrics_are_those_that_are_written_down(&collector);
    let key = std::fs::read_to_string(platform.data().join("node.key")).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let secrets = ["xTEXTx", "Ana Müller", "xLONGx", "xODDx", "xLANGUAGEx", "xFORGEDx", parts[1], parts[2], key.trim()];
    for secret in secrets {
        assert!(!collector.holds(secret), "{secret} was exported");
    }
    assert!(collector.holds("UpdateOffice"), "the search does not find an exported method name");
}

/// A city joins: the register creates a tenant, the partnerships and strategy services get the change over NATS, and
/// the strategy service evaluates the city. Each service is a process of its own. `make trace` writes
/// docs/trace.svg.
#[tokio::test(flavor = "multi_thread")]
async fn one_act_is_one_trace_across_three_processes() {
    let (collector, address) = Collector::start().await;
    let mut platform = Platform::start_with(HANSA, Shape::ProcessAService, vec![("HANSA_OTLP", address)]).await;
    cities::enter(&platform, &CITIES, &[]).await;
    let tenant = Tenant { kind: TenantKind::City as i32, city: cities::name("1"), ..Default::default() };
    let join = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
    let mut request = Request::new(join);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01").parse().unwrap());
    platform.steward().tenants().create_tenant(request).await.unwrap();
    let of = |service: &str, name: &str| {
        let named = format!("hansa-{service}");
        collector.traced(TRACE).iter().any(|(found, span)| *found == named && span.name == name)
    };
    let whole = [("register", "rpc"), ("partnerships", "apply"), ("strategy", "apply"), ("strategy", "work")];
    eventually("the trace arrives", async || whole.iter().all(|(service, name)| of(service, name)).then_some(())).await;
    platform.stop();

    let spans = collector.traced(TRACE);
    for (service, span) in spans.iter().filter(|(_, span)| span.name != "rpc") {
        assert!(
            spans.iter().any(|(_, other)| other.span_id == span.parent_span_id),
            "{service}: the parent of span {} was not exported",
            span.name
        );
    }
    let picture = draw("A city joins: one trace across three processes, over NATS", &spans);
    assert_eq!(picture.matches("rx=\"2\"").count(), spans.len(), "the picture has no bar for a span");
    if let Some(file) = std::env::var_os("TEST_TRACE") {
        std::fs::write(file, picture).unwrap();
    }
}

/// Compares the exported metrics with `deploy/observability/metrics.json`, against which
/// tests/deploy/observability.py checks dashboard and alerts. TEST_METRICS=write writes that file.
fn the_metrics_are_those_that_are_written_down(collector: &Collector) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/observability/metrics.json");
    let seen = collector.metrics();
    if std::env::var_os("TEST_METRICS").is_some_and(|wish| wish == "write") {
        std::fs::write(&file, serde_json::to_string_pretty(&seen).unwrap() + "\n").unwrap();
    }
    let written: BTreeMap<String, Instrument> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(seen, written, "metrics.json is out of date: run TEST_METRICS=write cargo test -p hansa --test tracing");
}
