//! The mirrors of agreements: the ties between cities. A change of a tie affects the evaluations of both cities.

use super::EVALUATE;
use crate::views;
use hansa_journal::{Journal, QueueKey, Subscription};
use hansa_kernel::RecordId;
use hansa_partnerships_domain::{agreement::Which, ties::Tie};
use std::collections::BTreeSet;

/// Enqueues the cities that the tie connects, before and after the change.
fn invalidates(_record: RecordId, before: Option<&Tie>, after: Option<&Tie>) -> Vec<QueueKey> {
    let cities = |tie: &Tie| Which::ALL.map(|which| (EVALUATE, tie.ends[which].city.0));
    let affected: BTreeSet<_> = before.into_iter().chain(after).flat_map(cities).collect();
    affected.into_iter().collect()
}

/// Creates the subscription.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("strategy-from-partnerships", journal)
        .mirror_invalidating::<Tie>(invalidates)
        .view::<views::tie::Entity>()
}
