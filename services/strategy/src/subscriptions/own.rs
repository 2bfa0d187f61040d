//! The mirror of the service's own strategies. A change of a strategy enqueues its city for evaluation.

use super::EVALUATE;
use hansa_journal::{Journal, QueueKey, Subscription};
use hansa_kernel::{FoldError, Record, RecordId, RecordName, Reference, Stamp};
use hansa_proto::strategy::strategy_change::Change;
use hansa_strategy_domain::Strategy;
use serde::{Deserialize, Serialize};

/// The city of a strategy.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CityOf(RecordId);

impl Reference for CityOf {
    const COLLECTION: &'static str = Strategy::COLLECTION;
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        match (before, change) {
            (Some(city), _) => Ok(city),
            (None, Change::Created(created)) => {
                let city = created.strategy.as_ref().map(|strategy| strategy.city.as_str()).unwrap_or_default();
                RecordName::parse(city, "cities", "city").map(|name| Self(name.id)).map_err(|e| FoldError(e.message))
            }
            (None, _) => Err(FoldError("a strategy begins with its creation".into())),
        }
    }
}

/// Enqueues the city of the strategy.
fn invalidates(_record: RecordId, before: Option<&CityOf>, after: Option<&CityOf>) -> Vec<QueueKey> {
    after.or(before).map(|CityOf(city)| (EVALUATE, city.0)).into_iter().collect()
}

/// Creates the subscription to the service's own changes.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("strategy-own", journal).mirror_invalidating::<CityOf>(invalidates)
}
