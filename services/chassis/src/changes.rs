//! The service that lets tenants follow what happened, and erase their texts, over the journals of all services in this
//! process.

use crate::{
    desk::{Desk, new_id},
    limits::{REQUEST_BYTES, RESPONSE_BYTES},
    page::Page,
    policy::Policy,
    status::to_status,
};
use futures::Stream;
use hansa_journal::{Erasing, Erasure, FeedEntry, Journal, PastChange};
use hansa_kernel::{
    Disclosed, Record, RecordName, Refusal, Relation, TenantId, envelope, record::happened, time::timestamp,
};
use hansa_proto::changes::{
    EraseTextsRequest, EraseTextsResponse, FeedChange, ListChangesRequest, ListChangesResponse,
    ListRecordChangesRequest, ListRecordChangesResponse, WatchChangesRequest, WatchChangesResponse,
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
    pub fn new(journals: HashMap<&'static str, Journal>, policy: Arc<Policy>, stop: CancellationToken) -> Self {
        Self { journals: Arc::new(journals), policy, stop }
    }

    /// The gRPC service over some services' journals; streams end when `stop` is cancelled.
    #[must_use]
    pub fn server(
        journals: HashMap<&'static str, Journal>,
        policy: Arc<Policy>,
        stop: CancellationToken,
    ) -> ChangeServiceServer<Self> {
        ChangeServiceServer::new(Self::new(journals, policy, stop))
            .max_decoding_message_size(REQUEST_BYTES)
            .max_encoding_message_size(RESPONSE_BYTES)
    }

    fn journal(&self, service: &str) -> Result<&Journal, Refusal> {
        service
            .strip_prefix("services/")
            .and_then(|name| self.journals.get(name))
            .ok_or_else(|| Refusal::field("service", "is not run here").help("Name one such as services/partnerships."))
    }

    fn desk(&self, journal: &Journal) -> Desk {
        Desk::new(journal.clone(), self.policy.clone())
    }

    fn tenant<Q>(&self, journal: &Journal, request: &Request<Q>) -> Result<TenantId, Status> {
        Ok(self.desk(journal).caller(request)?.tenant)
    }

    /// The journal that holds a record, and how the caller stands to it, where the caller may see it.
    async fn holder<Q>(&self, request: &Request<Q>, name: &RecordName) -> Result<(&Journal, Relation), Status> {
        for journal in self.journals.values() {
            let tenant = self.tenant(journal, request)?;
            let standing = journal.standing(name, tenant).await.map_err(|r| to_status(&r))?;
            if let Some(relation) = standing.filter(|relation| *relation != Relation::Stranger) {
                return Ok((journal, relation));
            }
        }
        Err(to_status(&Refusal::not_found(name)))
    }
}

/// A change as a reader sees it that stands so to its record. `None` where nothing of it is the reader's to see.
async fn readable(journal: &Journal, change: PastChange, relation: Relation) -> Result<Option<Change>, Refusal> {
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

/// What a tenant sees of a part of its feed.
async fn feed_changes(
    journal: &Journal,
    tenant: TenantId,
    entries: Vec<FeedEntry>,
) -> Result<Vec<FeedChange>, Refusal> {
    let mut standings: HashMap<String, Relation> = HashMap::new();
    let mut out = Vec::with_capacity(entries.len());
    for FeedEntry { position, change } in entries {
        let relation = match standings.get(&change.envelope.record) {
            Some(relation) => *relation,
            None => {
                let name = RecordName::parse_any(&change.envelope.record, "record")?;
                let relation = journal.standing(&name, tenant).await?.unwrap_or(Relation::Stranger);
                *standings.entry(change.envelope.record.clone()).or_insert(relation)
            }
        };
        if let Some(change) = readable(journal, change, relation).await? {
            out.push(FeedChange { position, change: Some(change) });
        }
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
        let page = Page::of(asked, &format!("changes {name}")).map_err(|r| to_status(&r))?;
        let after = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0);
        let (journal, relation) = self.holder(&request, &name).await?;
        let past = journal.history(name.id, after, page.size).await.map_err(|r| to_status(&r))?;
        let more = past.len() as u64 == page.size;
        // By the last that was read, whether it is shown or not.
        let next_page_token =
            page.next(past.last().filter(|_| more).map(|last| vec![last.envelope.version.to_string()]));
        let mut changes = Vec::with_capacity(past.len());
        for change in past {
            changes.extend(readable(journal, change, relation).await.map_err(|r| to_status(&r))?);
        }
        Ok(Response::new(ListRecordChangesResponse { changes, next_page_token }))
    }

    async fn erase_texts(&self, request: Request<EraseTextsRequest>) -> Result<Response<EraseTextsResponse>, Status> {
        let name = RecordName::parse_any(&request.get_ref().record, "record").map_err(|r| to_status(&r))?;
        let (journal, relation) = self.holder(&request, &name).await?;
        let desk = self.desk(journal);
        let tenant = desk.permit(&request, relation, name.as_str())?.tenant;
        let act = desk.open(request)?;
        let what = journal.erasable(&name, tenant, &act.request.seals).await.map_err(|r| to_status(&r))?;
        let erasing = Erasing { record: name.id, tenant, seals: what.seals.clone() };
        let erasure = RecordName::new(Erasure::COLLECTION, new_id());
        let command = desk.make(&act, erasure, move |_: Option<&Erasure>, _, _, _| match what.seals.is_empty() {
            true => Ok(Vec::new()),
            false => happened(what.clone()),
        });
        let receipt = journal.submit_if_any(command.fresh().erasing(erasing), act.validate_only).await;
        let answer = receipt.map_err(|r| to_status(&r))?.map_or_else(EraseTextsResponse::default, |receipt| {
            let erased_count = i32::try_from(receipt.state.count()).unwrap_or(i32::MAX);
            EraseTextsResponse { erasure: receipt.name.to_string(), erased_count }
        });
        Ok(Response::new(answer))
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
        let mut after = asked.after_position;
        loop {
            let entries = journal.feed(tenant, after, size).await.map_err(|r| to_status(&r))?;
            let more = entries.len() as u64 == size;
            after = entries.last().map_or(after, |last| last.position);
            let changes = feed_changes(journal, tenant, entries).await.map_err(|r| to_status(&r))?;
            // A caller goes on from what it was shown: a part of which nothing is shown is passed over here.
            if !changes.is_empty() || !more {
                return Ok(Response::new(ListChangesResponse { changes, more }));
            }
        }
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
                    after = entries.last().map_or(after, |last| last.position);
                    ready = feed_changes(&journal, tenant, entries).await.map_err(|r| to_status(&r))?.into_iter();
                }
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }
}
