//! How many calls and streams may be open at once: in the whole process, and of one tenant. What is over is refused at once,
//! with a hint, instead of waiting where nobody sees it. A tenant's part shrinks as the process fills, so that one that
//! asks without end leaves room for the others.

use crate::{
    limits::{PROCESS_CALLS, PROCESS_STREAMS, TENANT_CALLS, TENANT_STREAMS},
    metrics,
};
use bytes::Bytes;
use hansa_kernel::{Reason, Refusal, TenantId};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::sync::Notify;
use tonic::{Status, body::Body};

/// A named limit.
#[derive(Debug)]
struct Limit {
    name: &'static str,
    most: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    tenants: HashMap<TenantId, usize>,
}

#[derive(Debug)]
struct Inner {
    what: &'static str,
    process: Limit,
    tenant: Limit,
    taken: Mutex<Taken>,
    left: Notify,
}

/// The places of one kind.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

/// A place; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    tenant: Option<TenantId>,
}

impl Places {
    /// Places for calls.
    #[must_use]
    pub fn for_calls() -> Self {
        Self::of("calls", ("PROCESS_CALLS", PROCESS_CALLS), ("TENANT_CALLS", TENANT_CALLS))
    }

    /// Places for streams, which stay open: they cost memory and a look at each commit.
    #[must_use]
    pub fn for_streams() -> Self {
        Self::of("streams", ("PROCESS_STREAMS", PROCESS_STREAMS), ("TENANT_STREAMS", TENANT_STREAMS))
    }

    fn of(what: &'static str, process: (&'static str, usize), tenant: (&'static str, usize)) -> Self {
        let limit = |(name, most)| Limit { name, most };
        let (process, tenant) = (limit(process), limit(tenant));
        Self(Arc::new(Inner { what, process, tenant, taken: Mutex::default(), left: Notify::new() }))
    }

    /// Takes a place for someone who is not known yet.
    ///
    /// # Errors
    /// LIMIT where the process has no more.
    pub fn enter(&self) -> Result<Place, Refusal> {
        let mut taken = self.taken();
        if taken.all >= self.0.process.most {
            return Err(self.refused(&self.0.process, "this process", "Try again in a second."));
        }
        taken.all += 1;
        Ok(Place { places: self.clone(), tenant: None })
    }

    /// Waits until no place is taken.
    pub async fn none_left(&self) {
        loop {
            // Before the look, so that what leaves in between is heard.
            let left = self.0.left.notified();
            if self.taken().all == 0 {
                return;
            }
            left.await;
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, limit: &Limit, who: &str, help: &str) -> Refusal {
        metrics::refused(limit.name);
        let what = self.0.what;
        Refusal::because(Reason::Limit, "PL-1", format!("{who} has too many {what} open"))
            .missing(limit.name, format!("{} {what} at once, fewer while others need them", limit.most))
            .help(help)
            .passing()
    }
}

impl Place {
    /// Says whose place it is.
    ///
    /// # Errors
    /// LIMIT where the tenant holds its part: so many as the limit says, and no more than are still free. So whoever comes
    /// last finds room as well.
    pub fn belong(mut self, tenant: TenantId) -> Result<Self, Refusal> {
        {
            let inner = &self.places.0;
            let mut taken = self.places.taken();
            let free = inner.process.most - taken.all;
            let held = taken.tenants.get(&tenant).copied().unwrap_or_default();
            if held >= inner.tenant.most || held > free {
                let help = "Wait until one of yours has ended, or a second, and try again.";
                return Err(self.places.refused(&inner.tenant, "your tenant", help));
            }
            taken.tenants.insert(tenant, held + 1);
        }
        self.tenant = Some(tenant);
        Ok(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(tenant) = self.tenant
            && let Some(held) = taken.tenants.get_mut(&tenant)
        {
            *held -= 1;
            if *held == 0 {
                taken.tenants.remove(&tenant);
            }
        }
        if taken.all == 0 {
            self.places.0.left.notify_waiters();
        }
    }
}

/// An answer that holds a place until its last byte is handed on, or the caller hangs up.
#[derive(Debug)]
pub struct Held {
    body: Body,
    place: Option<Place>,
}

impl Held {
    /// The same body, holding the place.
    #[must_use]
    pub fn body(body: Body, place: Place) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self { body, place: Some(place) })
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            // Before the caller can know: its next call finds the place free.
            self.place = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use uuid::Uuid;

    fn tenant(n: usize) -> TenantId {
        TenantId(Uuid::from_u128(n as u128 + 1))
    }

    fn enter(places: &Places, n: usize) -> Result<Place, Refusal> {
        places.enter()?.belong(tenant(n))
    }

    /// As many places as a tenant gets.
    fn all_of(places: &Places, n: usize) -> Vec<Place> {
        std::iter::from_fn(|| enter(places, n).ok()).collect()
    }

    #[test]
    fn a_tenant_has_its_places_and_no_more() {
        for (places, most) in [(Places::for_calls(), TENANT_CALLS), (Places::for_streams(), TENANT_STREAMS)] {
            let mut held = all_of(&places, 0);
            assert_eq!(held.len(), most);
            let refusal = enter(&places, 0).unwrap_err();
            assert_eq!((refusal.reason, refusal.missing[0].subject.as_str()), (Reason::Limit, places.0.tenant.name));
            assert!(enter(&places, 1).is_ok(), "another tenant is not in the way");
            held.pop();
            assert!(enter(&places, 0).is_ok());
            drop(held);
            assert!(places.taken().tenants.is_empty(), "nothing is kept of tenants that are gone");
            assert_eq!(places.taken().all, 0);
        }
    }

    #[test]
    fn r_12_a_newcomer_finds_room_however_many_ask_without_end() {
        let places = Places::of("calls", ("PROCESS_CALLS", 100), ("TENANT_CALLS", 100));
        let mut held = vec![all_of(&places, 0)];
        assert_eq!(held[0].len(), 50, "half of all where it is alone");
        held.push(all_of(&places, 1));
        assert_eq!(held[1].len(), 25, "and of what is then free");
        for n in 2..5 {
            held.push(all_of(&places, n));
        }
        assert!(held.iter().all(|of| !of.is_empty()), "{:?}", held.iter().map(Vec::len).collect::<Vec<_>>());
        assert!(enter(&places, 0).is_err(), "who has its part gets no more");
        held[0].truncate(20);
        assert!(enter(&places, 9).is_ok());
    }

    #[test]
    fn a_process_has_its_places_and_no_more() {
        for (places, most) in [(Places::for_calls(), PROCESS_CALLS), (Places::for_streams(), PROCESS_STREAMS)] {
            let held: Vec<Place> = (0..most).map(|_| places.enter().unwrap()).collect();
            let refusal = places.enter().unwrap_err();
            assert_eq!((refusal.reason, refusal.missing[0].subject.as_str()), (Reason::Limit, places.0.process.name));
            drop(held);
            assert!(places.enter().is_ok());
        }
    }

    #[tokio::test]
    async fn one_hears_when_the_last_has_left() {
        let places = Places::for_calls();
        places.none_left().await;
        let held = enter(&places, 0).unwrap();
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.none_left().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
