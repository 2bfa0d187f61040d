//! The stream of a tenant's evaluations: first the latest of each city, then every new one as soon as it is recorded.

use super::latest;
use crate::views::joined_city;
use futures::Stream;
use hansa_chassis::to_status;
use hansa_journal::{Journal, Loaded};
use hansa_kernel::{Record, RecordId, RecordName, Refusal, Refused, TenantId};
use hansa_proto::strategy::{Evaluation, WatchEvaluationsResponse};
use hansa_strategy_domain::{Evaluations, evaluation};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::{sync::watch::Receiver, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often a stream reads the database, because it is not notified of the commits of other replicas.
const READ_PERIOD: Duration = Duration::from_secs(1);
/// How long an idle stream is silent before it sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Longest resume token, in characters: 100 cities.
const RESUME_TOKEN_CHARS: usize = 10_000;

/// The state of one stream.
pub struct Watch {
    journal: Journal,
    committed: Receiver<i64>,
    tenant: TenantId,
    city: Option<RecordName>,
    drain: CancellationToken,
    /// The last version sent per evaluations record.
    sent: BTreeMap<RecordName, u64>,
    last_read: Option<Instant>,
    /// Evaluations that have been read and not yet sent, with their record and version.
    ready: VecDeque<(RecordName, u64, Evaluation)>,
    /// The versions that the caller has received.
    received: BTreeMap<RecordName, u64>,
    /// When the next heartbeat is due.
    heartbeat: Instant,
}

/// Reads a resume token: the records of evaluations with the version that the caller received last.
///
/// # Errors
/// `FIELD_INVALID` if the token is none of this service's.
pub fn parse_token(token: &str) -> Refused<BTreeMap<RecordName, u64>> {
    let invalid = || Refusal::field("resume_token", "is not from this stream").help("Leave it empty to start again.");
    if token.len() > RESUME_TOKEN_CHARS {
        return Err(invalid());
    }
    let entry = |entry: &str| {
        let (id, version) = entry.split_once('@').ok_or_else(invalid)?;
        let name = format!("{}/{id}", Evaluations::COLLECTION);
        let name = RecordName::parse(&name, Evaluations::COLLECTION, "resume_token").map_err(|_| invalid())?;
        Ok((name, version.parse().map_err(|_| invalid())?))
    };
    token.split(',').filter(|entry| !entry.is_empty()).map(entry).collect()
}

fn token(received: &BTreeMap<RecordName, u64>) -> String {
    received.iter().map(|(record, version)| format!("{}@{version}", record.id)).collect::<Vec<_>>().join(",")
}

impl Watch {
    /// Creates the stream of a tenant's cities, or of one of them. `received` is the content of the resume token.
    pub fn new(
        journal: &Journal,
        tenant: TenantId,
        city: Option<RecordName>,
        received: BTreeMap<RecordName, u64>,
        drain: CancellationToken,
    ) -> Self {
        let (journal, committed) = (journal.clone(), journal.committed());
        let (sent, ready, heartbeat) = (received.clone(), VecDeque::new(), Instant::now());
        Self { journal, committed, tenant, city, drain, sent, last_read: None, ready, received, heartbeat }
    }

    /// Returns the stream. It ends when the process drains.
    pub fn stream(self) -> impl Stream<Item = Result<WatchEvaluationsResponse, Status>> + Send {
        futures::stream::try_unfold(self, |mut watch| async move {
            let next = watch.next().await.map_err(|refusal: Refusal| to_status(&refusal))?;
            Ok(next.map(|response| (response, watch)))
        })
    }

    /// Waits for the next evaluation or heartbeat. Returns `None` when the process drains.
    async fn next(&mut self) -> Refused<Option<WatchEvaluationsResponse>> {
        loop {
            if let Some((record, version, evaluation)) = self.ready.pop_front() {
                self.received.insert(record, version);
                return Ok(Some(self.response(Some(evaluation))));
            }
            self.committed.mark_unchanged();
            if self.until_read().is_zero() {
                self.read_database().await?;
            } else {
                self.read_cache().await?;
            }
            if self.ready.is_empty() {
                if self.heartbeat <= Instant::now() {
                    return Ok(Some(self.response(None)));
                }
                tokio::select! {
                    () = self.drain.cancelled() => return Ok(None),
                    _ = tokio::time::timeout(self.until_read(), self.committed.changed()) => {}
                }
            }
        }
    }

    fn response(&mut self, evaluation: Option<Evaluation>) -> WatchEvaluationsResponse {
        self.heartbeat = Instant::now() + HEARTBEAT;
        WatchEvaluationsResponse { evaluation, resume_token: token(&self.received) }
    }

    /// Returns how long it is until the database must be read again.
    fn until_read(&self) -> Duration {
        self.last_read.map_or(Duration::ZERO, |read| READ_PERIOD.saturating_sub(read.elapsed()))
    }

    /// Reads new versions from the database. For a city that is read for the first time, only the latest version is
    /// sent.
    async fn read_database(&mut self) -> Refused<()> {
        self.last_read = Some(Instant::now());
        for record in self.records().await? {
            match self.journal.load::<Evaluations>(&record).await? {
                Some(found) => self.enqueue(record, found).await?,
                None => drop(self.sent.insert(record, 0)),
            }
        }
        Ok(())
    }

    /// Reads the new commits of this process from the journal's cache. This keeps the database free of the reads of
    /// many streams, as most commits concern other records.
    async fn read_cache(&mut self) -> Refused<()> {
        let newer = |(record, sent): (&RecordName, &u64)| {
            Some((record.clone(), self.journal.written_since::<Evaluations>(record, *sent)?))
        };
        for (record, found) in self.sent.iter().filter_map(newer).collect::<Vec<_>>() {
            self.enqueue(record, found).await?;
        }
        Ok(())
    }

    /// Queues every version of the record that the stream has not sent.
    async fn enqueue(&mut self, record: RecordName, found: Loaded<Evaluations>) -> Refused<()> {
        if found.state.owner() != self.tenant {
            return Ok(());
        }
        let sent = self.sent.get(&record).copied().unwrap_or(found.version - 1);
        for version in sent + 1..found.version {
            let then = self.journal.load_at::<Evaluations>(&record, version).await?;
            self.ready.extend(then.map(|then| (record.clone(), version, latest(&then))));
        }
        if sent < found.version {
            self.ready.push_back((record.clone(), found.version, latest(&found)));
        }
        self.sent.insert(record, found.version.max(sent));
        Ok(())
    }

    async fn records(&self) -> Refused<Vec<RecordName>> {
        if let Some(city) = &self.city {
            return Ok(vec![evaluation::name_of(city)]);
        }
        let cities = joined_city::of_tenant(self.journal.store(), self.tenant).await?;
        let name = |city| evaluation::name_of(&RecordName::new("cities", RecordId(city)));
        Ok(cities.into_iter().map(name).collect())
    }
}
