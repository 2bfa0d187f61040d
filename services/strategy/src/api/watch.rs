//! A stream of a tenant's evaluations: the latest of each city, then each new one as it is recorded.

use super::ask;
use crate::views::joined_city;
use futures::Stream;
use hansa_journal::Journal;
use hansa_kernel::{Record, RecordId, RecordName, Refused, TenantId};
use hansa_proto::strategy::{Evaluation, WatchEvaluationsResponse};
use hansa_strategy_domain::{Evaluations, evaluation};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

/// How long a watcher waits before it looks by itself: another replica may have committed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One watcher.
pub struct Watch {
    journal: Journal,
    committed: Receiver<i64>,
    tenant: TenantId,
    city: Option<RecordName>,
    drain: CancellationToken,
    /// The version of each city's evaluations that was last sent.
    sent: BTreeMap<Uuid, u64>,
    ready: VecDeque<Evaluation>,
}

impl Watch {
    /// A watcher of a tenant's cities, or of one of them.
    pub fn new(journal: &Journal, tenant: TenantId, city: Option<RecordName>, drain: CancellationToken) -> Self {
        let (journal, committed) = (journal.clone(), journal.committed());
        Self { journal, committed, tenant, city, drain, sent: BTreeMap::new(), ready: VecDeque::new() }
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
            self.look().await?;
            if self.ready.is_empty() {
                tokio::select! {
                    () = self.drain.cancelled() => return Ok(None),
                    _ = tokio::time::timeout(LOOK_AGAIN, self.committed.changed()) => {}
                }
            }
        }
    }

    /// Takes up what is new. Of a city that is seen for the first time that is the latest; later on none is passed over.
    async fn look(&mut self) -> Refused<()> {
        for record in self.records().await? {
            let found = self.journal.load::<Evaluations>(&record).await?;
            let Some(found) = found.filter(|found| found.state.owner() == self.tenant) else { continue };
            let sent = self.sent.insert(record.id.0, found.version).unwrap_or(found.version - 1);
            for version in sent + 1..found.version {
                let then = self.journal.load_at::<Evaluations>(&record, version).await?;
                self.ready.extend(then.map(|then| then.state.latest()));
            }
            if sent < found.version {
                self.ready.push_back(found.state.latest());
            }
        }
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
