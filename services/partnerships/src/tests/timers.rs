//! every timer fires exactly once and with the right dates, after any downtime and with several replicas in
//! parallel.

use super::{House, concluded, day, importing, proposal};
use crate::Migrator;
use chrono::{DateTime, Utc};
use hansa_journal::{Clock, Journal, ManualClock, NodeKeys, Store};
use hansa_kernel::{Record, RecordName};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::types::AgreementKind;
use sea_orm::{ConnectionTrait, Statement};
use std::{collections::BTreeMap, sync::Arc};

/// Number of agreements of each sort.
const EACH: usize = 8;

/// The type and payload of a change.
type Did = (String, Vec<u8>);

/// Creates agreements that expire, agreements that renew, and old ties that become dormant and have anniversaries.
async fn populate(house: &House) -> Vec<String> {
    let mut names = Vec::new();
    for n in 0..EACH {
        house.clock.set(day(2024, 1, 10 + n as u32));
        names.push(concluded(house, AgreementKind::Cooperation, "").await);
        names.push(renewing(house).await);
        names.push(super::import(house, vec![importing(&n.to_string(), 3)]).await.swap_remove(0).resource);
    }
    names
}

/// Concludes a memorandum of one year that renews automatically.
async fn renewing(house: &House) -> String {
    let mut asked = proposal(AgreementKind::Memorandum, "");
    let terms = asked.terms.as_mut().unwrap();
    (terms.term_months, terms.renews_automatically) = (12, true);
    super::conclude(house, AgreementKind::Memorandum, asked).await
}

/// Returns each agreement's changes after its first ones, without the time at which they were written.
async fn did(journal: &Journal, names: &[String], first: &[usize]) -> Vec<Vec<Did>> {
    let mut out = Vec::new();
    for (name, first) in names.iter().zip(first) {
        let past = journal.history(RecordName::parse_any(name, "name").unwrap().id, 0, 1_000).await.unwrap();
        let versions: Vec<i32> = past.iter().map(|change| change.envelope.version).collect();
        assert_eq!(versions, (1..=past.len() as i32).collect::<Vec<_>>());
        let later = past.into_iter().skip(*first).map(|change| change.envelope);
        out.push(later.map(|envelope| (envelope.payload_type, envelope.payload)).collect());
    }
    out
}

async fn lengths(journal: &Journal, names: &[String]) -> Vec<usize> {
    did(journal, names, &vec![0; names.len()]).await.iter().map(Vec::len).collect()
}

/// Returns the time of the next timer.
async fn next_due(journal: &Journal) -> Option<DateTime<Utc>> {
    let db = journal.store().reader();
    let sql = Statement::from_string(db.get_database_backend(), "SELECT MIN(due_at) AS due FROM records");
    let due: Option<i64> = db.query_one_raw(sql).await.unwrap().unwrap().try_get("", "due").unwrap();
    due.and_then(DateTime::from_timestamp_micros)
}

/// Fires every timer at its due time, until a day.
async fn attend(house: &House, until: DateTime<Utc>) {
    while let Some(due) = next_due(&house.journal).await.filter(|due| *due <= until) {
        house.clock.set(due.max(house.clock.now()));
        house.fire().await;
    }
}

/// Returns the changes if the service runs all the time.
async fn always_up(until: DateTime<Utc>) -> Vec<Vec<Did>> {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let names = populate(&house).await;
    let first = lengths(&house.journal, &names).await;
    attend(&house, until).await;
    did(&house.journal, &names, &first).await
}

/// Returns the changes if the service is down for a while and three replicas then start in parallel.
async fn down(from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Vec<Did>> {
    let url = std::env::var("DATABASE_URL").expect("these tests need PostgreSQL: run them with `make test`");
    let schema: &'static str = format!("timers_{}", uuid::Uuid::now_v7().simple()).leak();
    let store = async || Store::postgres::<Migrator>(&url, schema).await.unwrap();
    let house = House::on(store().await, day(2024, 1, 10)).await;
    let names = populate(&house).await;
    let first = lengths(&house.journal, &names).await;
    attend(&house, from).await;
    drop(house);
    let clock = ManualClock::at(until);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let node = NodeKeys::from_secret(&[7; 32]);
        replicas
            .push(crate::service().into_journal().open(store().await, node, Arc::new(clock.clone())).await.unwrap());
    }
    let firing = replicas.iter().cloned().map(|replica| async move {
        let mut rounds = 0;
        while replica.fire_due().await.unwrap() > 0 {
            rounds += 1;
            assert!(rounds < 10_000, "the timers must stop firing");
        }
    });
    futures::future::join_all(firing).await;
    let done = did(&replicas[0], &names, &first).await;
    let rebuilt = replicas[1].rebuild(|_| ()).await.unwrap();
    assert!(rebuilt.differing.is_empty() && rebuilt.broken.is_empty(), "{rebuilt:?}");
    for name in &names {
        let name = RecordName::parse_any(name, "name").unwrap();
        let here = replicas[2].load::<Agreement>(&name).await.unwrap().unwrap();
        assert!(here.state.due().is_none_or(|due| due > until), "no timer may be due");
    }
    done
}

fn tally(done: &[Vec<Did>]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for (kind, _) in done.iter().flatten() {
        *tally.entry(kind.rsplit('.').next().unwrap_or_default()).or_default() += 1;
    }
    tally
}

/// Checks that a downtime does not alter the changes, and returns their number.
async fn the_same(from: DateTime<Utc>, until: DateTime<Utc>) -> usize {
    let (up, down) = (always_up(until).await, down(from, until).await);
    println!("down from {} to {}: {:?}", from.date_naive(), until.date_naive(), tally(&down));
    for (up, down) in up.iter().zip(&down) {
        assert_eq!(tally(std::slice::from_ref(up)), tally(std::slice::from_ref(down)));
        assert_eq!(up, down, "the changes must have the same dates and the same order");
    }
    down.iter().map(Vec::len).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_4_ten_days_down() {
    // The terms of one year are renewed on these days.
    assert!(the_same(day(2025, 1, 9), day(2025, 1, 19)).await >= EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_4_ten_years_down() {
    assert!(the_same(day(2024, 1, 20), day(2034, 2, 1)).await > EACH * 10);
}
