//! The journal's guarantees, on SQLite and on PostgreSQL (PL-3, PL-4).
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, enter, enter_in, name, rename, request, rows, steward, tenant};
use hansa_journal::Command;
use hansa_kernel::{ReasonClass, RecordName, Refusal, envelope};
use hansa_register_domain::{City, Office};
use sea_orm::ConnectionTrait;
use std::collections::BTreeSet;

on_both!(
    pl_4_a_request_sent_twice_has_effect_once,
    pl_4_a_command_can_be_tried_without_effect,
    pl_4_request_ids_are_forgotten_after_their_time,
    pl_4_a_stale_etag_is_refused,
    pl_4_commands_that_belong_together_take_effect_together,
    pl_3_every_change_is_chained_and_signed,
    pl_4_many_writers_lose_nothing,
    pl_4_what_was_acknowledged_is_there_after_a_restart,
    a_snapshot_of_another_revision_is_folded_again,
    a_rebuild_finds_what_differs_and_mends_it,
    what_a_rebuild_mended_is_not_undone_by_who_remembers_it,
    pl_1_a_feed_can_be_followed_without_gaps,
);

async fn pl_4_a_request_sent_twice_has_effect_once(f: Fixture) {
    let journal = &f.journal;
    journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let first = journal.submit(rename("a", "Lugdunum").idempotent(request(1, 1)), false).await.unwrap();
    assert!(!first.replayed);
    journal.submit(rename("a", "Lyon"), false).await.unwrap();
    let again = journal.submit(rename("a", "Lugdunum").idempotent(request(1, 1)), false).await.unwrap();
    assert!(again.replayed, "the receipt says that it is replayed");
    assert_eq!((again.version, &again.etag), (first.version, &first.etag), "a retry receives the first answer");
    assert_eq!(again.state.display_name(), "Lugdunum");
    let now = journal.load::<City>(&name("a")).await.unwrap().unwrap();
    assert_eq!((now.state.display_name(), now.version), ("Lyon", 3));
    let other = journal.submit(rename("a", "Paris").idempotent(request(1, 2)), false).await.unwrap_err();
    assert_eq!(other.class, ReasonClass::RequestIdReused);
    // Idempotency also holds within one batch.
    let same: Vec<_> = (0..20).map(|_| rename("a", "Twice").idempotent(request(2, 1))).collect();
    let answers = journal.submit_each(same, false).await;
    assert_eq!(answers.iter().filter(|a| !a.as_ref().unwrap().replayed).count(), 1);
    assert_eq!(journal.load::<City>(&name("a")).await.unwrap().unwrap().version, 4);
}

async fn pl_4_a_command_can_be_tried_without_effect(f: Fixture) {
    let tried = f.journal.submit(enter("a", "Lyon").idempotent(request(1, 1)), true).await.unwrap();
    assert_eq!((tried.version, tried.state.display_name()), (1, "Lyon"));
    assert!(f.journal.load::<City>(&name("a")).await.unwrap().is_none());
    assert!(rows(&f.journal).await.is_empty());
    let done = f.journal.submit(enter("a", "Lyon").idempotent(request(1, 1)), false).await.unwrap();
    assert!(!done.replayed, "a validate-only command does not use up the idempotency key");
    assert!(f.journal.submit(rename("b", "x"), true).await.is_err(), "validation refuses in the same way");
}

async fn pl_4_request_ids_are_forgotten_after_their_time(f: Fixture) {
    f.journal.submit(enter("a", "Lyon").idempotent(request(1, 1)), false).await.unwrap();
    assert_eq!(f.journal.expire_idempotency_keys().await.unwrap(), 0);
    assert!(f.journal.submit(enter("a", "Lyon").idempotent(request(1, 1)), false).await.unwrap().replayed);
    f.clock.set(fixture::start() + hansa_journal::limits::IDEMPOTENCY_RETENTION + std::time::Duration::from_secs(1));
    assert_eq!(f.journal.expire_idempotency_keys().await.unwrap(), 1);
    assert!(!f.journal.submit(enter("a", "Lyon").idempotent(request(1, 1)), false).await.unwrap().replayed);
}

async fn pl_4_a_stale_etag_is_refused(f: Fixture) {
    let first = f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    f.journal.submit(rename("a", "Lugdunum").if_match(&first.etag), false).await.unwrap();
    let stale = f.journal.submit(rename("a", "Lione").if_match(&first.etag), false).await.unwrap_err();
    assert_eq!((stale.class, stale.rule), (ReasonClass::Stale, "PL-4"));
    assert_eq!(rows(&f.journal).await, ["Lugdunum"]);
}

async fn pl_4_commands_that_belong_together_take_effect_together(f: Fixture) {
    let refused = f.journal.submit_atomically(enter("a", "Lyon"), vec![rename("b", "x").into()], false).await;
    assert_eq!(refused.unwrap_err().class, ReasonClass::NotFound);
    assert!(f.journal.load::<City>(&name("a")).await.unwrap().is_none());
    let both = f.journal.submit_atomically(enter("a", "Lyon"), vec![enter("b", "Nice").into()], false).await.unwrap();
    assert_eq!(both.name, name("a"));
    assert_eq!(rows(&f.journal).await, ["Lyon", "Nice"]);
}

async fn pl_3_every_change_is_chained_and_signed(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    for i in 0..5 {
        f.journal.submit(rename("a", &format!("Lyon {i}")), false).await.unwrap();
    }
    let history = f.journal.history(name("a").id, 0, 100).await.unwrap();
    let signed: Vec<_> = history.iter().map(|change| change.signed.clone()).collect();
    let key = f.node.verifying();
    let read = envelope::verify_chain(&signed, |name| (name == f.node.key_name()).then_some(key)).unwrap();
    assert_eq!(read.len(), 6);
    assert_eq!(read[0].actor.as_ref().unwrap().tenant, steward().tenant.name());
    assert!(read.iter().all(|e| e.record == name("a").as_str() && e.authority == f.node.name()));
}

async fn pl_4_many_writers_lose_nothing(f: Fixture) {
    let other = f.again().await;
    let alone = f.journal.store().backend() == hansa_journal::Backend::Sqlite;
    f.journal.submit(enter("a", "start"), false).await.unwrap();
    let writers = (0..40u128).map(|n| {
        // A SQLite file has one writing process; PostgreSQL has several.
        let journal = if n % 2 == 0 || alone { f.journal.clone() } else { other.clone() };
        tokio::spawn(async move {
            loop {
                let command = rename("a", &format!("name {n}")).idempotent(request(n + 100, 1));
                match journal.submit(command, false).await {
                    Ok(receipt) => return receipt.version,
                    Err(refusal) => assert_eq!(refusal.class, ReasonClass::Stale, "{refusal}"),
                }
            }
        })
    });
    let versions: BTreeSet<u64> = futures::future::join_all(writers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(versions, (2..=41).collect(), "each command has its own version");
    let history = f.journal.history(name("a").id, 0, 100).await.unwrap();
    let last = f.journal.load::<City>(&name("a")).await.unwrap().unwrap();
    assert_eq!((history.len(), last.version), (41, 41));
    assert_eq!(rows(&f.journal).await, [last.state.display_name()]);
}

async fn pl_4_what_was_acknowledged_is_there_after_a_restart(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let before = f.journal.submit(rename("a", "Lugdunum"), false).await.unwrap();
    let journal = f.again().await;
    let after = journal.load::<City>(&name("a")).await.unwrap().unwrap();
    assert_eq!((after.version, &after.etag, &after.state), (before.version, &before.etag, &before.state));
    journal.submit(rename("a", "Lyon").if_match(&before.etag), false).await.unwrap();
}

async fn a_snapshot_of_another_revision_is_folded_again(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    f.journal.submit(rename("a", "Lugdunum"), false).await.unwrap();
    let spoil = "UPDATE records SET revision = 999";
    f.journal.store().reader().execute_unprepared(spoil).await.unwrap();
    let journal = f.again().await;
    assert_eq!(journal.load::<City>(&name("a")).await.unwrap().unwrap().state.display_name(), "Lugdunum");
    assert_eq!(journal.load_each::<City>(&[name("a").id.0]).await.unwrap()[0].state.display_name(), "Lugdunum");
    assert_eq!(journal.submit(rename("a", "Lyon"), false).await.unwrap().version, 3);
}

async fn a_rebuild_finds_what_differs_and_mends_it(f: Fixture) {
    for i in 0..30 {
        f.journal.submit(enter(&format!("c{i}"), &format!("City {i:02}")), false).await.unwrap();
    }
    let good = rows(&f.journal).await;
    let clean = f.journal.rebuild(|_| ()).await.unwrap();
    assert_eq!((clean.records, clean.changes, clean.differing.len(), clean.broken.len()), (30, 30, 0, 0));
    f.journal
        .store()
        .reader()
        .execute_unprepared("UPDATE named SET city = 'spoilt' WHERE city = 'City 07'")
        .await
        .unwrap();
    f.journal.store().reader().execute_unprepared("DELETE FROM named WHERE city = 'City 09'").await.unwrap();
    let spoilt = f.journal.rebuild(|_| ()).await.unwrap();
    assert_eq!(spoilt.differing, ["named"]);
    assert_eq!(rows(&f.journal).await, good);
}

async fn what_a_rebuild_mended_is_not_undone_by_who_remembers_it(f: Fixture) {
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    f.journal.submit(enter_in("BE", "b", "Brussels"), false).await.unwrap();
    let spoil = format!(
        "UPDATE records SET state = (SELECT state FROM records WHERE name = '{}') WHERE name = '{}'",
        name("b"),
        name("a")
    );
    f.journal.store().reader().execute_unprepared(&spoil).await.unwrap();
    let writer = f.again().await;
    writer.submit(rename("a", "Lugdunum"), false).await.unwrap();
    // The writer's cache is in another process than the rebuild. A SQLite file has only one process, but the
    // mechanism that invalidates the cache must work there as well.
    let mender = &f.journal;
    assert_eq!(mender.rebuild(|_| ()).await.unwrap().differing, [name("a").to_string()]);
    for called in ["Lyon", "Lugdunum", "Lyon"] {
        writer.submit(rename("a", called), false).await.unwrap();
        let nothing = mender.rebuild(|_| ()).await.unwrap();
        assert_eq!((nothing.differing, nothing.broken), (Vec::new(), Vec::new()), "after the name {called}");
    }
    let last = writer.load::<City>(&name("a")).await.unwrap().unwrap();
    assert_eq!((last.version, last.state.display_name()), (5, "Lyon"));
}

async fn pl_1_a_feed_can_be_followed_without_gaps(f: Fixture) {
    for i in 0..10 {
        f.journal.submit(enter(&format!("c{i}"), &format!("City {i}")), false).await.unwrap();
    }
    f.journal.number_feed().await.unwrap();
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = f.journal.feed(tenant(99), after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|entry| entry.position > after));
        after = last.position;
        seen.extend(page.into_iter().map(|entry| entry.change.envelope.record));
    }
    let expected: Vec<String> = (0..10).map(|i| name(&format!("c{i}")).to_string()).collect();
    assert_eq!(seen, expected, "each change once, in commit order");
}

/// On one thread, all commands are submitted before the writer takes the first.
#[tokio::test(flavor = "current_thread")]
async fn who_calls_a_record_by_another_name_spoils_nothing_for_others() {
    let f = Fixture::sqlite().await;
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let wrong = RecordName::new("offices", name("a").id);
    let bogus = |name: RecordName| {
        let author = fixture::author(&steward());
        let absent = name.clone();
        Command::new(name, author, move |_: Option<&Office>, _| Err(Refusal::not_found(&absent)))
    };
    for called in ["Lugdunum", "Lyon"] {
        let (renamed, refused, again) = tokio::join!(
            f.journal.submit(rename("a", called), false),
            f.journal.submit(bogus(wrong.clone()), false),
            f.journal.submit(rename("a", "Paris"), false),
        );
        assert_eq!(renamed.unwrap().state.display_name(), called);
        assert!(refused.is_err());
        assert_eq!(again.unwrap().state.display_name(), "Paris");
    }
    // A request whose commands disagree about the record's name is refused, and the writer continues.
    assert!(f.journal.submit_atomically(rename("a", "Lyon"), vec![bogus(wrong).into()], false).await.is_err());
    assert_eq!(f.journal.submit(rename("a", "Lyon"), false).await.unwrap().state.display_name(), "Lyon");
}
