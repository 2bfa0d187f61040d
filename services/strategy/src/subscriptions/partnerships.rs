//! What is kept of agreements.

use super::EVALUATE;
use crate::views;
use hansa_journal::{Journal, Mirror, subscription::Subscription};
use hansa_kernel::RecordId;
use hansa_partnerships_domain::{agreement::Which, ties::Tie};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The ties between cities. A change of one bears on both.
#[derive(Debug)]
pub struct Ties;

impl Mirror for Ties {
    type State = Tie;

    fn touches(_record: RecordId, before: Option<&Tie>, after: Option<&Tie>) -> Vec<(&'static str, Uuid)> {
        let cities = |tie: &Tie| Which::ALL.map(|which| (EVALUATE, tie.ends[which].city.0));
        let touched: BTreeSet<_> = before.into_iter().chain(after).flat_map(cities).collect();
        touched.into_iter().collect()
    }
}

/// The subscription.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("strategy-from-partnerships", journal).viewed::<Ties, views::tie::Ties>()
}
