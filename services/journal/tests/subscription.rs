//! The guarantees of a subscription: each change is applied once and in order, gaps are filled, and changes that
//! cannot be applied go into quarantine.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Brought, Fixture, enter, name, rename};
use hansa_journal::{Delivery, JournalError, JournalSource, Mirrors, QueueKey, Source, Subscription};
use hansa_kernel::{FoldError, RecordId, RecordName, Reference, Stamp};
use hansa_proto::{register::city_change::Change, types::ChangeEnvelope};
use hansa_register_domain::reference::CityReference;
use serde::{Deserialize, Serialize};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};
use uuid::Uuid;

/// While this is set, the mirror cannot fold a city called "Bad".
static BROKEN: AtomicBool = AtomicBool::new(true);

/// A mirrored city with the number of folded changes.
#[derive(Clone, Serialize, Deserialize)]
pub struct Counted(CityReference, u64);

impl Reference for Counted {
    const COLLECTION: &'static str = "cities";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, FoldError> {
        let (city, folds) = before.map_or((None, 0), |Self(city, folds)| (Some(city), folds));
        let city = CityReference::fold(city, change, stamp)?;
        if city.name == "Bad" && BROKEN.load(Ordering::Relaxed) {
            return Err(FoldError("bad".into()));
        }
        assert_ne!(city.name, "Terrible", "a fold that panics");
        Ok(Self(city, folds + 1))
    }
}

fn invalidates(record: RecordId, _: Option<&Counted>, after: Option<&Counted>) -> Vec<QueueKey> {
    assert!(after.is_none_or(|Counted(city, _)| city.name != "Untouchable"), "a mirror whose invalidation panics");
    vec![("look", record.0)]
}

/// A broker at its worst: it delivers batches in reverse order and some changes twice.
struct Unruly(JournalSource);

#[async_trait::async_trait]
impl Source for Unruly {
    async fn next(&mut self, after: i64) -> Result<Vec<Delivery>, JournalError> {
        let found = self.0.next(after).await?;
        let mut out: Vec<Delivery> = found.iter().rev().cloned().collect();
        out.extend(found.into_iter().filter(|delivery| delivery.envelope.version % 2 == 1));
        Ok(out)
    }

    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, JournalError> {
        self.0.history(record, after).await
    }

    async fn acknowledge(&mut self) -> Result<(), JournalError> {
        Ok(())
    }
}

async fn everything(subscription: &Subscription, source: &mut impl Source, journal: &Fixture) {
    let last = journal.journal.history(name("last").id, 0, 1).await.unwrap();
    assert!(last.is_empty());
    journal.journal.submit(enter("last", "Last"), false).await.unwrap();
    let mirrors = Mirrors::<Counted>::new(&journal.journal);
    while mirrors.get(name("last").id).await.unwrap().is_none() {
        subscription.step(source).await.unwrap();
    }
}

#[tokio::test]
async fn once_in_order_and_with_gaps_filled() {
    let f = Fixture::sqlite().await;
    for i in 0..10 {
        let key = format!("c{i}");
        f.journal.submit(enter(&key, "x"), false).await.unwrap();
        for n in 0..i {
            f.journal.submit(rename(&key, &format!("name {n}")), false).await.unwrap();
        }
    }
    let subscription = Subscription::new("test", &f.journal).mirror_invalidating::<Counted>(invalidates);
    let mut source = Unruly(JournalSource::new(&f.journal));
    everything(&subscription, &mut source, &f).await;
    let mirrors = Mirrors::<Counted>::new(&f.journal);
    for i in 0..10u64 {
        let mirror = mirrors.get(name(&format!("c{i}")).id).await.unwrap().unwrap();
        let expected = if i == 0 { "x".to_owned() } else { format!("name {}", i - 1) };
        assert_eq!((&mirror.0.name, mirror.1), (&expected, i + 1), "each change is folded once");
    }
    let waiting = f.journal.dirty("look", 100).await.unwrap();
    assert_eq!(waiting.len(), 11, "a queue contains a key once, however often it is marked");
    f.journal.mark("look", [waiting[0].0]).await.unwrap();
    f.journal.clean("look", &waiting).await.unwrap();
    assert_eq!(f.journal.dirty("look", 100).await.unwrap().len(), 1, "a mark made during the work is not lost");
}

#[tokio::test]
async fn what_cannot_be_applied_waits_apart_and_can_be_replayed() {
    let f = Fixture::sqlite().await;
    f.journal.submit(enter("good", "Good"), false).await.unwrap();
    f.journal.submit(enter("bad", "Fine"), false).await.unwrap();
    f.journal.submit(rename("bad", "Bad"), false).await.unwrap();
    f.journal.submit(rename("bad", "Fine again"), false).await.unwrap();
    f.journal.submit(rename("good", "Better"), false).await.unwrap();
    let subscription = Subscription::new("test", &f.journal).mirror_invalidating::<Counted>(invalidates);
    let mut source = JournalSource::new(&f.journal);
    everything(&subscription, &mut source, &f).await;
    let mirrors = Mirrors::<Counted>::new(&f.journal);
    let of = async |key: &str| mirrors.get(name(key).id).await.unwrap().unwrap().0.name.clone();
    assert_eq!((of("good").await.as_str(), of("bad").await.as_str()), ("Better", "Fine"));
    let stuck = subscription.quarantined().await.unwrap();
    assert_eq!((stuck.len(), stuck[0].version, stuck[0].name.as_str()), (1, 2, name("bad").as_str()));
    subscription.replay(&mut source, name("bad").id).await.unwrap();
    assert_eq!(subscription.quarantined().await.unwrap().len(), 1, "a record whose replay fails stays in quarantine");
    BROKEN.store(false, Ordering::Relaxed);
    subscription.replay(&mut source, name("bad").id).await.unwrap();
    assert!(subscription.quarantined().await.unwrap().is_empty());
    assert_eq!(of("bad").await, "Fine again");
}

/// A panic must not end the process, which would otherwise crash again at each start.
#[tokio::test]
async fn what_panics_waits_apart_as_well() {
    let f = Fixture::sqlite().await;
    for (key, called) in [("fold", "Terrible"), ("touch", "Untouchable")] {
        f.journal.submit(enter(key, "Fine"), false).await.unwrap();
        f.journal.submit(rename(key, called), false).await.unwrap();
    }
    let subscription = Subscription::new("test", &f.journal).mirror_invalidating::<Counted>(invalidates);
    let mut source = JournalSource::new(&f.journal);
    everything(&subscription, &mut source, &f).await;
    let stuck: Vec<(Uuid, i64)> =
        subscription.quarantined().await.unwrap().iter().map(|row| (row.record, row.version)).collect();
    let mut expected = vec![(name("fold").id.0, 2), (name("touch").id.0, 2)];
    expected.sort_unstable();
    assert_eq!(stuck, expected);
    for key in ["fold", "touch"] {
        let mirror = Mirrors::<Counted>::new(&f.journal).get(name(key).id).await.unwrap().unwrap();
        assert_eq!((mirror.0.name.as_str(), mirror.1), ("Fine", 1), "the mirror keeps the state before the panic");
    }
}

/// A panic in a view quarantines only the affected record.
#[tokio::test]
async fn what_a_view_panics_at_waits_apart_as_well() {
    let (owner, f) = (Fixture::sqlite().await, Fixture::sqlite().await);
    for key in ["a", "b"] {
        owner.journal.submit(enter(key, "Fine"), false).await.unwrap();
    }
    owner.journal.submit(rename("a", "Unviewable"), false).await.unwrap();
    owner.journal.submit(rename("b", "Finer"), false).await.unwrap();
    let subscription =
        Subscription::new("test", &f.journal).mirror_invalidating::<Counted>(invalidates).view::<anew::Entity>();
    subscription.step(&mut Brought::of(&owner.journal)).await.unwrap();
    assert_eq!(fixture::rows(&f.journal).await, ["Fine", "Finer"]);
    let stuck = subscription.quarantined().await.unwrap();
    assert_eq!((stuck.len(), stuck[0].record, stuck[0].version), (1, name("a").id.0, 2));
}

/// Triggers for the test below. An update of a mirror must raise its version. Each batch on the locked path inserts a
/// row into `locked`.
const WATCHED: &str = "
    CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.version <= OLD.version THEN RAISE EXCEPTION 'from % to %', OLD.version, NEW.version; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER forward BEFORE UPDATE ON mirrors FOR EACH ROW EXECUTE FUNCTION forward();
    CREATE TABLE locked (at bigserial);
    CREATE FUNCTION locked() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO locked DEFAULT VALUES;
        RETURN NEW;
    END $$;
    CREATE TRIGGER locked BEFORE INSERT ON cursors FOR EACH ROW EXECUTE FUNCTION locked();";

async fn number(f: &Fixture, sql: &str) -> i64 {
    use sea_orm::{ConnectionTrait, Statement};
    let db = f.journal.store().reader();
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    row.unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_apply_the_same_changes_at_once_fold_each_of_them_once() {
    use sea_orm::ConnectionTrait;
    const CITIES: u64 = 5;
    const NAMES: u64 = 60;
    let f = Fixture::postgres().await;
    f.journal.store().reader().execute_unprepared(WATCHED).await.unwrap();
    let follow = |journal: hansa_journal::Journal| async move {
        let subscription = Subscription::new("test", &journal).mirror_invalidating::<Counted>(invalidates);
        let (mut source, mirrors) = (Brought::again_and_again(&journal), Mirrors::<Counted>::new(&journal));
        let cities: Vec<Uuid> = (0..CITIES).map(|city| name(&format!("c{city}")).id.0).collect();
        let deadline = Instant::now() + hansa_tests::SOON;
        loop {
            subscription.step(&mut source).await.unwrap();
            let folds: Vec<u64> = mirrors.get_each(&cities).await.unwrap().iter().map(|(_, mirror)| mirror.1).collect();
            if folds == [NAMES + 1; CITIES as usize] {
                return;
            }
            assert!(Instant::now() < deadline, "{folds:?}");
        }
    };
    let write = async {
        for city in 0..CITIES {
            f.journal.submit(enter(&format!("c{city}"), "x"), false).await.unwrap();
        }
        for turn in 0..NAMES {
            let commands = (0..CITIES).map(|city| rename(&format!("c{city}"), &format!("name {turn}"))).collect();
            assert!(f.journal.submit_each(commands, false).await.iter().all(Result::is_ok));
        }
    };
    let (one, other) = (tokio::spawn(follow(f.again().await)), tokio::spawn(follow(f.again().await)));
    write.await;
    one.await.unwrap();
    other.await.unwrap();
    let turns = number(&f, "SELECT position FROM cursors WHERE subscription = 'test/turn'").await;
    let locked = number(&f, "SELECT count(*) FROM locked").await;
    assert!(0 < locked && locked < turns, "{locked} of {turns} batches were locked: cover both paths");
    let folded = number(&f, "SELECT sum(version)::bigint FROM mirrors").await;
    assert_eq!(folded.cast_unsigned(), CITIES * (NAMES + 1));
}

/// A replica's mirror cache is valid until another replica applies a change.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_not_read_again_until_another_had_a_turn() {
    use sea_orm::ConnectionTrait;
    let f = Fixture::postgres().await;
    let other = f.again().await;
    let (one, two) = (
        Subscription::new("test", &f.journal).mirror_invalidating::<Counted>(invalidates),
        Subscription::new("test", &other).mirror_invalidating::<Counted>(invalidates),
    );
    let (mut first, mut second) = (Brought::of(&f.journal), Brought::of(&f.journal));
    let mirrors = Mirrors::<Counted>::new(&f.journal);
    let applied = async |subscription: &Subscription, source: &mut Brought, called: &str| {
        subscription.step(source).await.unwrap();
        let mirror = mirrors.get(name("a").id).await.unwrap().unwrap();
        assert_eq!(mirror.0.name, called);
        mirror.1
    };
    f.journal.submit(enter("a", "One"), false).await.unwrap();
    assert_eq!(applied(&one, &mut first, "One").await, 1);
    // From here on, a replica that reads the mirrors instead of its cache must fold the whole history again.
    f.journal.store().reader().execute_unprepared("UPDATE mirrors SET revision = 0").await.unwrap();
    f.journal.submit(rename("a", "Two"), false).await.unwrap();
    assert_eq!(applied(&one, &mut first, "Two").await, 2);
    assert_eq!(number(&f, "SELECT revision::bigint FROM mirrors").await, 1);
    f.journal.submit(rename("a", "Three"), false).await.unwrap();
    assert_eq!(applied(&two, &mut second, "Three").await, 3, "the other replica reads the database");
    f.journal.submit(rename("a", "Four"), false).await.unwrap();
    assert_eq!(applied(&one, &mut first, "Four").await, 4, "each change is folded once, by either replica");
}

#[tokio::test]
async fn mirrors_of_an_older_shape_are_folded_anew() {
    use sea_orm::ConnectionTrait;
    let f = Fixture::sqlite().await;
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    f.journal.submit(rename("a", "Lugdunum"), false).await.unwrap();
    let subscription = Subscription::new("test", &f.journal).mirror_invalidating::<Counted>(invalidates);
    let mut source = JournalSource::new(&f.journal);
    everything(&subscription, &mut source, &f).await;
    assert!(!subscription.refold(&mut source).await.unwrap(), "no mirror has an older revision");
    f.journal.store().reader().execute_unprepared("UPDATE mirrors SET revision = 0, state = x'00'").await.unwrap();
    let mirrors = Mirrors::<Counted>::new(&f.journal);
    assert!(mirrors.get(name("a").id).await.unwrap().is_none(), "a mirror of another revision is not returned");
    assert!(subscription.refold(&mut source).await.unwrap());
    subscription.step(&mut source).await.unwrap();
    let mirror = mirrors.get(name("a").id).await.unwrap().unwrap();
    assert_eq!((mirror.0.name.as_str(), mirror.1), ("Lugdunum", 2));
}

/// A second view over the fixture's table, whose rows are deleted and inserted again.
mod anew {
    use super::Counted;
    use hansa_journal::{View, view_entity};
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "named")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub record: Uuid,
        pub city: String,
    }

    view_entity!();

    impl View for Entity {
        type State = Counted;
        const ONE_ROW: bool = false;

        fn rows(record: Uuid, Counted(city, _): &Counted) -> Vec<Model> {
            assert_ne!(city.name, "Unviewable", "a view that panics");
            vec![Model { record, city: city.name.clone() }]
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_somebody_emptied_are_made_again_beside_the_rows_that_still_stand() {
    use sea_orm::ConnectionTrait;
    let (owner, f) = (Fixture::sqlite().await, Fixture::postgres().await);
    owner.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let subscription =
        Subscription::new("test", &f.journal).mirror_invalidating::<Counted>(invalidates).view::<anew::Entity>();
    let mut source = Brought::again_and_again(&owner.journal);
    subscription.step(&mut source).await.unwrap();
    assert_eq!(fixture::rows(&f.journal).await, ["Lyon"]);
    owner.journal.submit(rename("a", "Lugdunum"), false).await.unwrap();
    f.journal.store().reader().execute_unprepared("DELETE FROM mirrors").await.unwrap();
    subscription.step(&mut source).await.unwrap();
    assert_eq!(fixture::rows(&f.journal).await, ["Lugdunum"]);
}
