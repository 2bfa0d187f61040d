//! The auth layer: sheds load, turns a token into a [`Caller`], and checks role and scope, before a service sees the call.

use crate::{
    limits::{REFUSED_BYTES, REFUSED_WAIT},
    load_shed::{ConcurrencyLimit, Permit, PermitBody},
    policy::Policy,
    rpc_metrics,
    status::to_status,
    token::Verifier,
};
use bytes::Bytes;
use hansa_kernel::{Caller, ReasonClass, Refusal, Refused};
use http::{Request, Response};
use http_body_util::BodyExt;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument;

/// The path of the called rpc, such as `/hansa.networks.v1.NetworkService/GetNetwork`. The layer adds it to the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc(pub Arc<str>);

/// The paths that anyone may call without a token. They reveal nothing about a tenant.
const PUBLIC_PATHS: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];

/// Authenticates calls and limits how many are open.
#[derive(Clone, Debug)]
pub struct AuthLayer {
    verifier: Arc<Verifier>,
    policy: Arc<Policy>,
    calls: ConcurrencyLimit,
    streams: ConcurrencyLimit,
}

impl AuthLayer {
    /// Creates the layer for all services of a process.
    #[must_use]
    pub fn new(verifier: Arc<Verifier>, policy: Arc<Policy>) -> Self {
        let (calls, streams) = (ConcurrencyLimit::for_calls(), ConcurrencyLimit::for_streams());
        Self { verifier, policy, calls, streams }
    }

    /// Waits until no call and no stream is open.
    pub async fn drained(&self) {
        self.calls.drained().await;
        self.streams.drained().await;
    }

    /// Returns the caller of a request, and the permit of the call or stream.
    ///
    /// # Errors
    /// `LIMIT` if too much is open; `NOT_AUTHENTICATED` if the token is not valid; `NOT_SERVED` if this process does not run the
    /// service; `NOT_PERMITTED` if no relation to a record would permit the call.
    async fn authenticate(&self, headers: &http::HeaderMap, path: &str) -> Refused<(Caller, Permit)> {
        // Shed load before spending work on an unauthenticated call.
        let permit = self.calls.acquire()?;
        let token = headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")))
            .map_or("", |(_, token)| token.trim());
        let caller = self.verifier.verify(token).await?;
        if !self.policy.knows(path) {
            return Err(Refusal::because(
                ReasonClass::NotServed,
                "PL-1",
                "NOT_SERVED",
                "this process does not run that service",
            )
            .help("Call the process that does."));
        }
        if !self.policy.may_call(path, &caller) {
            return Err(Refusal::because(
                ReasonClass::NotPermitted,
                "PL-2",
                "ROLE_NOT_PERMITTED",
                "your role or scope does not permit this call",
            )
            .help("Ask your tenant's administrator which role may do this."));
        }
        let permit = if self.policy.streams(path) { self.streams.acquire()? } else { permit };
        let permit = permit.assign_to(caller.tenant)?;
        Ok((caller, permit))
    }
}

/// Adds details to an INTERNAL status that has none. tonic answers INTERNAL if a request cannot be decoded, which is the caller's
/// mistake; Hansa's own statuses always have details.
fn with_error_details(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let is_internal = headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "13");
    match Status::from_header_map(headers).filter(|status| is_internal && status.details().is_empty()) {
        Some(status) => to_status(&Refusal::field("request", status.message())).into_http(),
        None => response,
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated { inner, layer: self.clone() }
    }
}

/// A service behind the auth layer.
#[derive(Clone, Debug)]
pub struct Authenticated<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path: Arc<str> = request.uri().path().into();
        // Call the instance whose readiness was polled, not the new clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        if PUBLIC_PATHS.iter().any(|public| path.starts_with(public)) {
            return Box::pin(inner.call(request));
        }
        let layer = self.layer.clone();
        Box::pin(async move {
            let start = Instant::now();
            let (caller, permit) = match layer.authenticate(request.headers(), &path).await {
                Ok(authenticated) => authenticated,
                Err(refusal) => {
                    discard(request.into_body()).await;
                    let response = to_status(&refusal).into_http();
                    // A path outside of the contract can be any text, so it must not become a label.
                    let label = if layer.policy.knows(&path) { &path } else { "unknown" };
                    rpc_metrics::record(label, start, &response);
                    return Ok(response);
                }
            };
            request.extensions_mut().insert(caller);
            let span = tracing::info_span!("rpc", rpc.method = %path, otel.kind = "server");
            let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
            hansa_journal::trace::follow(&span, parent);
            request.extensions_mut().insert(Rpc(path.clone()));
            let response = with_error_details(inner.call(request).instrument(span).await?);
            rpc_metrics::record(&path, start, &response);
            Ok(response.map(|body| PermitBody::wrap(body, permit)))
        })
    }
}

/// Reads the body of a refused call, as far as it is small and arrives soon.
///
/// hyper resets a stream that is answered before its body is read. If data still arrives for many such streams, it assumes an
/// attack and closes the connection, which behind a gateway would affect all callers.
async fn discard(mut body: Body) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await
            && bytes <= REFUSED_BYTES
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    let _ = tokio::time::timeout(REFUSED_WAIT, read).await;
}

/// Stands in for the services while the node waits for its database: only health is served.
#[derive(Clone, Copy, Debug)]
pub struct StartupLayer;

impl<S> Layer<S> for StartupLayer {
    type Service = NotReady<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NotReady(inner)
    }
}

/// A service of which only the public paths can be called.
#[derive(Clone, Debug)]
pub struct NotReady<S>(S);

impl<S> Service<Request<Body>> for NotReady<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if PUBLIC_PATHS.iter().any(|public| request.uri().path().starts_with(public)) {
            return Box::pin(self.0.call(request));
        }
        let refusal =
            Refusal::because(ReasonClass::Unavailable, "PL-4", "STARTING", "the node is waiting for its database")
                .help("Nothing is lost. Try again; the node starts to serve as soon as the database responds.");
        Box::pin(async move { Ok(to_status(&refusal).into_http()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::{Body as HttpBody, Frame};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The bytes of a frame.
    const FRAME: usize = 16 * 1024;

    /// A body without an end. After `available` frames it is pending for ever.
    struct Endless {
        available: usize,
        taken: Arc<AtomicUsize>,
    }

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.taken.load(Ordering::Relaxed) == self.available {
                return Poll::Pending;
            }
            self.taken.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; FRAME])))))
        }
    }

    #[tokio::test]
    async fn the_body_of_a_refused_call_is_read_up_to_a_limit() {
        let taken = Arc::new(AtomicUsize::new(0));
        discard(Body::new(Endless { available: usize::MAX, taken: taken.clone() })).await;
        let whole = REFUSED_BYTES / FRAME;
        assert!((whole..=whole + 2).contains(&taken.load(Ordering::Relaxed)), "{taken:?}");
    }

    #[tokio::test]
    async fn the_body_of_a_refused_call_is_not_awaited_for_ever() {
        let taken = Arc::new(AtomicUsize::new(0));
        let discarded = discard(Body::new(Endless { available: 1, taken: taken.clone() }));
        assert!(
            tokio::time::timeout(REFUSED_WAIT * 100, discarded).await.is_ok(),
            "discard ends although the body does not"
        );
        assert_eq!(taken.load(Ordering::Relaxed), 1);
    }
}
