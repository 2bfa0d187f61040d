//! Fair queue: one FIFO per tenant, served round robin, so that a busy tenant delays only itself.

use crate::limits::SOLE_TENANT_BATCHES;
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// Items by tenant. A tenant without items has no FIFO.
pub(crate) struct FairQueue<T> {
    fifos: HashMap<Uuid, VecDeque<T>>,
    /// The tenants with items, each once, in the order in which they are served.
    turns: VecDeque<Uuid>,
    len: usize,
    /// How many batches in a row were taken while only one tenant had items.
    sole_batches: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { fifos: HashMap::new(), turns: VecDeque::new(), len: 0, sole_batches: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Returns how many items wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends an item to the FIFO of its tenant.
    pub fn push(&mut self, tenant: Uuid, item: T) {
        let fifo = self.fifos.entry(tenant).or_default();
        if fifo.is_empty() {
            self.turns.push_back(tenant);
        }
        fifo.push_back(item);
        self.len += 1;
    }

    /// Takes up to `max` items, one per tenant and round, and at most `share` of one tenant. A tenant that has been the only one
    /// for `SOLE_TENANT_BATCHES` batches may fill the whole batch.
    pub fn take_batch(&mut self, max: usize, share: usize) -> Vec<T> {
        self.sole_batches = if self.turns.len() > 1 { 0 } else { self.sole_batches + 1 };
        let share = if self.sole_batches > SOLE_TENANT_BATCHES { max } else { share };
        let mut batch = Vec::with_capacity(max.min(self.len));
        for _ in 0..share {
            for _ in 0..self.turns.len().min(max - batch.len()) {
                let Some(tenant) = self.turns.pop_front() else { break };
                let Some(fifo) = self.fifos.get_mut(&tenant) else { break };
                batch.extend(fifo.pop_front());
                if fifo.is_empty() {
                    self.fifos.remove(&tenant);
                } else {
                    self.turns.push_back(tenant);
                }
            }
        }
        self.len -= batch.len();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue_of(tenants: &[u128]) -> FairQueue<(u128, usize)> {
        let mut queue = FairQueue::default();
        tenants.iter().enumerate().for_each(|(at, tenant)| queue.push(Uuid::from_u128(*tenant), (*tenant, at)));
        queue
    }

    #[test]
    fn tenants_are_served_round_robin() {
        let mut queue = queue_of(&[1, 1, 1, 1, 2, 3, 3]);
        assert_eq!(queue.take_batch(5, 9), [(1, 0), (2, 4), (3, 5), (1, 1), (3, 6)]);
        queue.push(Uuid::from_u128(2), (2, 7));
        assert_eq!((queue.len(), queue.take_batch(9, 9)), (3, vec![(1, 2), (2, 7), (1, 3)]));
        assert!(queue.fifos.is_empty() && queue.turns.is_empty() && queue.take_batch(9, 9).is_empty());
    }

    #[test]
    fn a_sole_tenant_may_exceed_its_share() {
        let mut queue = queue_of(&[1; 2 * SOLE_TENANT_BATCHES + 20]);
        for _ in 0..SOLE_TENANT_BATCHES {
            assert_eq!(queue.take_batch(9, 2).len(), 2);
        }
        assert_eq!(queue.take_batch(9, 2).len(), 9);
        queue.push(Uuid::from_u128(2), (2, 0));
        assert_eq!(queue.take_batch(9, 2).len(), 3, "two of the first tenant, and the newcomer's");
    }

    proptest! {
        /// No item is lost, items of one tenant keep their order, and an item waits for at most one item of each other tenant
        /// per item before it in its own FIFO.
        #[test]
        fn no_tenant_waits_for_the_backlog_of_another(tenants in prop::collection::vec(0_u128..5, 0..200),
            max in 1_usize..40, share in 1_usize..40) {
            let mut queue = queue_of(&tenants);
            let mut out = Vec::new();
            while queue.len() > 0 {
                let batch = queue.take_batch(max, share);
                prop_assert!(!batch.is_empty() && batch.len() <= max);
                out.extend(batch);
            }
            prop_assert_eq!(out.len(), tenants.len());
            for (place, (own, at)) in out.iter().enumerate() {
                let before = tenants[..*at].iter().filter(|other| *other == own).count();
                prop_assert!(place < (before + 1) * 5, "{} of {:?}", place, out);
                prop_assert!(out[..place].iter().filter(|(other, _)| other == own).all(|(_, earlier)| earlier < at));
            }
        }
    }
}
