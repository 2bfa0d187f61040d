//! The service that lets tenants follow what happened, over the journals of all services in this process.

use crate::{
    desk::Desk,
    limits::{REQUEST_BYTES, RESPONSE_BYTES},
    page::Page,
    policy::Policy,
    status::to_status,
};
use futures::Stream;
use hansa_journal::{FeedEntry, Journal, PastChange};
use hansa_kernel::{RecordName, Refusal, TenantId, envelope, time::timestamp};
use hansa_proto::changes::{
    FeedChange, ListChangesRequest, ListChangesResponse, ListRecordChangesRequest, ListRecordChangesResponse,
    WatchChangesRequest, WatchChangesResponse,
    change_service_server::{ChangeService, ChangeServiceServer},
};
use hansa_proto::types::Change;
use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// How long a follower waits before it looks by itself: another replica may have committed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The package and its policies.
pub const POLICIES: &[(&str, &str)] = &[("hansa.changes.v1", include_str!("../policy/changes.cedar"))];

/// Serves histories and feeds.
#[derive(Clone, Debug)]
pub struct Changes {
    journals: Arc<HashMap<&'static str, Journal>>,
    policy: Arc<Policy>,
    stop: CancellationToken,
}

impl Changes {
    /// Over some services' journals; streams end when `stop` is cancelled.
    #[must_use]
    pub fn server(
        journals: HashMap<&'static str, Journal>,
        policy: Arc<Policy>,
        stop: CancellationToken,
    ) -> ChangeServiceServer<Self> {
        ChangeServiceServer::new(Self { journals: Arc::new(journals), policy, stop })
            .max_decoding_message_size(REQUEST_BYTES)
            .max_encoding_message_size(RESPONSE_BYTES)
    }

    fn journal(&self, service: &str) -> Result<&Journal, Refusal> {
        service
            .strip_prefix("services/")
            .and_then(|name| self.journals.get(name))
            .ok_or_else(|| Refusal::field("service", "is not run here").help("Name one such as services/partnerships."))
    }

    fn tenant<Q>(&self, journal: &Journal, request: &Request<Q>) -> Result<TenantId, Status> {
        Ok(Desk::new(journal.clone(), self.policy.clone()).caller(request)?.tenant)
    }
}

/// A change as a reader sees it.
async fn readable(journal: &Journal, change: PastChange) -> Result<Change, Refusal> {
    let PastChange { signed, envelope, received_at } = change;
    let record = RecordName::parse_any(&envelope.record, "record")?;
    let payload = journal.readable_payload(record.collection(), &envelope.r#type, &envelope.payload).await?;
    let received = chrono::DateTime::from_timestamp_micros(received_at).unwrap_or_default();
    Ok(Change {
        name: record.change(envelope.version),
        record: envelope.record,
        version: envelope.version,
        payload: Some(prost_types::Any {
            type_url: format!("type.googleapis.com/{}", envelope.r#type),
            value: payload,
        }),
        r#type: envelope.r#type,
        actor: envelope.actor,
        on_behalf_of: envelope.on_behalf_of,
        level: envelope.level,
        claimed_time: envelope.claimed_time,
        received_time: Some(timestamp(received)),
        hash: hex::encode(envelope::hash(&signed.envelope)),
        signed: Some(signed),
    })
}

async fn feed_changes(journal: &Journal, entries: Vec<FeedEntry>) -> Result<Vec<FeedChange>, Refusal> {
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        out.push(FeedChange { position: entry.position, change: Some(readable(journal, entry.change).await?) });
    }
    Ok(out)
}

#[tonic::async_trait]
impl ChangeService for Changes {
    async fn list_record_changes(
        &self,
        request: Request<ListRecordChangesRequest>,
    ) -> Result<Response<ListRecordChangesResponse>, Status> {
        let asked = request.get_ref();
        let name = RecordName::parse_any(&asked.record, "record").map_err(|r| to_status(&r))?;
        let page = Page::of(asked, name.as_str()).map_err(|r| to_status(&r))?;
        let after = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0);
        for journal in self.journals.values() {
            let tenant = self.tenant(journal, &request)?;
            if journal.visible_to(&name, tenant).await.map_err(|r| to_status(&r))? != Some(true) {
                continue;
            }
            let past = journal.history(name.id, after, page.size).await.map_err(|r| to_status(&r))?;
            let more = past.len() as u64 == page.size;
            let mut changes = Vec::with_capacity(past.len());
            for change in past {
                changes.push(readable(journal, change).await.map_err(|r| to_status(&r))?);
            }
            let next_page_token = page.next(changes.last().filter(|_| more).map(|last| vec![last.version.to_string()]));
            return Ok(Response::new(ListRecordChangesResponse { changes, next_page_token }));
        }
        Err(to_status(&Refusal::not_found(&name)))
    }

    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        let asked = request.get_ref();
        let journal = self.journal(&asked.service).map_err(|r| to_status(&r))?;
        let tenant = self.tenant(journal, &request)?;
        let size =
            u64::try_from(asked.page_size).map_err(|_| to_status(&Refusal::field("page_size", "is negative")))?;
        let size = if size == 0 { 100 } else { size.min(1_000) };
        let entries = journal.feed(tenant, asked.after_position, size).await.map_err(|r| to_status(&r))?;
        let more = entries.len() as u64 == size;
        let changes = feed_changes(journal, entries).await.map_err(|r| to_status(&r))?;
        Ok(Response::new(ListChangesResponse { changes, more }))
    }

    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(
        &self,
        request: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let journal = self.journal(&request.get_ref().service).map_err(|r| to_status(&r))?.clone();
        let tenant = self.tenant(&journal, &request)?;
        let after = request.get_ref().after_position;
        let committed = journal.committed();
        let state = (journal, committed, after, Vec::<FeedChange>::new().into_iter(), self.stop.clone());
        let stream = futures::stream::try_unfold(
            state,
            move |(journal, mut committed, mut after, mut ready, stop)| async move {
                loop {
                    if let Some(change) = ready.next() {
                        after = change.position;
                        let next = WatchChangesResponse { change: Some(change) };
                        return Ok(Some((next, (journal, committed, after, ready, stop))));
                    }
                    committed.mark_unchanged();
                    let entries = journal.feed(tenant, after, 100).await.map_err(|r| to_status(&r))?;
                    if entries.is_empty() {
                        tokio::select! {
                            () = stop.cancelled() => return Ok(None),
                            _ = tokio::time::timeout(LOOK_AGAIN, committed.changed()) => {}
                        }
                        continue;
                    }
                    ready = feed_changes(&journal, entries).await.map_err(|r| to_status(&r))?.into_iter();
                }
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }
}
