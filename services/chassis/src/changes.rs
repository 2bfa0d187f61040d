//! The change service: histories of records, feeds that tenants follow, and the erasure of texts, over the journals of all services in
//! this process.

use crate::{
    handler::{Handlers, new_id},
    page::Page,
    policy::{Policies, Policy},
    status::{ApiError, ApiResult, to_status},
};
use futures::Stream;
use hansa_journal::{Erasing, Erasure, FeedEntry, Journal, JournalError, PastChange};
use hansa_kernel::{
    Disclosed, Record, RecordName, Refusal, Refused, Relation, TenantId, envelope, record::emit, time::timestamp,
};
use hansa_proto::{
    changes::{
        EraseTextsRequest, EraseTextsResponse, FeedChange, ListChangesRequest, ListChangesResponse,
        ListRecordChangesRequest, ListRecordChangesResponse, WatchChangesRequest, WatchChangesResponse,
    },
    handlers::ChangeServiceHandler,
    types::Change,
};
use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration, vec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// How long a stream waits before it reads the feed by itself, because another replica may have committed.
const READ_PERIOD: Duration = Duration::from_secs(1);
/// Entries that a stream reads together.
const WATCH_PAGE: u64 = 100;
/// Changes per page of `ListChanges`, by default and at most.
const LIST_PAGE: (u64, u64) = (100, 1_000);

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

    fn service(&self, name: &str) -> Refused<&Handlers> {
        name.strip_prefix("services/").and_then(|name| self.handlers.get(name)).ok_or_else(|| {
            Refusal::field("service", "is not run by this process")
                .help("Name a service such as services/partnerships.")
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
    let PastChange { signed, envelope, received_at } = change;
    let record = RecordName::parse_any(&envelope.record, "record")?;
    let (collection, r#type) = (record.collection(), envelope.r#type);
    let disclosed = match relation {
        Relation::Owner | Relation::Party | Relation::Member => Disclosed::Whole,
        Relation::Public => journal.disclosed(collection, &r#type, &envelope.payload),
        Relation::Stranger => Disclosed::Hidden,
    };
    let hash = hex::encode(envelope::hash(&signed.envelope));
    let (payload, actor, on_behalf_of, signed) = match disclosed {
        Disclosed::Whole => (envelope.payload, envelope.actor, envelope.on_behalf_of, Some(signed)),
        Disclosed::Part(payload) => (payload, None, String::new(), None),
        Disclosed::Hidden => return Ok(None),
    };
    let payload = journal.readable_payload(collection, &r#type, &payload).await?;
    let received = chrono::DateTime::from_timestamp_micros(received_at).unwrap_or_default();
    Ok(Some(Change {
        name: record.change(envelope.version),
        record: envelope.record,
        version: envelope.version,
        payload: Some(prost_types::Any { type_url: format!("type.googleapis.com/{type}"), value: payload }),
        r#type,
        actor,
        on_behalf_of,
        level: envelope.level,
        claimed_time: envelope.claimed_time,
        received_time: Some(timestamp(received)),
        hash,
        signed,
    }))
}

/// Returns what a tenant may see of some entries of its feed.
async fn disclose_entries(
    journal: &Journal,
    tenant: TenantId,
    entries: Vec<FeedEntry>,
) -> Result<Vec<FeedChange>, JournalError> {
    let mut relations: HashMap<String, Relation> = HashMap::new();
    let mut changes = Vec::with_capacity(entries.len());
    for FeedEntry { position, change } in entries {
        let relation = match relations.get(&change.envelope.record) {
            Some(relation) => *relation,
            None => {
                let name = RecordName::parse_any(&change.envelope.record, "record")?;
                let relation = journal.relation(&name, tenant).await?.unwrap_or(Relation::Stranger);
                *relations.entry(change.envelope.record.clone()).or_insert(relation)
            }
        };
        if let Some(change) = disclose(journal, change, relation).await? {
            changes.push(FeedChange { position, change: Some(change) });
        }
    }
    Ok(changes)
}

/// The position of a stream in a feed.
struct Watch {
    journal: Journal,
    tenant: TenantId,
    committed: watch::Receiver<i64>,
    drain: CancellationToken,
    after: u64,
    /// Changes that have been read and not yet sent.
    ready: vec::IntoIter<FeedChange>,
}

impl Watch {
    /// Waits for the next change. Returns `None` when the process drains.
    async fn next(&mut self) -> Result<Option<FeedChange>, JournalError> {
        loop {
            if let Some(change) = self.ready.next() {
                return Ok(Some(change));
            }
            self.committed.mark_unchanged();
            let entries = self.journal.feed(self.tenant, self.after, WATCH_PAGE).await?;
            match entries.last() {
                Some(last) => {
                    self.after = last.position;
                    self.ready = disclose_entries(&self.journal, self.tenant, entries).await?.into_iter();
                }
                None => tokio::select! {
                    () = self.drain.cancelled() => return Ok(None),
                    _ = tokio::time::timeout(READ_PERIOD, self.committed.changed()) => {}
                },
            }
        }
    }
}

impl ChangeServiceHandler for Changes {
    type Error = ApiError;
    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<WatchChangesResponse, Status>> + Send>>;

    async fn list_record_changes(
        &self,
        request: Request<ListRecordChangesRequest>,
    ) -> ApiResult<ListRecordChangesResponse> {
        let query = request.get_ref();
        let name = RecordName::parse_any(&query.record, "record")?;
        let page = Page::of(query)?;
        let after = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0);
        let (Handlers { journal, .. }, relation) = self.owner(&request, &name).await?;
        let past = journal.history(name.id, after, page.size).await?;
        let has_more = past.len() as u64 == page.size;
        // The token names the last change that was read, whether or not it is disclosed.
        let last = past.last().filter(|_| has_more).map(|last| vec![last.envelope.version.to_string()]);
        let next_page_token = page.next_token(last);
        let mut changes = Vec::with_capacity(past.len());
        for change in past {
            changes.extend(disclose(journal, change, relation).await?);
        }
        Ok(Response::new(ListRecordChangesResponse { changes, next_page_token }))
    }

    async fn erase_texts(&self, request: Request<EraseTextsRequest>) -> ApiResult<EraseTextsResponse> {
        let name = RecordName::parse_any(&request.get_ref().record, "record")?;
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

    async fn list_changes(&self, request: Request<ListChangesRequest>) -> ApiResult<ListChangesResponse> {
        let query = request.get_ref();
        let Handlers { queries, journal, .. } = self.service(&query.service)?;
        let tenant = queries.caller(&request)?.tenant;
        let size = u64::try_from(query.page_size).map_err(|_| Refusal::field("page_size", "is negative"))?;
        let size = if size == 0 { LIST_PAGE.0 } else { size.min(LIST_PAGE.1) };
        let mut after = query.after_position;
        loop {
            let entries = journal.feed(tenant, after, size).await?;
            let more = entries.len() as u64 == size;
            after = entries.last().map_or(after, |last| last.position);
            let changes = disclose_entries(journal, tenant, entries).await?;
            // The caller continues from the last change that it got, so entries of which nothing is disclosed are skipped here.
            if !changes.is_empty() || !more {
                return Ok(Response::new(ListChangesResponse { changes, more }));
            }
        }
    }

    async fn watch_changes(&self, request: Request<WatchChangesRequest>) -> ApiResult<Self::WatchChangesStream> {
        let query = request.get_ref();
        let Handlers { queries, journal, drain, .. } = self.service(&query.service)?;
        let watch = Watch {
            tenant: queries.caller(&request)?.tenant,
            committed: journal.committed(),
            journal: journal.clone(),
            drain: drain.clone(),
            after: query.after_position,
            ready: Vec::new().into_iter(),
        };
        let stream = futures::stream::try_unfold(watch, |mut watch| async move {
            let next = watch.next().await.map_err(|error| to_status(&Refusal::from(error)))?;
            Ok(next.map(|change| (WatchChangesResponse { change: Some(change) }, watch)))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
