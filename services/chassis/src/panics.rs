//! A panic is a mistake in the program. It becomes an answer, a line in the log and a count; the process goes on.

use crate::{metrics, status::to_status};
use bytes::Bytes;
use futures::FutureExt;
use hansa_kernel::{Reason, Refusal};
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

/// Has every panic of the process logged and counted. What it says is logged only where it was written in the program: what
/// it was made of at run time may hold a person's words.
pub fn report() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    metrics::panicked();
    let said = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(made at run time, withheld)");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let trace = Backtrace::capture();
    let trace = if trace.status() == BacktraceStatus::Captured { trace.to_string() } else { String::new() };
    if tracing::dispatcher::has_been_set() {
        tracing::error!(place, said, trace, "a panic");
    } else {
        eprintln!("a panic at {place}: {said}\n{trace}");
    }
}

/// What a caller is told.
fn broken() -> Status {
    to_status(
        &Refusal::because(Reason::Internal, "PL-4", "the platform made a mistake").help(
            "Send the same again, with the same request_id; if it stays so, tell the node's operator when it was.",
        ),
    )
}

/// Stands around everything else.
#[derive(Clone, Copy, Debug)]
pub struct CatchPanics;

impl<S> Layer<S> for CatchPanics {
    type Service = Caught<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Caught(inner)
    }
}

/// A service whose panics are answers.
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
        // The one that was found to be ready is the one that is called.
        let ready = self.0.clone();
        let mut inner = std::mem::replace(&mut self.0, ready);
        let called = async move { inner.call(request).await };
        Box::pin(async move {
            match AssertUnwindSafe(called).catch_unwind().await {
                Ok(answer) => Ok(answer?.map(|body| Body::new(CaughtBody { body, broken: false }))),
                Err(_) => Ok(broken().into_http()),
            }
        })
    }
}

/// A stream is made while it is sent: its panics are caught there.
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
            let told = broken().add_header(&mut trailers);
            Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.broken || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
