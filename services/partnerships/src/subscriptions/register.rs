//! The mirrors of the register's cities and countries.

use super::queues;
use crate::views;
use hansa_journal::{Journal, QueueKey, Subscription};
use hansa_kernel::RecordId;
use hansa_register_domain::reference::{CityReference, CountryReference};

/// Enqueues a city with a new successor, so that its agreements pass to the successor (CT-11).
fn invalidates(record: RecordId, before: Option<&CityReference>, after: Option<&CityReference>) -> Vec<QueueKey> {
    let successor = |city: Option<&CityReference>| city.and_then(|city| city.successor);
    let is_new = successor(after).is_some() && successor(after) != successor(before);
    if is_new { vec![(queues::INHERIT, record.0)] } else { Vec::new() }
}

/// Creates the subscription.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("partnerships-from-register", journal)
        .mirror_invalidating::<CityReference>(invalidates)
        .view::<views::ended_city::Entity>()
        .mirror::<CountryReference>()
}
