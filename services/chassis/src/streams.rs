//! How many streams a tenant may hold open at once. A stream costs memory and a look at each commit, so one tenant must not
//! take them all.

use crate::limits::TENANT_STREAMS;
use bytes::Bytes;
use hansa_kernel::{Reason, Refusal, TenantId};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tonic::{Status, body::Body};

/// Counts open streams by tenant.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<HashMap<TenantId, usize>>>);

/// A place of one stream; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    streams: Streams,
    tenant: TenantId,
}

impl Streams {
    /// Takes a place.
    ///
    /// # Errors
    /// LIMIT where the tenant holds all of its places.
    pub fn admit(&self, tenant: TenantId) -> Result<Place, Refusal> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(tenant).or_default();
        if *count >= TENANT_STREAMS {
            return Err(Refusal::because(
                Reason::Limit,
                "PL-1",
                format!("your tenant has {TENANT_STREAMS} streams open"),
            )
            .help("Close one, or follow more with one stream."));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), tenant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

/// An answer that holds a place until its last byte is sent, or the caller hangs up.
#[derive(Debug)]
pub struct Held {
    body: Body,
    _place: Place,
}

impl Held {
    /// The same body, holding the place.
    #[must_use]
    pub fn body(body: Body, place: Place) -> Body {
        Body::new(Self { body, _place: place })
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
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
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_tenant_has_its_places_and_no_more() {
        let streams = Streams::default();
        let [one, other] = [1, 2].map(|n| TenantId(Uuid::from_u128(n)));
        let mut places: Vec<Place> = (0..TENANT_STREAMS).map(|_| streams.admit(one).unwrap()).collect();
        assert_eq!(streams.admit(one).unwrap_err().reason, Reason::Limit);
        assert!(streams.admit(other).is_ok(), "another tenant is not in the way");
        places.pop();
        assert!(streams.admit(one).is_ok());
        drop(places);
        assert!(streams.0.lock().unwrap().is_empty(), "nothing is kept of tenants without streams");
    }
}
