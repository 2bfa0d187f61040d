//! Who is next: those who wait for the writer stand in a line of their tenant's own, and the lines take turns. So one that
//! asks without end waits for itself, and nobody for it.

use crate::limits::BATCHES_ALONE;
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// What waits, by whose it is. A line that is empty is not kept.
pub(crate) struct Lines<T> {
    of: HashMap<Uuid, VecDeque<T>>,
    /// Whose turn it is; each that waits once.
    turns: VecDeque<Uuid>,
    waiting: usize,
    /// How often in a row nobody stood beside the one that was next.
    alone: usize,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), turns: VecDeque::new(), waiting: 0, alone: 0 }
    }
}

impl<T> Lines<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Stands at the end of its line.
    pub fn join(&mut self, whose: Uuid, one: T) {
        let line = self.of.entry(whose).or_default();
        if line.is_empty() {
            self.turns.push_back(whose);
        }
        line.push_back(one);
        self.waiting += 1;
    }

    /// The next ones, one a turn; of each line in its order, and no more than its part, but where it has long been alone.
    pub fn next(&mut self, most: usize, part: usize) -> Vec<T> {
        self.alone = if self.turns.len() > 1 { 0 } else { self.alone + 1 };
        let part = if self.alone > BATCHES_ALONE { most } else { part };
        let mut next = Vec::with_capacity(most.min(self.waiting));
        for _ in 0..part {
            for _ in 0..self.turns.len().min(most - next.len()) {
                let Some(whose) = self.turns.pop_front() else { break };
                let Some(line) = self.of.get_mut(&whose) else { break };
                next.extend(line.pop_front());
                if line.is_empty() {
                    self.of.remove(&whose);
                } else {
                    self.turns.push_back(whose);
                }
            }
        }
        self.waiting -= next.len();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing(whose: &[u128]) -> Lines<(u128, usize)> {
        let mut lines = Lines::default();
        whose.iter().enumerate().for_each(|(at, whose)| lines.join(Uuid::from_u128(*whose), (*whose, at)));
        lines
    }

    #[test]
    fn the_lines_take_turns() {
        let mut lines = standing(&[1, 1, 1, 1, 2, 3, 3]);
        assert_eq!(lines.next(5, 9), [(1, 0), (2, 4), (3, 5), (1, 1), (3, 6)]);
        lines.join(Uuid::from_u128(2), (2, 7));
        assert_eq!((lines.len(), lines.next(9, 9)), (3, vec![(1, 2), (2, 7), (1, 3)]));
        assert!(lines.of.is_empty() && lines.turns.is_empty() && lines.next(9, 9).is_empty());
    }

    #[test]
    fn who_has_long_been_alone_is_not_held_to_its_part() {
        let mut lines = standing(&[1; 2 * BATCHES_ALONE + 20]);
        for _ in 0..BATCHES_ALONE {
            assert_eq!(lines.next(9, 2).len(), 2);
        }
        assert_eq!(lines.next(9, 2).len(), 9);
        lines.join(Uuid::from_u128(2), (2, 0));
        assert_eq!(lines.next(9, 2).len(), 3, "two of the one, and the other");
    }

    proptest! {
        /// Nobody is lost, nobody passes another of the same line, and who waits is passed by at most one of each other line
        /// for each that stands before it in its own.
        #[test]
        fn no_line_waits_for_the_length_of_another(whose in prop::collection::vec(0_u128..5, 0..200), most in 1_usize..40,
            part in 1_usize..40) {
            let mut lines = standing(&whose);
            let mut out = Vec::new();
            while lines.len() > 0 {
                let next = lines.next(most, part);
                prop_assert!(!next.is_empty() && next.len() <= most);
                out.extend(next);
            }
            prop_assert_eq!(out.len(), whose.len());
            for (place, (own, at)) in out.iter().enumerate() {
                let before = whose[..*at].iter().filter(|other| *other == own).count();
                prop_assert!(place < (before + 1) * 5, "{} of {:?}", place, out);
                prop_assert!(out[..place].iter().filter(|(other, _)| other == own).all(|(_, earlier)| earlier < at));
            }
        }
    }
}
