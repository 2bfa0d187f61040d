//! The stream of a tenant's evaluations: first the latest of each city, then every new one as soon as it is recorded.

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
    ready: VecDeque<Evaluation>,
}

impl Watch {
    /// Creates the stream of a tenant's cities, or of one of them.
    pub fn new(journal: &Journal, tenant: TenantId, city: Option<RecordName>, drain: CancellationToken) -> Self {
        let (journal, committed) = (journal.clone(), journal.committed());
        Self { journal, committed, tenant, city, drain, sent: BTreeMap::new(), last_read: None, ready: VecDeque::new() }
    }

    /// Returns the stream. It ends when the process drains.
    pub fn stream(self) -> impl Stream<Item = Result<WatchEvaluationsResponse, Status>> + Send {
        futures::stream::try_unfold(self, |mut watch| async move {
            let next = watch.next().await.map_err(|refusal: Refusal| to_status(&refusal))?;
            Ok(next.map(|evaluation| (WatchEvaluationsResponse { evaluation: Some(evaluation) }, watch)))
        })
    }

    async fn next(&mut self) -> Refused<Option<Evaluation>> {
        loop {
            if let Some(evaluation) = self.ready.pop_front() {
                return Ok(Some(evaluation));
            }
            self.committed.mark_unchanged();
            if self.until_read().is_zero() {
                self.read_database().await?;
            } else {
                self.read_cache().await?;
            }
            if self.ready.is_empty() {
                tokio::select! {
                    () = self.drain.cancelled() => return Ok(None),
                    _ = tokio::time::timeout(self.until_read(), self.committed.changed()) => {}
                }
            }
        }
    }

    /// Returns the time until the next read of the database.
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
            self.ready.extend(then.map(|then| then.state.latest()));
        }
        if sent < found.version {
            self.ready.push_back(found.state.latest());
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
