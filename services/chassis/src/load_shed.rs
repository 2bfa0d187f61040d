//! Load shedding: limits how many calls and streams are open concurrently, in the process and per tenant.
//!
//! What exceeds a limit is refused immediately, with a hint when to retry, instead of waiting. A tenant may hold at most as many
//! permits as are still free, so that its share shrinks as the process fills up, and a newcomer always finds room.

use crate::{
    limits::{PROCESS_CALLS, PROCESS_STREAMS, TENANT_CALLS, TENANT_STREAMS},
    metrics,
};
use bytes::Bytes;
use hansa_kernel::{ReasonClass, Refusal, Refused, TenantId};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::sync::Notify;
use tonic::{Status, body::Body};

/// A maximum, with the name of its constant.
#[derive(Debug)]
struct Maximum {
    name: &'static str,
    value: usize,
}

/// The permits that are in use.
#[derive(Debug, Default)]
struct InUse {
    total: usize,
    by_tenant: HashMap<TenantId, usize>,
}

#[derive(Debug)]
struct Shared {
    /// What is limited, such as `calls`.
    subject: &'static str,
    process: Maximum,
    tenant: Maximum,
    in_use: Mutex<InUse>,
    drained: Notify,
}

/// A limit on what is open concurrently.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit(Arc<Shared>);

/// The right to have one call or stream open. It is released when it is dropped.
#[derive(Debug)]
pub struct Permit {
    limit: ConcurrencyLimit,
    tenant: Option<TenantId>,
}

impl ConcurrencyLimit {
    /// Creates the limit on calls.
    #[must_use]
    pub fn for_calls() -> Self {
        Self::new("calls", ("PROCESS_CALLS", PROCESS_CALLS), ("TENANT_CALLS", TENANT_CALLS))
    }

    /// Creates the limit on streams, which stay open and cost memory and a database query per commit.
    #[must_use]
    pub fn for_streams() -> Self {
        Self::new("streams", ("PROCESS_STREAMS", PROCESS_STREAMS), ("TENANT_STREAMS", TENANT_STREAMS))
    }

    fn new(subject: &'static str, process: (&'static str, usize), tenant: (&'static str, usize)) -> Self {
        let maximum = |(name, value)| Maximum { name, value };
        Self(Arc::new(Shared {
            subject,
            process: maximum(process),
            tenant: maximum(tenant),
            in_use: Mutex::default(),
            drained: Notify::new(),
        }))
    }

    /// Acquires a permit for a caller who is not authenticated yet.
    ///
    /// # Errors
    /// `LIMIT` if the process has no free permit.
    pub fn acquire(&self) -> Refused<Permit> {
        let mut in_use = self.in_use();
        if in_use.total >= self.0.process.value {
            return Err(self.refuse(&self.0.process, "this process", "Try again in a second."));
        }
        in_use.total += 1;
        Ok(Permit { limit: self.clone(), tenant: None })
    }

    /// Waits until no permit is in use.
    pub async fn drained(&self) {
        loop {
            // Registered before the check, so that a release in between wakes it.
            let drained = self.0.drained.notified();
            if self.in_use().total == 0 {
                return;
            }
            drained.await;
        }
    }

    fn in_use(&self) -> MutexGuard<'_, InUse> {
        self.0.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, maximum: &Maximum, holder: &str, help: &str) -> Refusal {
        metrics::refused(maximum.name);
        let subject = self.0.subject;
        Refusal::because(ReasonClass::Limit, "PL-1", "TOO_MANY_OPEN", format!("{holder} has too many {subject} open"))
            .missing(maximum.name, format!("{} concurrent {subject}, fewer while others need them", maximum.value))
            .help(help)
            .retryable()
    }
}

impl Permit {
    /// Assigns the permit to a tenant.
    ///
    /// # Errors
    /// `LIMIT` if the tenant holds as many permits as its limit permits, or more than are still free.
    pub fn assign_to(mut self, tenant: TenantId) -> Refused<Self> {
        {
            let shared = &self.limit.0;
            let mut in_use = self.limit.in_use();
            let free = shared.process.value - in_use.total;
            let held = in_use.by_tenant.get(&tenant).copied().unwrap_or_default();
            if held >= shared.tenant.value || held > free {
                let help = "Wait until one of yours has ended, or a second, and try again.";
                return Err(self.limit.refuse(&shared.tenant, "your tenant", help));
            }
            in_use.by_tenant.insert(tenant, held + 1);
        }
        self.tenant = Some(tenant);
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut in_use = self.limit.in_use();
        in_use.total -= 1;
        if let Some(tenant) = self.tenant
            && let Some(held) = in_use.by_tenant.get_mut(&tenant)
        {
            *held -= 1;
            if *held == 0 {
                in_use.by_tenant.remove(&tenant);
            }
        }
        if in_use.total == 0 {
            self.limit.0.drained.notify_waiters();
        }
    }
}

/// A response body that holds a permit until its last frame is sent, or the caller disconnects.
#[derive(Debug)]
pub struct PermitBody {
    body: Body,
    permit: Option<Permit>,
}

impl PermitBody {
    /// Wraps a body so that it holds the permit.
    #[must_use]
    pub fn wrap(body: Body, permit: Permit) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self { body, permit: Some(permit) })
    }
}

impl HttpBody for PermitBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            // Released before the caller gets the last frame, so that its next call finds the permit free.
            self.permit = None;
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

    fn acquire(limit: &ConcurrencyLimit, n: usize) -> Refused<Permit> {
        limit.acquire()?.assign_to(tenant(n))
    }

    /// As many permits as the tenant gets.
    fn acquire_all(limit: &ConcurrencyLimit, n: usize) -> Vec<Permit> {
        std::iter::from_fn(|| acquire(limit, n).ok()).collect()
    }

    #[test]
    fn a_tenant_gets_no_more_than_its_limit() {
        let limits = [(ConcurrencyLimit::for_calls(), TENANT_CALLS), (ConcurrencyLimit::for_streams(), TENANT_STREAMS)];
        for (limit, most) in limits {
            let mut held = acquire_all(&limit, 0);
            assert_eq!(held.len(), most);
            let refusal = acquire(&limit, 0).unwrap_err();
            assert_eq!((refusal.class, refusal.missing[0].subject.as_str()), (ReasonClass::Limit, limit.0.tenant.name));
            assert!(acquire(&limit, 1).is_ok(), "another tenant is unaffected");
            held.pop();
            assert!(acquire(&limit, 0).is_ok());
            drop(held);
            assert!(limit.in_use().by_tenant.is_empty(), "a tenant without permits takes no memory");
            assert_eq!(limit.in_use().total, 0);
        }
    }

    #[test]
    fn r_12_a_newcomer_finds_room_however_busy_the_others_are() {
        let limit = ConcurrencyLimit::new("calls", ("PROCESS_CALLS", 100), ("TENANT_CALLS", 100));
        let mut held = vec![acquire_all(&limit, 0)];
        assert_eq!(held[0].len(), 50, "a sole tenant gets half");
        held.push(acquire_all(&limit, 1));
        assert_eq!(held[1].len(), 25, "and the next half of what is free");
        for n in 2..5 {
            held.push(acquire_all(&limit, n));
        }
        assert!(held.iter().all(|of| !of.is_empty()), "{:?}", held.iter().map(Vec::len).collect::<Vec<_>>());
        assert!(acquire(&limit, 0).is_err(), "a tenant with its share gets no more");
        held[0].truncate(20);
        assert!(acquire(&limit, 9).is_ok());
    }

    #[test]
    fn a_process_gets_no_more_than_its_limit() {
        let limits =
            [(ConcurrencyLimit::for_calls(), PROCESS_CALLS), (ConcurrencyLimit::for_streams(), PROCESS_STREAMS)];
        for (limit, most) in limits {
            let held: Vec<Permit> = (0..most).map(|_| limit.acquire().unwrap()).collect();
            let refusal = limit.acquire().unwrap_err();
            assert_eq!(
                (refusal.class, refusal.missing[0].subject.as_str()),
                (ReasonClass::Limit, limit.0.process.name)
            );
            drop(held);
            assert!(limit.acquire().is_ok());
        }
    }

    #[tokio::test]
    async fn drained_returns_when_the_last_permit_is_released() {
        let limit = ConcurrencyLimit::for_calls();
        limit.drained().await;
        let held = acquire(&limit, 0).unwrap();
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.drained().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
