//! The layer that turns a token into a [`Caller`] before any service sees the call, and gives the call its place.

use crate::{
    calls,
    limits::{REFUSED_BYTES, REFUSED_WAIT},
    places::{Held, Place, Places},
    policy::Policy,
    status::to_status,
    token::Verifier,
};
use bytes::Bytes;
use hansa_kernel::{Caller, Reason, Refusal};
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

/// The path of the rpc that is being called, for policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc(pub Arc<str>);

/// What anyone may call without a token: nothing of a tenant is in it.
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];

/// Checks tokens and roles, and how much is open at once.
#[derive(Clone, Debug)]
pub struct Guard {
    verifier: Arc<Verifier>,
    policy: Arc<Policy>,
    calls: Places,
    streams: Places,
}

impl Guard {
    /// A guard over all services.
    #[must_use]
    pub fn new(verifier: Arc<Verifier>, policy: Arc<Policy>) -> Self {
        Self { verifier, policy, calls: Places::for_calls(), streams: Places::for_streams() }
    }

    /// Waits until no call and no stream is open any more.
    pub async fn none_left(&self) {
        self.calls.none_left().await;
        self.streams.none_left().await;
    }

    /// The caller of a request, and its place among the tenant's calls, or streams where the answer is one.
    ///
    /// # Errors
    /// LIMIT where too much is open, NOT_AUTHENTICATED, or NOT_PERMITTED where no relation to any record would permit the
    /// call.
    async fn admit(&self, headers: &http::HeaderMap, path: &str) -> Result<(Caller, Place), Refusal> {
        // Before anything is worked out for someone who may be nobody.
        let place = self.calls.enter()?;
        let token = headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")))
            .map_or("", |(_, token)| token.trim());
        let caller = self.verifier.verify(token).await?;
        if !self.policy.knows(path) {
            return Err(Refusal::because(Reason::NotServed, "PL-1", "this process does not run that service")
                .help("Call the process that does."));
        }
        if !self.policy.may_call(path, &caller) {
            return Err(Refusal::because(Reason::NotPermitted, "PL-2", "your role or scope does not permit this call")
                .help("Ask your tenant's administrator which role may do this."));
        }
        let place = if self.policy.streams(path) { self.streams.enter()? } else { place };
        let place = place.belong(caller.tenant)?;
        Ok((caller, place))
    }
}

/// A request that is no message is its caller's mistake. gRPC's libraries call it INTERNAL, and say no more than that; here it
/// is refused as everything else is. An answer of the platform itself always has details.
fn told(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let unread = headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "13");
    match Status::from_header_map(headers).filter(|status| unread && status.details().is_empty()) {
        Some(status) => to_status(&Refusal::field("request", status.message())).into_http(),
        None => response,
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.clone() }
    }
}

/// A service behind the guard.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<Request<Body>> for Guarded<S>
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
        // The one that was found to be ready is the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        if OPEN.iter().any(|open| path.starts_with(open)) {
            return Box::pin(inner.call(request));
        }
        let guard = self.guard.clone();
        Box::pin(async move {
            let began = Instant::now();
            let (caller, place) = match guard.admit(request.headers(), &path).await {
                Ok(admitted) => admitted,
                Err(refusal) => {
                    discard(request.into_body()).await;
                    let answer = to_status(&refusal).into_http();
                    // What stands in no contract is whatever a stranger likes: no label.
                    calls::answered(if guard.policy.knows(&path) { &path } else { "unknown" }, began, &answer);
                    return Ok(answer);
                }
            };
            request.extensions_mut().insert(caller);
            let span = tracing::info_span!("rpc", rpc.method = %path, otel.kind = "server");
            let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
            hansa_journal::trace::follow(&span, parent);
            request.extensions_mut().insert(Rpc(path.clone()));
            let answer = told(inner.call(request).instrument(span).await?);
            calls::answered(&path, began, &answer);
            Ok(answer.map(|body| Held::body(body, place)))
        })
    }
}

/// Reads what comes with a call that is refused, as far as it is small and there. A stream that is answered unread is reset,
/// and a connection on which data still arrives for many such streams is taken for an attack and cut: behind a gateway, for
/// everyone.
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

/// Stands in front of health while there is nothing else yet: the database is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Away;

impl<S> Layer<S> for Away {
    type Service = NothingElse<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NothingElse(inner)
    }
}

/// A service of which only what is open to anyone is called.
#[derive(Clone, Debug)]
pub struct NothingElse<S>(S);

impl<S> Service<Request<Body>> for NothingElse<S>
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
        if OPEN.iter().any(|open| request.uri().path().starts_with(open)) {
            return Box::pin(self.0.call(request));
        }
        let refusal = Refusal::because(Reason::Unavailable, "PL-4", "the node waits for its database")
            .help("Nothing is lost. It goes on by itself.");
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

    /// A body without an end, of which so many frames are there.
    struct Endless {
        there: usize,
        taken: Arc<AtomicUsize>,
    }

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.taken.load(Ordering::Relaxed) == self.there {
                return Poll::Pending;
            }
            self.taken.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; FRAME])))))
        }
    }

    #[tokio::test]
    async fn of_a_refused_call_so_much_is_read_and_no_more() {
        let taken = Arc::new(AtomicUsize::new(0));
        discard(Body::new(Endless { there: usize::MAX, taken: taken.clone() })).await;
        let whole = REFUSED_BYTES / FRAME;
        assert!((whole..=whole + 2).contains(&taken.load(Ordering::Relaxed)), "{taken:?}");
    }

    #[tokio::test]
    async fn a_refused_call_that_goes_on_is_not_waited_for() {
        let taken = Arc::new(AtomicUsize::new(0));
        let discarded = discard(Body::new(Endless { there: 1, taken: taken.clone() }));
        assert!(
            tokio::time::timeout(REFUSED_WAIT * 100, discarded).await.is_ok(),
            "it ends although the body does not"
        );
        assert_eq!(taken.load(Ordering::Relaxed), 1);
    }
}
