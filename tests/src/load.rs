//! Load from callers that retry until each call is acknowledged, and a ledger of the acknowledgements. Every
//! acknowledged command must have taken effect exactly once.

use crate::{Caller, Dice, Platform, SOON, cities, eventually, refusals::row_status, request_id, text, today};
use hansa_kernel::{RecordId, Role, envelope};
use hansa_proto::{
    changes::ListChangesRequest,
    partnerships::{Activity, ActivityKind, CreateActivityRequest, ListActivitiesRequest, Sector},
    register::{
        BatchImportCitiesRequest, CityRenamed, CityRow, CityTier, RegimeClass, RenameCityRequest, SourceRegister,
    },
    strategy::GetEvaluationRequest,
    types::{Change, DateRange, RowOutcome, SignedChange},
};
use sea_orm::{ConnectionTrait, Statement};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Maximum time for which a caller retries one call before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Number of cities. At any time one of them is busy: the callers rename it more often than the others.
const MANY: usize = 40;
/// Number of acknowledgements after which another city becomes the busy one.
const BUSY: usize = 2_000;
/// Number of imports of new cities. Later imports repeat these, so that a long test ends with a bounded number of
/// records.
const IMPORTS: usize = 1_000;
/// Number of cities per import.
const ROWS: usize = 10;

/// The acknowledged commands.
#[derive(Debug, Default)]
pub struct Ledger {
    /// City and new name of each rename.
    renames: Vec<(String, String)>,
    /// Titles of the agreement's activities.
    activities: Vec<String>,
    /// Source keys of imported cities.
    imports: Vec<String>,
    /// Number of retries.
    again: u64,
}

#[derive(Debug, Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn note(&self, what: impl FnOnce(&mut Ledger)) {
        what(&mut self.ledger.lock().unwrap());
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// The test data and the running callers: two cities with an agreement in force, and many other cities.
pub struct Load {
    cities: [cities::City; 2],
    many: Vec<String>,
    agreement: String,
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").field("agreement", &self.agreement).finish_non_exhaustive()
    }
}

/// Returns whether a caller retries after this failure: a server was unavailable, or another command won a conflict.
fn passes(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted | Code::Cancelled => true,
        // The client library reports a broken connection. A status of the program would carry an ErrorInfo.
        Code::Unknown | Code::Internal => status.get_details_error_info().is_none(),
        _ => false,
    }
}

/// Retries a call until it is acknowledged.
async fn insist<T, F>(shared: Arc<Shared>, what: &'static str, call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Status>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(status) if passes(&status) => {
                assert!(Instant::now() < deadline, "{what}: not acknowledged; last status {status:?}");
                shared.ledger.lock().unwrap().again += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(status) => panic!("{what}: {status:?}"),
        }
    }
}

impl Load {
    /// Creates the records. The callers start with [`Self::begin`].
    pub async fn on(platform: &Platform) -> Self {
        let keys: Vec<String> = (1..=MANY).map(|n| n.to_string()).collect();
        let entered: Vec<(&str, &str, &str)> = keys
            .iter()
            .enumerate()
            .map(|(n, key)| (key.as_str(), "A city", if n == 1 { "FR" } else { "DE" }))
            .collect();
        let regimes = [("DE", RegimeClass::LiberalDemocracy), ("FR", RegimeClass::LiberalDemocracy)];
        cities::enter(platform, &entered, &regimes).await;
        let sides = [cities::join(platform, "1").await, cities::join(platform, "2").await];
        // The partnerships service must know that both cities have joined. Otherwise the partner could not answer.
        mirrored(platform, "register", "cities", "partnerships").await;
        let agreement = cities::propose(&sides[0], &sides[1]).await.name;
        cities::prepare(&sides[0], &sides[1], &agreement).await;
        for side in &sides {
            side.mayor.agreements().sign_agreement(cities::signature(&agreement)).await.unwrap();
        }
        // The steward cannot rename a city that has joined.
        let many = keys.iter().skip(2).map(|key| cities::name(key)).collect();
        Self { cities: sides, many, agreement, shared: Arc::default(), callers: JoinSet::new() }
    }

    /// Starts the callers: three rename cities, one records activities, one imports cities.
    pub fn begin(&mut self, platform: &Platform, dice: &mut Dice) {
        self.shared.stop.store(false, Ordering::Relaxed);
        let steward = platform.steward();
        for _ in 0..3 {
            let (shared, many) = (self.shared.clone(), self.many.clone());
            self.callers.spawn(rename(shared, steward.clone(), many, dice.fork()));
        }
        let office = platform.caller(Some(&self.cities[0].tenant), &[Role::IrOfficer]);
        let agreement = self.agreement.clone();
        self.callers.spawn(record(self.shared.clone(), office, agreement));
        self.callers.spawn(import(self.shared.clone(), steward));
    }

    /// Returns the number of acknowledgements so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for this many more acknowledgements.
    pub async fn more(&mut self, acknowledged: u64) {
        let wanted = self.acknowledged() + acknowledged;
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged() < wanted {
            if let Some(ended) = self.callers.try_join_next() {
                ended.expect("a caller does not panic");
            }
            assert!(Instant::now() < deadline, "the callers receive no acknowledgements");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the callers after their current calls.
    pub async fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("a caller does not panic");
        }
    }

    /// Describes the acknowledged commands.
    #[must_use]
    pub fn account(&self) -> String {
        let ledger = self.shared.ledger.lock().unwrap();
        format!(
            "{} renames, {} activities, {} imported cities acknowledged; {} retries",
            ledger.renames.len(),
            ledger.activities.len(),
            ledger.imports.len(),
            ledger.again
        )
    }

    /// Checks that every acknowledged command took effect once, that histories verify, and that the other services have
    /// applied every change.
    pub async fn check(&self, platform: &Platform) {
        let ledger = std::mem::take(&mut *self.shared.ledger.lock().unwrap());
        let steward = platform.steward();
        let mut renames: BTreeMap<(String, String), u32> = BTreeMap::new();
        for city in &self.many {
            for change in history(&steward, "register", city, platform).await {
                if change.payload_type.ends_with("CityRenamed") {
                    let renamed: CityRenamed =
                        prost::Message::decode(change.payload.as_ref().unwrap().value.as_slice()).unwrap();
                    *renames.entry((city.clone(), renamed.display_name)).or_default() += 1;
                }
            }
        }
        for rename in &ledger.renames {
            assert_eq!(renames.get(rename), Some(&1), "{rename:?} was acknowledged and must be in the history once");
        }
        assert_eq!(renames.len(), ledger.renames.len(), "the histories contain a rename that was not acknowledged");
        let cities = pairs(platform, "register", "SELECT record, version FROM records").await;
        for key in &ledger.imports {
            let id = RecordId::from_source("geonames", key).0;
            assert_eq!(cities.get(&id), Some(&1), "{key} must be imported once");
        }
        let office = platform.caller(Some(&self.cities[0].tenant), &[Role::IrOfficer]);
        let past = history(&office, "partnerships", &self.agreement, platform).await;
        let recorded = past.iter().filter(|change| change.payload_type.ends_with("ActivityCreated")).count();
        assert_eq!(recorded, ledger.activities.len(), "each activity must be recorded once");
        let mut titles = activities(&office, &self.agreement).await;
        let mut expected = ledger.activities.clone();
        titles.sort();
        expected.sort();
        assert_eq!(titles, expected);
        let kept = count(platform, "register", "SELECT COUNT(*) AS n FROM requests WHERE version > 1").await;
        assert!(kept as usize >= ledger.renames.len(), "{kept} idempotency keys for {} renames", ledger.renames.len());
        self.converge(platform).await;
        for side in &self.cities {
            let observer = platform.caller(Some(&side.tenant), &[Role::Observer]);
            let request = GetEvaluationRequest { city: side.city.clone(), ..Default::default() };
            let evaluation = observer.evaluations().get_evaluation(request).await.unwrap().into_inner();
            assert!(!evaluation.findings.is_empty(), "the evaluation has no findings");
        }
        *self.shared.ledger.lock().unwrap() = ledger;
    }

    /// Waits until every mirror has its record's version and every work queue is empty. Nothing may be in quarantine.
    pub async fn converge(&self, platform: &Platform) {
        for (owner, collection, readers) in [
            ("register", "cities", &["partnerships", "networks", "strategy"][..]),
            ("register", "countries", &["partnerships", "networks", "strategy"][..]),
            ("partnerships", "agreements", &["strategy"][..]),
        ] {
            for reader in readers {
                mirrored(platform, owner, collection, reader).await;
            }
        }
        for service in ["partnerships", "networks", "strategy"] {
            eventually("the work queues are empty", async || {
                (count(platform, service, "SELECT COUNT(*) AS n FROM dirty").await == 0).then_some(())
            })
            .await;
            assert_eq!(count(platform, service, "SELECT COUNT(*) AS n FROM quarantine").await, 0, "quarantine");
        }
    }

    /// Runs `hansa rebuild` and `hansa doctor` on the stopped platform. Both must succeed.
    pub fn examine(&self, platform: &Platform) {
        for command in ["rebuild", "doctor"] {
            let output = platform.hansa(&[command]).output().expect("the program runs");
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "hansa {command}: {}", String::from_utf8_lossy(&said));
        }
    }
}

async fn rename(shared: Arc<Shared>, steward: Caller, many: Vec<String>, mut dice: Dice) {
    while !shared.stop.load(Ordering::Relaxed) {
        // Half of the calls rename the busy city, so that callers conflict. The busy city changes before its history
        // is full.
        let busy = shared.acknowledged.load(Ordering::Relaxed) as usize / BUSY % many.len();
        let city = if dice.below(2) == 0 { many[busy].clone() } else { dice.pick(&many).clone() };
        let display_name = format!("City {}", request_id());
        let request = RenameCityRequest {
            name: city.clone(),
            display_name: display_name.clone(),
            correction: true,
            request_id: request_id(),
            ..Default::default()
        };
        let call = || {
            let (mut cities, request) = (steward.cities(), request.clone());
            async move { cities.rename_city(request).await }
        };
        insist(shared.clone(), "a rename", call).await;
        shared.note(|ledger| ledger.renames.push((city, display_name)));
    }
}

/// Maximum number of recorded activities. The limit per agreement is 1,000, regardless of the test's duration.
const ACTIVITIES: usize = 300;

async fn record(shared: Arc<Shared>, office: Caller, agreement: String) {
    let mut recorded = 0;
    while recorded < ACTIVITIES && !shared.stop.load(Ordering::Relaxed) {
        recorded += 1;
        let title = format!("Visit {}", request_id());
        let activity = Activity {
            kind: ActivityKind::InstitutionalVisit as i32,
            title: text(&title),
            dates: Some(DateRange { first_date: Some(today()), last_date: None }),
            sectors: vec![Sector::Climate as i32],
            ..Default::default()
        };
        let request = CreateActivityRequest {
            parent: agreement.clone(),
            activity: Some(activity),
            request_id: request_id(),
            ..Default::default()
        };
        let call = || {
            let (mut partnerships, request) = (office.partnerships(), request.clone());
            async move { partnerships.create_activity(request).await }
        };
        insist(shared.clone(), "an activity", call).await;
        shared.note(|ledger| ledger.activities.push(title));
    }
}

async fn import(shared: Arc<Shared>, steward: Caller) {
    let mut imported: Vec<Vec<String>> = Vec::new();
    let mut repeated = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let new = imported.len() < IMPORTS;
        let keys = if new {
            (0..ROWS).map(|_| request_id().replace('-', "")).collect()
        } else {
            repeated += 1;
            imported[repeated % IMPORTS].clone()
        };
        let rows = keys.iter().map(|key| CityRow {
            source_register: SourceRegister::Geonames as i32,
            source_key: key.clone(),
            display_name: "An imported city".into(),
            country_code: "DE".into(),
            tier: CityTier::Municipality as i32,
            ..Default::default()
        });
        let request = BatchImportCitiesRequest {
            rows: rows.collect(),
            source: "a test".into(),
            request_id: request_id(),
            ..Default::default()
        };
        let call = || {
            let (mut cities, request) = (steward.cities(), request.clone());
            async move {
                let answer = cities.batch_import_cities(request).await?.into_inner();
                let done = |outcome| matches!(outcome, RowOutcome::Created | RowOutcome::Unchanged);
                match answer.rows.iter().find(|row| !done(row.outcome())) {
                    None => Ok(()),
                    // A single row may fail although the call succeeds.
                    Some(row) => Err(row_status(row)),
                }
            }
        };
        insist(shared.clone(), "an import", call).await;
        shared.note(|ledger| ledger.imports.extend(keys.iter().filter(|_| new).cloned()));
        if new {
            imported.push(keys);
        }
    }
}

/// Returns the whole history of a record. Checks its chain and signatures.
async fn history(caller: &Caller, service: &str, record: &str, platform: &Platform) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListChangesRequest { parent: record.into(), page_size: 1_000, page_token };
        let page = caller.changes(service).list_changes(request).await.unwrap().into_inner();
        changes.extend(page.changes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let signed: Vec<SignedChange> = changes.iter().map(|change| change.signed_change.clone().unwrap()).collect();
    let (holder, key) = platform.key();
    let held = envelope::verify_chain(&signed, |name| (name == holder).then_some(key));
    assert_eq!(held.unwrap_or_else(|broken| panic!("{record}: {broken}")).len(), changes.len());
    changes
}

async fn activities(caller: &Caller, agreement: &str) -> Vec<String> {
    let mut titles = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListActivitiesRequest { parent: agreement.into(), page_size: 1_000, page_token };
        let page = caller.partnerships().list_activities(request).await.unwrap().into_inner();
        titles.extend(page.activities.into_iter().map(|activity| activity.title[0].text.clone()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return titles;
        }
    }
}

/// Waits until a service mirrors the current version of every record of a collection.
async fn mirrored(platform: &Platform, owner: &'static str, collection: &str, reader: &'static str) {
    let records = format!("SELECT record, version FROM records WHERE name LIKE '{collection}/%'");
    let records = pairs(platform, owner, &records).await;
    assert!(!records.is_empty());
    let mirrors = format!("SELECT record, version FROM mirrors WHERE collection = '{collection}'");
    let (mut heard, mut deadline) = (BTreeMap::new(), Instant::now() + SOON);
    while heard != records {
        let now = pairs(platform, reader, &mirrors).await;
        // The deadline restarts with every progress.
        if now != heard {
            (heard, deadline) = (now, Instant::now() + SOON);
            continue;
        }
        let (most, all) = (heard.len(), records.len());
        assert!(Instant::now() < deadline, "{reader} mirrors {most} of {all} {collection} and makes no progress");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pairs(platform: &Platform, service: &'static str, sql: &str) -> BTreeMap<uuid::Uuid, i64> {
    let db = platform.database(service).await;
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    let pairs = rows.iter().map(|row| (row.try_get("", "record").unwrap(), row.try_get("", "version").unwrap()));
    let pairs = pairs.collect();
    db.close().await.unwrap();
    pairs
}

/// Returns a number that a query selects from a service's database, in the column `n`.
pub async fn count(platform: &Platform, service: &'static str, sql: &str) -> i64 {
    let db = platform.database(service).await;
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
    let count = row.try_get("", "n").unwrap();
    db.close().await.unwrap();
    count
}
