//! The change service: histories of records, feeds that tenants follow, and the erasure of texts, over the journals of all services in
//! this process.

use crate::{
    handler::{Handlers, new_id},
    page::Page,
    policy::{Policies, Policy},
    status::{ApiError, ApiResult, to_status},
};
use futures::Stream;
use hansa_journal::{Erasing, Erasure, FeedEntry as StoredEntry, Journal, JournalError, PastChange};
use hansa_kernel::{
    Disclosed, Record, RecordName, Refusal, Refused, Relation, TenantId, envelope, record::emit, time::timestamp,
};
use hansa_proto::{
    changes::{
        EraseTextsRequest, EraseTextsResponse, FeedEntry, GetChangeRequest, ListChangesRequest, ListChangesResponse,
        ListFeedEntriesRequest, ListFeedEntriesResponse, WatchFeedRequest, WatchFeedResponse,
    },
    handlers::ChangeServiceHandler,
    types::Change,
};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
    vec,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// How long a stream waits before it reads the feed by itself, because another replica may have committed.
const READ_PERIOD: Duration = Duration::from_secs(1);
/// Entries that a stream reads together.
const WATCH_PAGE: u64 = 100;
/// How long an idle stream is silent before it sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Default number of entries per page of `ListFeedEntries`. The maximum is that of every list.
const LIST_PAGE_DEFAULT: i32 = 100;

/// The package and its policies.
pub const POLICIES: Policies = &[("hansa.changes.v1", include_str!("../policy/changes.cedar"))];

/// Serves histories and feeds.
#[derive(Clone, Debug)]
pub struct Changes {
    handlers: Arc<HashMap<&'static str, Handlers>>,
}

impl Changes {
    /// Creates the service over some journals, by service. Streams end when `drain` is cancelled.
    #[must_use]
    pub fn new(journals: HashMap<&'static str, Journal>, policy: &Arc<Policy>, drain: &CancellationToken) -> Self {
        let handlers = |journal| Handlers::new(journal, policy.clone(), drain.clone());
        Self { handlers: Arc::new(journals.into_iter().map(|(name, journal)| (name, handlers(journal))).collect()) }
    }

    /// Returns the service to which a feed belongs.
    fn feed(&self, field: &str, feed: &str) -> Refused<&Handlers> {
        feed.strip_prefix("feeds/").and_then(|service| self.handlers.get(service)).ok_or_else(|| {
            Refusal::field(field, "is not a feed of this process").help("Name a feed such as feeds/partnerships.")
        })
    }

    /// Returns the service that owns a record, and the caller's relation to the record.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is no such record, or the caller may not see it.
    async fn owner<Q>(&self, request: &Request<Q>, name: &RecordName) -> Result<(&Handlers, Relation), ApiError> {
        for handlers in self.handlers.values() {
            let tenant = handlers.queries.caller(request)?.tenant;
            let relation = handlers.journal.relation(name, tenant).await?;
            if let Some(relation) = relation.filter(|relation| *relation != Relation::Stranger) {
                return Ok((handlers, relation));
            }
        }
        Err(Refusal::not_found(name).into())
    }
}

/// Returns a change as a reader with this relation to its record may see it; `None` if nothing of it is disclosed.
async fn disclose(journal: &Journal, change: PastChange, relation: Relation) -> Result<Option<Change>, JournalError> {
    let hash = change.etag();
    let PastChange { signed, envelope, received_at } = change;
    let record = RecordName::parse_any(&envelope.record, "record")?;
    let version = envelope::version(&envelope);
    let (collection, payload_type) = (record.collection(), envelope.payload_type);
    let disclosed = match relation {
        Relation::Owner | Relation::Party | Relation::Member => Disclosed::Whole,
        Relation::Public => journal.disclosed(collection, &payload_type, &envelope.payload),
        Relation::Stranger => Disclosed::Hidden,
    };
    let (payload, actor, on_behalf_of, signed_change) = match disclosed {
        Disclosed::Whole => (envelope.payload, envelope.actor, envelope.on_behalf_of, Some(signed)),
        Disclosed::Part(payload) => (payload, None, String::new(), None),
        Disclosed::Hidden => return Ok(None),
    };
    let payload = journal.readable_payload(collection, &payload_type, &payload).await?;
    let received = chrono::DateTime::from_timestamp_micros(received_at).unwrap_or_default();
    Ok(Some(Change {
        name: record.change(version),
        record: envelope.record,
        version: envelope.version,
        payload: Some(prost_types::Any { type_url: format!("type.googleapis.com/{payload_type}"), value: payload }),
        payload_type,
        actor,
        on_behalf_of,
        assurance_level: envelope.assurance_level,
        claim_time: envelope.claim_time,
        receive_time: Some(timestamp(received)),
        hash,
        signed_change,
    }))
}

/// Returns what a tenant may see of some entries of its feed.
async fn disclose_entries(
    journal: &Journal,
    tenant: TenantId,
    entries: Vec<StoredEntry>,
) -> Result<Vec<FeedEntry>, JournalError> {
    let mut relations: HashMap<String, Relation> = HashMap::new();
    let mut disclosed = Vec::with_capacity(entries.len());
    for StoredEntry { position, change } in entries {
        let relation = match relations.get(&change.envelope.record) {
            Some(relation) => *relation,
            None => {
                let name = RecordName::parse_any(&change.envelope.record, "record")?;
                let relation = journal.relation(&name, tenant).await?.unwrap_or(Relation::Stranger);
                *relations.entry(change.envelope.record.clone()).or_insert(relation)
            }
        };
        if let Some(change) = disclose(journal, change, relation).await? {
            disclosed.push(FeedEntry { position: position.cast_signed(), change: Some(change) });
        }
    }
    Ok(disclosed)
}

/// The position of a stream in a feed.
struct Watch {
    journal: Journal,
    tenant: TenantId,
    committed: watch::Receiver<i64>,
    drain: CancellationToken,
    after: u64,
    /// Entries that have been read and not yet sent.
    ready: vec::IntoIter<FeedEntry>,
    /// When the next heartbeat is due.
    heartbeat: Instant,
}

impl Watch {
    /// Waits for the next entry or heartbeat. Returns `None` when the process drains.
    async fn next(&mut self) -> Result<Option<WatchFeedResponse>, JournalError> {
        loop {
            if let Some(entry) = self.ready.next() {
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Ok(Some(WatchFeedResponse { position: entry.position, entry: Some(entry) }));
            }
            self.committed.mark_unchanged();
            let entries = self.journal.feed(self.tenant, self.after, WATCH_PAGE).await?;
            if let Some(last) = entries.last() {
                self.after = last.position;
                self.ready = disclose_entries(&self.journal, self.tenant, entries).await?.into_iter();
                continue;
            }
            if self.heartbeat <= Instant::now() {
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Ok(Some(WatchFeedResponse { entry: None, position: self.after.cast_signed() }));
            }
            tokio::select! {
                () = self.drain.cancelled() => return Ok(None),
                _ = tokio::time::timeout(READ_PERIOD, self.committed.changed()) => {}
            }
        }
    }
}

impl ChangeServiceHandler for Changes {
    type Error = ApiError;
    type WatchFeedStream = Pin<Box<dyn Stream<Item = Result<WatchFeedResponse, Status>> + Send>>;

    async fn list_changes(&self, request: Request<ListChangesRequest>) -> ApiResult<ListChangesResponse> {
        let query = request.get_ref();
        let name = RecordName::parse_any(&query.parent, "parent")?;
        let page = Page::of(query)?;
        let after = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0);
        let (Handlers { journal, .. }, relation) = self.owner(&request, &name).await?;
        let past = journal.history(name.id, after, page.size).await?;
        let has_more = past.len() as u64 == page.size;
        // The token names the last change that was read, whether or not it is disclosed.
        let last = past.last().filter(|_| has_more).map(|last| vec![envelope::version(&last.envelope).to_string()]);
        let next_page_token = page.next_token(last);
        let mut changes = Vec::with_capacity(past.len());
        for change in past {
            changes.extend(disclose(journal, change, relation).await?);
        }
        Ok(Response::new(ListChangesResponse { changes, next_page_token }))
    }

    async fn get_change(&self, request: Request<GetChangeRequest>) -> ApiResult<Change> {
        let (record, version) = RecordName::parse_numbered(&request.get_ref().name, "changes", "name")?;
        let missing = || Refusal::not_found(record.change(version));
        let (Handlers { journal, .. }, relation) = self.owner(&request, &record).await?;
        let found = journal.history(record.id, version - 1, 1).await?.into_iter().next();
        let found = found.filter(|found| envelope::version(&found.envelope) == version).ok_or_else(missing)?;
        Ok(Response::new(disclose(journal, found, relation).await?.ok_or_else(missing)?))
    }

    async fn erase_texts(&self, request: Request<EraseTextsRequest>) -> ApiResult<EraseTextsResponse> {
        let name = RecordName::parse_any(&request.get_ref().name, "name")?;
        let (Handlers { commands, queries, journal, .. }, relation) = self.owner(&request, &name).await?;
        let tenant = queries.permit(&request, relation, name.as_str())?.tenant;
        let context = commands.accept(request)?;
        let erased = journal.erasable(&name, tenant, &context.request.seals).await?;
        let erasing = Erasing { record: name.id, tenant, seals: erased.seals.clone() };
        let erasure = RecordName::new(Erasure::COLLECTION, new_id());
        let command =
            commands.create(&context, erasure, move |_: Option<&Erasure>, _, _, _| match erased.seals.is_empty() {
                true => Ok(Vec::new()),
                false => emit(erased.clone()),
            });
        let receipt = journal.submit_if_any(command.new_record().erasing(erasing), context.validate_only).await?;
        let response = receipt.map_or_else(EraseTextsResponse::default, |receipt| {
            let erased_count = i32::try_from(receipt.state.count()).unwrap_or(i32::MAX);
            EraseTextsResponse { erasure: receipt.name.to_string(), erased_count }
        });
        Ok(Response::new(response))
    }

    async fn list_feed_entries(&self, request: Request<ListFeedEntriesRequest>) -> ApiResult<ListFeedEntriesResponse> {
        let query = request.get_ref();
        let Handlers { queries, journal, .. } = self.feed("parent", &query.parent)?;
        let tenant = queries.caller(&request)?.tenant;
        let start = u64::try_from(query.after_position).map_err(|_| Refusal::field("after_position", "is negative"))?;
        // A token already contains a position, so the first position is no part of the query that it continues.
        let page_size = if query.page_size == 0 { LIST_PAGE_DEFAULT } else { query.page_size };
        let page = Page::of(&ListFeedEntriesRequest { after_position: 0, page_size, ..query.clone() })?;
        let mut after = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(start);
        loop {
            let stored = journal.feed(tenant, after, page.size).await?;
            let has_more = stored.len() as u64 == page.size;
            after = stored.last().map_or(after, |last| last.position);
            let entries = disclose_entries(journal, tenant, stored).await?;
            // Skips pages of which nothing is disclosed, so that a reader does not get empty pages.
            if !entries.is_empty() || !has_more {
                let next_page_token = page.next_token(has_more.then(|| vec![after.to_string()]));
                let position = after.cast_signed();
                return Ok(Response::new(ListFeedEntriesResponse { entries, next_page_token, position }));
            }
        }
    }

    async fn watch_feed(&self, request: Request<WatchFeedRequest>) -> ApiResult<Self::WatchFeedStream> {
        let query = request.get_ref();
        let Handlers { queries, journal, drain, .. } = self.feed("name", &query.name)?;
        let after = u64::try_from(query.after_position).map_err(|_| Refusal::field("after_position", "is negative"))?;
        let watch = Watch {
            tenant: queries.caller(&request)?.tenant,
            committed: journal.committed(),
            journal: journal.clone(),
            drain: drain.clone(),
            after,
            ready: Vec::new().into_iter(),
            heartbeat: Instant::now(),
        };
        let stream = futures::stream::try_unfold(watch, |mut watch| async move {
            let next = watch.next().await.map_err(|error| to_status(&Refusal::from(error)))?;
            Ok(next.map(|response| (response, watch)))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
