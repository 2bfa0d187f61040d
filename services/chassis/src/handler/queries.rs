//! The query handler: reads records that the caller may see, and responds with resources and pages.

use crate::{
    handler::request::{caller_of, parse_name},
    page::Page,
    policy::Policy,
    status::ApiError,
};
use chrono::{DateTime, Utc};
use hansa_journal::{Journal, JournalError, Loaded, PageOfIds};
use hansa_kernel::{Caller, IntoResource, Record, RecordName, Refusal, Refused, Relation, time::timestamp};
use hansa_proto::{Texts, Timed, types::ResourceView};
use std::sync::Arc;
use tonic::{Request, Response};
use uuid::Uuid;

/// Handles the read rpcs of one service.
#[derive(Clone, Debug)]
pub struct QueryHandler {
    journal: Journal,
    policy: Arc<Policy>,
}

impl QueryHandler {
    /// Creates the query handler of the service that owns the journal.
    #[must_use]
    pub fn new(journal: Journal, policy: Arc<Policy>) -> Self {
        Self { journal, policy }
    }

    /// Handles an rpc that reads one record.
    ///
    /// # Errors
    /// As `load`; `INVALID_FIELD` if the name is malformed.
    pub async fn get<R: IntoResource, Q>(
        &self,
        request: &Request<Q>,
        name: &str,
    ) -> Result<Response<R::Resource>, ApiError> {
        let (caller, name) = (self.caller(request)?, parse_name::<R>("name", name)?);
        let loaded = self.load::<R, _>(request, &name).await?;
        let mut resources = self.resolve(vec![resource(&loaded, &caller)]).await?;
        Ok(Response::new(resources.swap_remove(0)))
    }

    /// Reads the resources of a page of ids, with the fields of the view. Returns them with the next page token.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn list<R: IntoResource, Q>(
        &self,
        request: &Request<Q>,
        page: &Page,
        ids: PageOfIds,
        view: ResourceView,
    ) -> Result<(Vec<R::Resource>, String), ApiError> {
        let caller = self.caller(request)?;
        let records = self.load_each::<R, _>(request, &ids.ids).await?;
        let shown = |one: &Loaded<R>| match view {
            ResourceView::Full => resource(one, &caller),
            ResourceView::Basic | ResourceView::Unspecified => R::basic(resource(one, &caller)),
        };
        let resources = records.iter().map(shown).collect();
        Ok((self.resolve(resources).await?, page.next_token(ids.next)))
    }

    /// Reads a record that the caller may see.
    ///
    /// # Errors
    /// `NOT_FOUND` if the record does not exist or the caller may not see it; `DELETED` under PL-8 if it was deleted and the
    /// caller could see it; `UNAVAILABLE` if the database is unavailable.
    pub async fn load<R: Record, Q>(&self, request: &Request<Q>, name: &RecordName) -> Result<Loaded<R>, JournalError> {
        let (caller, rpc) = caller_of(request)?;
        let loaded = self.journal.load_or_tombstone::<R>(name).await?.ok_or_else(|| Refusal::not_found(name))?;
        let relation = loaded.state.relation(&caller);
        self.policy.access(&rpc, &caller).check(relation, name.as_str())?;
        match loaded.deleted_at {
            Some(at) => Err(Refusal::deleted(name, at).into()),
            None => Ok(loaded),
        }
    }

    /// Reads some records, without those that the caller may not see. The filter of a list can be older than the records.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn load_each<R: Record, Q>(
        &self,
        request: &Request<Q>,
        ids: &[Uuid],
    ) -> Result<Vec<Loaded<R>>, JournalError> {
        let (caller, rpc) = caller_of(request)?;
        let access = self.policy.access(&rpc, &caller);
        let mut loaded = self.journal.load_each::<R>(ids).await?;
        loaded.retain(|one| access.permits(one.state.relation(&caller)));
        Ok(loaded)
    }

    /// Fills in the texts of messages.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn resolve<M: Texts>(&self, mut messages: Vec<M>) -> Result<Vec<M>, JournalError> {
        self.journal.resolve_texts(&mut messages, &[]).await?;
        Ok(messages)
    }

    /// Checks that the policies permit the rpc to a caller with this relation to `name`, and returns the caller. For rpcs that
    /// read no single record.
    ///
    /// # Errors
    /// `NOT_FOUND` for a stranger, `NOT_PERMITTED` for any other relation.
    pub fn permit<Q>(&self, request: &Request<Q>, relation: Relation, name: &str) -> Refused<Caller> {
        let (caller, rpc) = caller_of(request)?;
        self.policy.access(&rpc, &caller).check(relation, name)?;
        Ok(caller)
    }

    /// Returns the caller of a request.
    ///
    /// # Errors
    /// `NOT_AUTHENTICATED` if the call did not pass the auth layer.
    pub fn caller<Q>(&self, request: &Request<Q>) -> Refused<Caller> {
        caller_of(request).map(|(caller, _)| caller)
    }
}

/// Returns the resource of a record as the caller may see it.
fn resource<R: IntoResource>(loaded: &Loaded<R>, caller: &Caller) -> R::Resource {
    with_times(loaded.state.to_resource(&loaded.name, &loaded.etag, caller), loaded.times)
}

/// Sets when the record was created and when it last changed.
#[must_use]
pub fn with_times<T: Timed>(resource: T, (created, updated): (DateTime<Utc>, DateTime<Utc>)) -> T {
    resource.with_times(timestamp(created), timestamp(updated))
}
