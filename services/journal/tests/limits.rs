//! The journal enforces each of its limits, and refusals name the limit (PL-4).
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, enter, name, rename, tenant};
use hansa_journal::limits::{CHANGE_BYTES, COMMAND_RECORDS, PAGE_MAX, PULSE_PERIOD, QUEUED_COMMANDS, STREAM_AGE};
use hansa_kernel::{ReasonClass, limits::RECORD_CHANGES};
use sea_orm::ConnectionTrait;

/// Two pulses in succession may fail.
#[test]
fn a_stream_keeps_more_than_two_pulses() {
    assert!(PULSE_PERIOD * 3 <= STREAM_AGE);
}

#[tokio::test]
async fn a_command_touches_a_bounded_number_of_records() {
    let f = Fixture::sqlite().await;
    let others = |n: usize| (1..=n).map(|i| enter(&format!("c{i}"), "x").into()).collect::<Vec<_>>();
    let most = f.journal.submit_atomically(enter("c0", "x"), others(COMMAND_RECORDS - 1), true).await;
    assert!(most.is_ok());
    let more = f.journal.submit_atomically(enter("c0", "x"), others(COMMAND_RECORDS), true).await.unwrap_err();
    assert_eq!((more.class, more.rule), (ReasonClass::Limit, "PL-4"));
}

#[tokio::test]
async fn a_record_has_a_bounded_number_of_changes() {
    let f = Fixture::sqlite().await;
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let almost = format!("UPDATE records SET version = {}", RECORD_CHANGES - 1);
    f.journal.store().reader().execute_unprepared(&almost).await.unwrap();
    let journal = f.again().await;
    assert_eq!(journal.submit(rename("a", "b"), false).await.unwrap().version, RECORD_CHANGES);
    let full = journal.submit(rename("a", "c"), false).await.unwrap_err();
    assert_eq!((full.class, full.rule), (ReasonClass::Limit, "PL-3"));
}

#[tokio::test]
async fn a_change_fits_through_the_broker() {
    use hansa_proto::register::{CityRenamed, city_change::Change};
    let f = Fixture::sqlite().await;
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let called = |length: usize| {
        let change = Change::from(CityRenamed { display_name: "x".repeat(length), ..Default::default() });
        let author = fixture::author(&fixture::steward());
        let decide = move |_: Option<&hansa_register_domain::City>, _| hansa_kernel::record::emit(change.clone());
        hansa_journal::Command::<hansa_register_domain::City>::new(name("a"), author, decide)
    };
    let large = f.journal.submit(called(CHANGE_BYTES), false).await.unwrap_err();
    assert_eq!((large.class, large.rule), (ReasonClass::Limit, "PL-4"));
    assert_eq!(f.journal.submit(called(CHANGE_BYTES - 2_000), false).await.unwrap().version, 2);
}

#[tokio::test]
async fn a_page_has_a_bounded_number_of_changes() {
    let f = Fixture::sqlite().await;
    let commands = (0..PAGE_MAX + 10).map(|i| enter(&format!("c{i}"), "x")).collect();
    assert!(f.journal.submit_each(commands, false).await.iter().all(Result::is_ok));
    assert_eq!(f.journal.feed(tenant(1), 0, u64::MAX).await.unwrap().len() as u64, PAGE_MAX);
    assert_eq!(f.journal.feed(tenant(1), PAGE_MAX, u64::MAX).await.unwrap().len(), 10);
}

/// On one thread, all commands are submitted before the writer takes the first.
#[tokio::test(flavor = "current_thread")]
async fn waiting_commands_are_bounded_and_the_rest_is_refused_at_once() {
    let f = Fixture::sqlite().await;
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let asked = (0..QUEUED_COMMANDS + 100).map(|_| f.journal.submit(rename("a", "Lugdunum"), true));
    let answers = futures::future::join_all(asked).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 100);
    assert!(refused.iter().all(|refusal| refusal.class == ReasonClass::Limit && !refusal.help.is_empty()));
    assert!(f.journal.load::<hansa_register_domain::City>(&name("a")).await.unwrap().is_some());
}
