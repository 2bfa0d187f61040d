//! Load shedding, panics and draining of the real server, in front of a service that the test controls.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use futures::StreamExt;
use hansa_chassis::{
    Config,
    auth_layer::AuthLayer,
    changes::POLICIES,
    limits::{DRAIN, PROCESS_CALLS, RETRY_AFTER, TENANT_CALLS, TENANT_STREAMS},
    policy::Policy,
    server,
    token::{Issuer, Verifier},
};
use hansa_journal::{Clock, NodeKeys, SystemClock};
use hansa_kernel::{Role, TenantId};
use hansa_proto::changes::{
    ListFeedEntriesRequest, ListFeedEntriesResponse, WatchFeedRequest, WatchFeedResponse,
    change_service_client::ChangeServiceClient,
};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status, Streaming, body::Body, server::NamedService, service::RoutesBuilder, transport::Channel,
};
use tonic_types::StatusExt;
use uuid::Uuid;

/// Maximum time for each step.
const SOON: Duration = Duration::from_secs(30);
/// An empty message in its gRPC frame.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);

/// A service whose behaviour the request header `act` selects.
#[derive(Clone)]
struct Obedient {
    inside: watch::Sender<usize>,
    released: watch::Receiver<bool>,
}

impl NamedService for Obedient {
    const NAME: &'static str = "hansa.changes.v1.ChangeService";
}

fn done() -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    Ok(Frame::trailers(trailers))
}

fn answer(frames: impl futures::Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static) -> Response<Body> {
    let body = Body::new(StreamBody::new(frames));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

impl tower::Service<http::Request<Body>> for Obedient {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (inside, mut released) = (self.inside.clone(), self.released.clone());
        let act = request.headers()["act"].to_str().unwrap().to_owned();
        let first = futures::stream::iter([Ok(Frame::data(EMPTY))]);
        Box::pin(async move {
            inside.send_modify(|count| *count += 1);
            Ok(match act.as_str() {
                "hold" => {
                    released.wait_for(|released| *released).await.unwrap();
                    answer(first.chain(futures::stream::iter([done()])))
                }
                "panic" => panic!("a handler that panics"),
                "stream" => answer(first.chain(futures::stream::pending())),
                "stream and panic" => answer(first.chain(futures::stream::poll_fn(|_| panic!("a stream that panics")))),
                _ => answer(first.chain(futures::stream::iter([done()]))),
            })
        })
    }
}

struct Running {
    address: SocketAddr,
    issuer: Issuer,
    inside: watch::Receiver<usize>,
    release: watch::Sender<bool>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn tenant(n: usize) -> TenantId {
    TenantId(Uuid::from_u128(n as u128 + 1))
}

impl Running {
    async fn start() -> Self {
        let keys = NodeKeys::from_secret(&[7; 32]);
        let mut policy = Policy::default();
        POLICIES.iter().for_each(|(package, text)| policy.add(package, text).unwrap());
        let auth = AuthLayer::new(Arc::new(Verifier::new(&keys, Arc::new(SystemClock))), Arc::new(policy));
        let (inside, seen) = watch::channel(0);
        let (release, released) = watch::channel(false);
        let mut routes = RoutesBuilder::default();
        routes.add_service(Obedient { inside, released });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        let serving =
            tokio::spawn(async move { server::serve(&Config::default(), listener, routes, auth, stopped).await });
        Self { address, issuer: Issuer::new(&keys), inside: seen, release, stop, serving }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    fn request<Q>(&self, n: usize, act: &str, message: Q) -> Request<Q> {
        let token = self.issuer.issue(tenant(n), "test", &[Role::Mayor], &[], SystemClock.now(), 1).unwrap();
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request.metadata_mut().insert("act", act.parse().unwrap());
        request
    }

    fn call(
        &self,
        on: &Channel,
        n: usize,
        act: &str,
    ) -> impl Future<Output = Result<ListFeedEntriesResponse, Status>> + use<> {
        let request = self.request(n, act, ListFeedEntriesRequest::default());
        let mut client = ChangeServiceClient::new(on.clone());
        async move {
            Ok(tokio::time::timeout(SOON, client.list_feed_entries(request)).await.expect("an answer")?.into_inner())
        }
    }

    async fn follow(&self, on: &Channel, n: usize, act: &str) -> Result<Streaming<WatchFeedResponse>, Status> {
        let request = self.request(n, act, WatchFeedRequest::default());
        Ok(ChangeServiceClient::new(on.clone()).watch_feed(request).await?.into_inner())
    }

    /// Waits until `count` calls have reached the service.
    async fn have_come(&mut self, count: usize) {
        let all = self.inside.wait_for(|inside| *inside >= count);
        tokio::time::timeout(SOON, all).await.expect("the calls reach the service").unwrap();
    }
}

/// Returns code, rule, limit name and retry delay of a refusal by a limit.
fn limited(status: &Status) -> (Code, String, String, Option<Duration>) {
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["help"].is_empty()), ("TOO_MANY_OPEN", false), "{status:?}");
    let quota = status.get_details_quota_failure().unwrap();
    let hint = status.get_details_retry_info().unwrap().retry_delay;
    (status.code(), info.metadata["rule"].clone(), quota.violations[0].subject.clone(), hint)
}

fn limit(name: &str) -> (Code, String, String, Option<Duration>) {
    (Code::ResourceExhausted, "PL-1".into(), name.into(), Some(RETRY_AFTER))
}

#[tokio::test]
async fn q_15_a_call_over_its_tenants_part_is_refused_at_once_and_others_get_in() {
    let mut server = Running::start().await;
    let channel = server.channel().await;
    let mut held: JoinSet<_> = (0..TENANT_CALLS).map(|_| server.call(&channel, 0, "hold")).collect();
    server.have_come(TENANT_CALLS).await;
    let over = server.call(&channel, 0, "answer").await.unwrap_err();
    assert_eq!(limited(&over), limit("TENANT_CALLS"));
    server.call(&channel, 1, "answer").await.unwrap();
    server.release.send_replace(true);
    while let Some(answered) = held.join_next().await {
        answered.unwrap().unwrap();
    }
    for _ in 0..2 * TENANT_CALLS {
        server.call(&channel, 0, "answer").await.expect("a permit is released before the caller receives its answer");
    }
}

#[tokio::test]
async fn q_15_a_call_over_the_process_capacity_is_refused_at_once() {
    let mut server = Running::start().await;
    let channels = [server.channel().await, server.channel().await];
    let _held: JoinSet<_> = (0..PROCESS_CALLS).map(|n| server.call(&channels[n % 2], n, "hold")).collect();
    server.have_come(PROCESS_CALLS).await;
    let over = server.call(&channels[0], PROCESS_CALLS, "answer").await.unwrap_err();
    assert_eq!(limited(&over), limit("PROCESS_CALLS"));
}

#[tokio::test]
async fn streams_are_counted_apart_from_calls() {
    let server = Running::start().await;
    let channel = server.channel().await;
    let mut open = Vec::new();
    for _ in 0..TENANT_STREAMS {
        open.push(server.follow(&channel, 0, "stream").await.unwrap());
    }
    let over = server.follow(&channel, 0, "stream").await.unwrap_err();
    assert_eq!(limited(&over), limit("TENANT_STREAMS"));
    server.call(&channel, 0, "answer").await.unwrap();
    server.follow(&channel, 1, "stream").await.unwrap();
    // Closing a stream releases its permit.
    open.pop();
    let deadline = Instant::now() + SOON;
    while server.follow(&channel, 0, "stream").await.is_err() {
        assert!(Instant::now() < deadline, "the permit is not released");
        tokio::task::yield_now().await;
    }
}

fn mistake(status: &Status) {
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["rule"].as_str()), ("INTERNAL", "PL-4"));
    assert!(!format!("{status:?}").contains("that panics"), "the panic message must only be logged");
}

#[tokio::test]
async fn a_panic_is_an_answer_and_everything_else_goes_on() {
    let mut server = Running::start().await;
    let channel = server.channel().await;
    let held = tokio::spawn(server.call(&channel, 0, "hold"));
    server.have_come(1).await;
    // More panics than permits: a panic must release its permit.
    for _ in 0..2 * TENANT_CALLS {
        mistake(&server.call(&channel, 0, "panic").await.unwrap_err());
        let mut stream = server.follow(&channel, 0, "stream and panic").await.unwrap();
        assert!(stream.message().await.unwrap().is_some());
        mistake(&stream.message().await.unwrap_err());
    }
    server.release.send_replace(true);
    held.await.unwrap().unwrap();
    assert!(!server.serving.is_finished());
}

#[tokio::test]
async fn the_server_drains_soon_whoever_is_still_connected() {
    let mut server = Running::start().await;
    // The first client sends nothing; the second sends the HTTP/2 preface and then stops.
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let channel = server.channel().await;
    let held = tokio::spawn(server.call(&channel, 0, "hold"));
    server.have_come(1).await;
    let began = Instant::now();
    server.stop.cancel();
    assert!(!server.serving.is_finished());
    server.release.send_replace(true);
    held.await.unwrap().expect("the open call completes first");
    tokio::time::timeout(SOON, server.serving).await.expect("the server ends").unwrap().unwrap();
    assert!(began.elapsed() < DRAIN / 2, "{:?}", began.elapsed());
}
