//! The service's own strategies: a change of one has its city evaluated again.

use super::EVALUATE;
use hansa_journal::{Journal, Mirror, subscription::Subscription};
use hansa_kernel::{Misfit, Record, RecordId, RecordName, Reference, Stamp};
use hansa_proto::strategy::strategy_change::Change;
use hansa_strategy_domain::Strategy;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The city of a strategy.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CityOf(RecordId);

/// The city of each strategy; the rest is in the journal itself.
#[derive(Debug)]
pub struct Strategies;

impl Reference for CityOf {
    const COLLECTION: &'static str = Strategy::COLLECTION;
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, Misfit> {
        match (before, change) {
            (Some(city), _) => Ok(city),
            (None, Change::Created(created)) => {
                let city = created.strategy.as_ref().map(|strategy| strategy.city.as_str()).unwrap_or_default();
                RecordName::parse(city, "cities", "city").map(|name| Self(name.id)).map_err(|e| Misfit(e.message))
            }
            (None, _) => Err(Misfit("a strategy begins with its creation".into())),
        }
    }
}

impl Mirror for Strategies {
    type State = CityOf;

    fn touches(_record: RecordId, before: Option<&CityOf>, after: Option<&CityOf>) -> Vec<(&'static str, Uuid)> {
        after.or(before).map(|CityOf(city)| (EVALUATE, city.0)).into_iter().collect()
    }
}

/// The subscription.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("strategy-own", journal).mirror::<Strategies>()
}
