//! Panics in rpc handlers: a panic, which is a defect of the program, becomes an INTERNAL status, a log line and a metric. The process
//! continues.

use crate::{metrics, status::to_status};
use bytes::Bytes;
use futures::FutureExt;
use hansa_kernel::{ReasonClass, Refusal};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    future::Future,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// Installs a hook that logs and counts every panic of the process. It logs the message only if it is a literal, because a formatted
/// message may contain personal data.
pub fn install_hook() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    metrics::panicked();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(formatted message, withheld)");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let trace = Backtrace::capture();
    let trace = if trace.status() == BacktraceStatus::Captured { trace.to_string() } else { String::new() };
    if tracing::dispatcher::has_been_set() {
        tracing::error!(place, message, trace, "a panic");
    } else {
        eprintln!("a panic at {place}: {message}\n{trace}");
    }
}

/// Returns the status that the caller gets.
fn internal_error() -> Status {
    to_status(&Refusal::because(ReasonClass::Internal, "PL-4", "INTERNAL", "internal error").help(
        "Retry with the same request_id. If the error persists, report the time of the call to the node's operator.",
    ))
}

/// The outermost layer.
#[derive(Clone, Copy, Debug)]
pub struct CatchPanics;

impl<S> Layer<S> for CatchPanics {
    type Service = Caught<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Caught(inner)
    }
}

/// A service whose panics become statuses.
#[derive(Clone, Debug)]
pub struct Caught<S>(S);

impl<S> Service<Request<Body>> for Caught<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Call the instance whose readiness was polled, not the new clone.
        let clone = self.0.clone();
        let mut inner = std::mem::replace(&mut self.0, clone);
        let called = async move { inner.call(request).await };
        Box::pin(async move {
            match AssertUnwindSafe(called).catch_unwind().await {
                Ok(response) => Ok(response?.map(|body| Body::new(CaughtBody { body, broken: false }))),
                Err(_) => Ok(internal_error().into_http()),
            }
        })
    }
}

/// A response body whose panics are caught: a stream is computed while it is sent.
struct CaughtBody {
    body: Body,
    broken: bool,
}

impl HttpBody for CaughtBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.broken {
            return Poll::Ready(None);
        }
        let body = Pin::new(&mut self.body);
        catch_unwind(AssertUnwindSafe(|| body.poll_frame(cx))).unwrap_or_else(|_| {
            (self.broken, self.body) = (true, Body::empty());
            let mut trailers = http::HeaderMap::new();
            let added = internal_error().add_header(&mut trailers);
            Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.broken || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
