//! Work queues under concurrent producers and workers.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Brought, Fixture, enter, name, rename};
use hansa_journal::{Journal, PendingKey, QueueKey, Subscription, Worker, limits::QUEUE_BATCH};
use hansa_kernel::{ReasonClass, RecordId, Refusal};
use hansa_register_domain::reference::CityReference;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use uuid::Uuid;

on_both!(
    who_marks_and_who_takes_off_do_not_wait_for_each_other,
    what_is_marked_is_worked_on_and_taken_off,
    what_fails_or_is_marked_meanwhile_is_worked_on_again,
);

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
    // On SQLite, `clean` removes keys with different mark counts in separate statements.
    while !marker.is_finished() {
        let waiting = taking.dirty("look", 1_000).await.unwrap();
        taking.clean("look", &waiting).await.unwrap();
    }
    marker.await.unwrap();
    let waiting = taking.dirty("look", 1_000).await.unwrap();
    taking.clean("look", &waiting).await.unwrap();
    assert!(taking.dirty("look", 1_000).await.unwrap().is_empty());
}

fn invalidates(city: RecordId, _: Option<&CityReference>, _: Option<&CityReference>) -> Vec<QueueKey> {
    vec![("look", city.0)]
}

/// The number of times that each key was processed.
type Counts = Arc<Mutex<BTreeMap<Uuid, usize>>>;

/// Returns a worker of the queue. The first `fails` attempts at a key fail. If `again` is set, the first attempt
/// marks the key once more.
fn worker(journal: &Journal, counts: &Counts, fails: usize, again: bool) -> Box<dyn Worker> {
    let (marking, counts) = (journal.clone(), counts.clone());
    journal.batched_work_queue("look", move |keys: Vec<PendingKey>| {
        let (marking, counts) = (marking.clone(), counts.clone());
        async move {
            let mut answers = Vec::new();
            for PendingKey { key, .. } in keys {
                let times = {
                    let mut counts = counts.lock().unwrap();
                    *counts.entry(key).and_modify(|times| *times += 1).or_insert(1)
                };
                if again && times == 1 {
                    marking.mark("look", [key]).await.unwrap();
                }
                answers.push(if times > fails {
                    Ok(())
                } else {
                    Err(Refusal::because(ReasonClass::Unavailable, "PL-4", "AWAY", ""))
                });
            }
            answers
        }
    })
}

/// Runs the worker until the queue is empty. Returns the number of processed keys.
async fn work_off(worker: &mut Box<dyn Worker>) -> usize {
    let mut done = 0;
    loop {
        match worker.step().await.unwrap() {
            0 => return done,
            some => done += some,
        }
    }
}

async fn what_is_marked_is_worked_on_and_taken_off(f: Fixture) {
    let owner = Fixture::sqlite().await;
    let subscription = Subscription::new("test", &f.journal).mirror_invalidating::<CityReference>(invalidates);
    let (mut source, counts) = (Brought::of(&owner.journal), Counts::default());
    let mut worker = worker(&f.journal, &counts, 0, false);
    assert_eq!(worker.step().await.unwrap(), 0);
    // More keys than fit into one batch of the worker, from two batches of a subscription. One key is marked twice.
    let cities = QUEUE_BATCH as usize + 50;
    let entering = (0..cities).map(|n| enter(&format!("c{n}"), "One")).collect();
    assert!(owner.journal.submit_each(entering, false).await.iter().all(Result::is_ok));
    while subscription.step(&mut source).await.unwrap() > 0 {}
    owner.journal.submit(rename("c0", "Two"), false).await.unwrap();
    while subscription.step(&mut source).await.unwrap() > 0 {}
    assert_eq!(work_off(&mut worker).await, cities);
    assert!(f.journal.dirty("look", 1_000).await.unwrap().is_empty());
    assert!(counts.lock().unwrap().values().all(|times| *times == 1), "a key marked twice is processed once");
    owner.journal.submit(rename("c0", "Three"), false).await.unwrap();
    while subscription.step(&mut source).await.unwrap() > 0 {}
    assert_eq!(work_off(&mut worker).await, 1);
    assert_eq!(counts.lock().unwrap()[&name("c0").id.0], 2);
    assert!(f.journal.dirty("look", 1_000).await.unwrap().is_empty());
}

/// The worker's result may be older than that of the other replica, so the key must be processed again.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_worked_off_meanwhile_is_worked_on_again() {
    let f = Fixture::postgres().await;
    let (other, times) = (f.again().await, Arc::new(AtomicUsize::new(0)));
    let counted = times.clone();
    let mut worker = f.journal.work_queue("look", move |key| {
        let (other, first) = (other.clone(), counted.fetch_add(1, Ordering::Relaxed) == 0);
        async move {
            if first {
                other.mark("look", [key]).await?;
                other.clean("look", &other.dirty("look", 10).await?).await?;
                assert!(other.dirty("look", 10).await?.is_empty());
            }
            Ok(())
        }
    });
    f.journal.mark("look", [Uuid::from_u128(1)]).await.unwrap();
    assert_eq!(work_off(&mut worker).await, 2);
    assert_eq!(times.load(Ordering::Relaxed), 2);
    assert!(f.journal.dirty("look", 10).await.unwrap().is_empty());
}

async fn what_fails_or_is_marked_meanwhile_is_worked_on_again(f: Fixture) {
    for (fails, again, times) in [(2, false, 3), (0, true, 2)] {
        let counts = Counts::default();
        let mut worker = worker(&f.journal, &counts, fails, again);
        f.journal.mark("look", (0..3).map(Uuid::from_u128)).await.unwrap();
        while !f.journal.dirty("look", 1_000).await.unwrap().is_empty() {
            work_off(&mut worker).await;
        }
        let counts = counts.lock().unwrap();
        assert!(counts.len() == 3 && counts.values().all(|counted| *counted == times), "{counts:?}");
    }
}
