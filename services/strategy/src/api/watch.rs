//! A stream of a tenant's evaluations: the latest of each city, then each new one as it is recorded.

use super::ask;
use crate::views::joined_city;
use futures::Stream;
use hansa_journal::{Journal, Loaded};
use hansa_kernel::{Record, RecordId, RecordName, Refused, TenantId};
use hansa_proto::strategy::{Evaluation, WatchEvaluationsResponse};
use hansa_strategy_domain::{Evaluations, evaluation};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::{sync::watch::Receiver, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long a watcher waits before it looks by itself: another replica may have committed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One watcher.
pub struct Watch {
    journal: Journal,
    committed: Receiver<i64>,
    tenant: TenantId,
    city: Option<RecordName>,
    drain: CancellationToken,
    /// The evaluations that were looked at, and the version of each that was last sent.
    sent: BTreeMap<RecordName, u64>,
    /// When the database was last looked at.
    looked: Option<Instant>,
    ready: VecDeque<Evaluation>,
}

impl Watch {
    /// A watcher of a tenant's cities, or of one of them.
    pub fn new(journal: &Journal, tenant: TenantId, city: Option<RecordName>, drain: CancellationToken) -> Self {
        let (journal, committed) = (journal.clone(), journal.committed());
        Self { journal, committed, tenant, city, drain, sent: BTreeMap::new(), looked: None, ready: VecDeque::new() }
    }

    /// The stream; it ends at drain.
    pub fn stream(self) -> impl Stream<Item = Result<WatchEvaluationsResponse, Status>> + Send {
        futures::stream::try_unfold(self, |mut watch| async move {
            let next = ask(watch.next().await)?;
            Ok(next.map(|evaluation| (WatchEvaluationsResponse { evaluation: Some(evaluation) }, watch)))
        })
    }

    async fn next(&mut self) -> Refused<Option<Evaluation>> {
        loop {
            if let Some(evaluation) = self.ready.pop_front() {
                return Ok(Some(evaluation));
            }
            self.committed.mark_unchanged();
            if self.rest().is_zero() {
                self.look().await?;
            } else {
                self.hear().await?;
            }
            if self.ready.is_empty() {
                tokio::select! {
                    () = self.drain.cancelled() => return Ok(None),
                    _ = tokio::time::timeout(self.rest(), self.committed.changed()) => {}
                }
            }
        }
    }

    /// How long it is until the database is looked at again.
    fn rest(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |looked| LOOK_AGAIN.saturating_sub(looked.elapsed()))
    }

    /// Takes up what is new in the database: of a city that is seen for the first time, the latest.
    async fn look(&mut self) -> Refused<()> {
        self.looked = Some(Instant::now());
        for record in self.records().await? {
            match self.journal.load::<Evaluations>(&record).await? {
                Some(found) => self.take(record, found).await?,
                None => drop(self.sent.insert(record, 0)),
            }
        }
        Ok(())
    }

    /// Takes up what this process has committed since, without asking the database: many may watch, and most commits are of
    /// others.
    async fn hear(&mut self) -> Refused<()> {
        let newer = |(record, sent): (&RecordName, &u64)| {
            Some((record.clone(), self.journal.written_since::<Evaluations>(record, *sent)?))
        };
        for (record, found) in self.sent.iter().filter_map(newer).collect::<Vec<_>>() {
            self.take(record, found).await?;
        }
        Ok(())
    }

    /// Has what was not sent yet wait to be sent; none is passed over.
    async fn take(&mut self, record: RecordName, found: Loaded<Evaluations>) -> Refused<()> {
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
