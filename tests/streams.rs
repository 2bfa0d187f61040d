//! Feeds and lists (PL-1, PL-3): a feed resumed after a crash, a reader that becomes a party, and paging during writes.
//! Each test runs in one process on files, and on PostgreSQL and NATS.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_kernel::Role;
use hansa_proto::{
    changes::{FeedEntry, ListChangesRequest, ListFeedEntriesRequest, WatchFeedRequest},
    partnerships::{
        Activity, ActivityKind, ClaimAgreementRequest, CreateActivityRequest, ListActivitiesRequest,
        ListAgreementsRequest, ReviseTermsRequest,
    },
    register::{ListCitiesRequest, ListTenantsRequest, RenameCityRequest},
    strategy::{CreateStrategyRequest, ListStrategiesRequest, Strategy},
    types::DateRange,
};
use hansa_tests::{
    Caller, Platform, SOON, Shape,
    cities::{self, City},
    eventually, request_id, text, today,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio::task::JoinSet;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

macro_rules! in_both_shapes {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test(super::Platform::start(super::HANSA, super::Shape::Embedded).await).await;
            })*
        }
        mod postgres_and_nats {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test(super::Platform::start(super::HANSA, super::Shape::OneProcess).await).await;
            })*
        }
    };
}

in_both_shapes!(
    pl1_a_feed_is_resumed_across_a_crash_without_gap_or_double,
    pl1_a_feed_has_everything_that_many_write_at_once,
    pl1_who_becomes_a_party_sees_the_past,
    pages_go_on_where_they_were_while_others_write,
);

/// The state of a feed reader: its position, and the versions of each record in the order of arrival.
#[derive(Default)]
struct Observed {
    position: i64,
    versions: BTreeMap<String, Vec<i32>>,
}

impl Observed {
    fn take(&mut self, feed: FeedEntry) {
        assert!(feed.position > self.position, "positions must increase: {} after {}", feed.position, self.position);
        self.position = feed.position;
        let change = feed.change.unwrap();
        self.versions.entry(change.record).or_default().push(change.version);
    }

    fn count(&self, record: &str) -> usize {
        self.versions.get(record).map_or(0, Vec::len)
    }

    /// Checks that each version came once, in order, without a gap.
    fn whole(&self, record: &str, last: i32) {
        let expected: Vec<i32> = (1..=last).collect();
        assert_eq!(self.versions.get(record), Some(&expected), "{record}");
    }
}

/// Reads the stream from the current position until the condition holds.
async fn watch(caller: &Caller, service: &str, seen: &mut Observed, holds: impl Fn(&Observed) -> bool) {
    let request = WatchFeedRequest { name: format!("feeds/{service}"), after_position: seen.position };
    let mut stream = caller.changes(service).watch_feed(request).await.unwrap().into_inner();
    let reading = async {
        while !holds(seen) {
            match stream.message().await.unwrap() {
                Some(next) => {
                    // A heartbeat has no entry.
                    next.entry.into_iter().for_each(|entry| seen.take(entry));
                }
                None => panic!("the stream ended"),
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("the awaited changes arrive");
}

/// Reads page by page from the current position until the condition holds.
async fn list(caller: &Caller, service: &str, seen: &mut Observed, holds: impl Fn(&Observed) -> bool) {
    let deadline = std::time::Instant::now() + SOON;
    while !holds(seen) {
        assert!(std::time::Instant::now() < deadline, "the awaited changes did not arrive");
        let parent = format!("feeds/{service}");
        let request =
            ListFeedEntriesRequest { parent, after_position: seen.position, page_size: 7, ..Default::default() };
        let page = caller.changes(service).list_feed_entries(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 7);
        page.entries.into_iter().for_each(|entry| seen.take(entry));
        tokio::task::yield_now().await;
    }
}

fn rename(city: &str, name: String) -> RenameCityRequest {
    RenameCityRequest {
        name: city.into(),
        display_name: name,
        correction: true,
        request_id: request_id(),
        ..Default::default()
    }
}

async fn version(caller: &Caller, record: &str, service: &str) -> i32 {
    let request = ListChangesRequest { parent: record.into(), page_size: 1_000, ..Default::default() };
    let changes = caller.changes(service).list_changes(request).await.unwrap().into_inner().changes;
    changes.last().unwrap().version
}

async fn two_cities(platform: &Platform) -> [City; 2] {
    cities::enter(platform, &[("1", "Dresden", "DE"), ("2", "Tunis", "TN")], &[]).await;
    [cities::join(platform, "1").await, cities::join(platform, "2").await]
}

async fn pl1_a_feed_is_resumed_across_a_crash_without_gap_or_double(mut platform: Platform) {
    let [a, _] = two_cities(&platform).await;
    let mut seen = Observed::default();
    // A caller writes without pause until the program crashes.
    let (writer, city) = (a.mayor.clone(), a.city.clone());
    let writing = tokio::spawn(async move {
        let mut done = 0;
        while writer.cities().rename_city(rename(&city, format!("Dresden {done}"))).await.is_ok() {
            done += 1;
        }
        done
    });
    watch(&a.mayor, "register", &mut seen, |seen| seen.count(&a.city) >= 20).await;
    platform.crash_and_restart().await;
    let acknowledged = writing.await.unwrap();
    assert!(acknowledged >= 18, "{acknowledged}");

    let mayor = platform.caller(Some(&a.tenant), &[Role::Mayor]);
    let last = version(&mayor, &a.city, "register").await;
    // The import, the join and the renames. The last rename may have taken effect without an acknowledgement.
    assert!((acknowledged + 2..=acknowledged + 3).contains(&last), "PL-4: {acknowledged} renames, version {last}");
    for n in 0..5 {
        mayor.cities().rename_city(rename(&a.city, format!("Elbflorenz {n}"))).await.unwrap();
    }
    let last = usize::try_from(last + 5).unwrap();
    watch(&mayor, "register", &mut seen, |seen| seen.count(&a.city) >= last).await;
    seen.whole(&a.city, last as i32);
    let mut again = Observed::default();
    list(&mayor, "register", &mut again, |seen| seen.count(&a.city) >= last).await;
    assert_eq!(again.versions, seen.versions, "pages and stream contain the same changes");
    platform.stop();
}

async fn pl1_a_feed_has_everything_that_many_write_at_once(mut platform: Platform) {
    const RECORDS: usize = 8;
    const RENAMES: i32 = 12;
    let keys: Vec<String> = (1..=RECORDS).map(|n| n.to_string()).collect();
    let rows: Vec<(&str, &str, &str)> = keys.iter().map(|key| (key.as_str(), "Springfield", "US")).collect();
    cities::enter(&platform, &rows, &[]).await;
    let (steward, mut writers) = (platform.steward(), JoinSet::new());
    for key in &keys {
        let (steward, city) = (steward.clone(), cities::name(key));
        writers.spawn(async move {
            for n in 0..RENAMES {
                steward.cities().rename_city(rename(&city, format!("Springfield {n}"))).await.unwrap();
            }
        });
    }
    let names: Vec<String> = keys.iter().map(|key| cities::name(key)).collect();
    let all = |seen: &Observed| names.iter().all(|name| seen.count(name) > usize::try_from(RENAMES).unwrap());
    let (mut pages, mut stream) = (Observed::default(), Observed::default());
    tokio::join!(list(&steward, "register", &mut pages, all), watch(&steward, "register", &mut stream, all));
    writers.join_all().await;
    for name in &names {
        pages.whole(name, RENAMES + 1);
        stream.whole(name, RENAMES + 1);
    }
    platform.stop();
}

async fn pl1_who_becomes_a_party_sees_the_past(mut platform: Platform) {
    let [a, b] = two_cities(&platform).await;
    cities::enter(&platform, &[("3", "Lyon", "FR")], &[]).await;
    // Lyon has not joined when it gets the proposal.
    let lyon = cities::name("3");
    let proposed = cities::propose_to(&a, &lyon).await;
    let name = proposed.name.clone();
    for months in [24, 36] {
        let mut terms = proposed.terms.clone().unwrap();
        terms.term_months = months;
        let request = ReviseTermsRequest {
            name: name.clone(),
            terms: Some(terms),
            request_id: request_id(),
            ..Default::default()
        };
        a.office.agreements().revise_terms(request).await.unwrap();
    }
    let lyon = cities::join(&platform, "3").await;
    let claim = ClaimAgreementRequest { name: name.clone(), request_id: request_id(), ..Default::default() };
    // Lyon reads its feed from a time before it is a party.
    let (follower, record) = (lyon.observer.clone(), name.clone());
    let following = tokio::spawn(async move {
        let mut seen = Observed::default();
        watch(&follower, "partnerships", &mut seen, |seen| seen.count(&record) >= 5).await;
        seen
    });
    eventually("the partnerships service knows that Lyon has joined", async || {
        lyon.mayor.attestations().claim_agreement(claim.clone()).await.ok()
    })
    .await;
    let request = hansa_proto::partnerships::OpenDialogueRequest {
        name: name.clone(),
        request_id: request_id(),
        ..Default::default()
    };
    lyon.office.agreements().open_dialogue(request).await.unwrap();
    following.await.unwrap().whole(&name, 5);
    let mut pages = Observed::default();
    list(&lyon.observer, "partnerships", &mut pages, |seen| seen.count(&name) >= 5).await;
    pages.whole(&name, 5);
    assert_eq!(version(&lyon.observer, &name, "partnerships").await, 5);
    // The initiator sees each change once, and Tunis sees none.
    let mut own = Observed::default();
    list(&a.observer, "partnerships", &mut own, |seen| seen.count(&name) >= 5).await;
    own.whole(&name, 5);
    let request =
        ListFeedEntriesRequest { parent: "feeds/partnerships".into(), page_size: 1_000, ..Default::default() };
    let strange = b.observer.changes("partnerships").list_feed_entries(request).await.unwrap().into_inner();
    assert!(strange.entries.iter().all(|feed| feed.change.as_ref().unwrap().record != name));
    platform.stop();
}

/// Reads a list page by page, and inserts a record after each of the first pages. The pages contain each earlier
/// record, and no record twice.
async fn pages(what: &str, page: impl AsyncFn(i32, String) -> (Vec<String>, String), insert: impl AsyncFn(usize)) {
    let (before, rest) = page(1_000, String::new()).await;
    assert!(before.len() >= 6 && rest.is_empty(), "{what}: {}", before.len());
    let (mut seen, mut token, mut turns) = (Vec::new(), String::new(), 0);
    loop {
        let (names, next) = page(2, token).await;
        assert!(names.len() <= 2, "{what}");
        seen.extend(names);
        if turns < 3 {
            insert(turns).await;
        }
        turns += 1;
        token = next;
        if token.is_empty() {
            break;
        }
        assert!(turns < 100, "{what}: the pages do not end");
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "{what}: a record comes twice: {seen:?}");
    let skipped: Vec<&String> = before.iter().filter(|name| !distinct.contains(name)).collect();
    assert!(skipped.is_empty(), "{what}: the pages skip {skipped:?} of {before:?}");
    let (after, _) = page(1_000, String::new()).await;
    assert_eq!(after.len(), before.len() + 3, "{what}: the list contains the inserted records");
}

fn named<T>(rows: Vec<T>, name: impl Fn(T) -> String) -> Vec<String> {
    rows.into_iter().map(name).collect()
}

async fn pages_go_on_where_they_were_while_others_write(mut platform: Platform) {
    let [a, b] = two_cities(&platform).await;
    let towns = ["Mitte", "Mitte", "Bonn", "Zwickau", "Aachen", "Ölde", "ÉTAPLES", "mitte"];
    let keys: Vec<String> = (100..100 + towns.len()).map(|n| n.to_string()).collect();
    let rows: Vec<(&str, &str, &str)> = keys.iter().zip(towns).map(|(key, town)| (key.as_str(), town, "DE")).collect();
    cities::enter(&platform, &rows, &[]).await;
    let steward = platform.steward();
    let list_cities = async |page_size, page_token| {
        let request = ListCitiesRequest { page_size, page_token, country_code: "DE".into(), ..Default::default() };
        let page = steward.cities().list_cities(request).await.unwrap().into_inner();
        (named(page.cities, |city| city.name), page.next_page_token)
    };
    pages("cities", list_cities, async |n| {
        let key = format!("20{n}");
        cities::enter(&platform, &[(&key, ["Aa", "Mitte", "Zz"][n], "DE")], &[]).await;
    })
    .await;

    for key in &keys[..4] {
        cities::join(&platform, key).await;
    }
    let list_tenants = async |page_size, page_token| {
        let request = ListTenantsRequest { page_size, page_token, ..Default::default() };
        let page = steward.tenants().list_tenants(request).await.unwrap().into_inner();
        (named(page.tenants, |tenant| tenant.name), page.next_page_token)
    };
    pages("tenants", list_tenants, async |n| drop(cities::join(&platform, &keys[4 + n]).await)).await;

    for key in &keys[..6] {
        cities::propose_to(&a, &cities::name(key)).await;
    }
    let list_agreements = async |page_size, page_token| {
        let request = ListAgreementsRequest { page_size, page_token, ..Default::default() };
        let page = a.observer.agreements().list_agreements(request).await.unwrap().into_inner();
        (named(page.agreements, |agreement| agreement.name), page.next_page_token)
    };
    let propose = async |n: usize| drop(cities::propose_to(&a, &cities::name(&format!("20{n}"))).await);
    pages("agreements", list_agreements, propose).await;

    let draft = async || {
        let strategy = Strategy { city: a.city.clone(), title: text("Open"), ..Default::default() };
        let request =
            CreateStrategyRequest { strategy: Some(strategy), request_id: request_id(), validate_only: false };
        eventually("the strategy service has the mirror of the city", async || {
            a.office.strategies().create_strategy(request.clone()).await.ok()
        })
        .await;
    };
    for _ in 0..7 {
        draft().await;
    }
    let list_strategies = async |page_size, page_token| {
        let request = ListStrategiesRequest { page_size, page_token, ..Default::default() };
        let page = a.observer.strategies().list_strategies(request).await.unwrap().into_inner();
        (named(page.strategies, |strategy| strategy.name), page.next_page_token)
    };
    pages("strategies", list_strategies, async |_| draft().await).await;
    activities_and_changes(&a, &b).await;
    platform.stop();
}

async fn activities_and_changes(a: &City, b: &City) {
    let name = cities::propose(a, b).await.name;
    cities::prepare(a, b, &name).await;
    let record = async || {
        let activity = Activity {
            kind: ActivityKind::TrainingVisit as i32,
            title: text("A visit"),
            dates: Some(DateRange { first_date: Some(today()), last_date: None }),
            ..Default::default()
        };
        let request = CreateActivityRequest {
            parent: name.clone(),
            activity: Some(activity),
            request_id: request_id(),
            ..Default::default()
        };
        a.office.partnerships().create_activity(request).await.unwrap();
    };
    for _ in 0..6 {
        record().await;
    }
    let list_activities = async |page_size, page_token| {
        let request = ListActivitiesRequest { parent: name.clone(), page_size, page_token };
        let page = b.observer.partnerships().list_activities(request).await.unwrap().into_inner();
        (named(page.activities, |activity| activity.name), page.next_page_token)
    };
    pages("activities", list_activities, async |_| record().await).await;
    let list_feed_entries = async |page_size, page_token| {
        let request = ListChangesRequest { parent: name.clone(), page_size, page_token };
        let page = b.observer.changes("partnerships").list_changes(request).await.unwrap().into_inner();
        (named(page.changes, |change| change.name), page.next_page_token)
    };
    pages("changes", list_feed_entries, async |_| record().await).await;
}
