//! Queues under hands that work at the same time.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::Fixture;
use uuid::Uuid;

on_both!(who_marks_and_who_takes_off_do_not_wait_for_each_other);

const KEYS: u128 = 300;
const ROUNDS: usize = 60;

async fn who_marks_and_who_takes_off_do_not_wait_for_each_other(f: Fixture) {
    let keys: Vec<Uuid> = (0..KEYS).map(Uuid::from_u128).collect();
    let (marking, taking) = (f.journal.clone(), f.journal.clone());
    let marker = tokio::spawn(async move {
        for _ in 0..ROUNDS {
            marking.mark("look", keys.iter().step_by(2).copied()).await.unwrap();
            marking.mark("look", keys.iter().copied()).await.unwrap();
        }
    });
    // Those that were marked unequally often are taken off one part after the other.
    while !marker.is_finished() {
        let waiting = taking.dirty("look", 1_000).await.unwrap();
        taking.clean("look", &waiting).await.unwrap();
    }
    marker.await.unwrap();
    let waiting = taking.dirty("look", 1_000).await.unwrap();
    taking.clean("look", &waiting).await.unwrap();
    assert!(taking.dirty("look", 1_000).await.unwrap().is_empty());
}
