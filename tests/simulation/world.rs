//! The simulated world: a node and its files, those who call it, and a scheduler that decides what comes next.

use crate::{
    acts::{KnownRecords, Mind, Order, SECRET, STRANGER},
    broker::Brokers,
    ledger::{Follower, JournalExtent, Ledger, Named, query},
    life::Life,
};
use chrono::{DateTime, Duration, TimeZone, Utc};
use hansa_journal::{Clock, ManualClock};
use hansa_kernel::{Reason, RecordName, TenantId};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::partnerships::{self as p, AgreementState};
use hansa_tests::Dice;
use sea_orm::ConnectionTrait;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};
use tonic::{Code, Status};

/// Steps of one seed.
const STEPS: usize = 100;
/// How often in a hundred commands and steps the node is cut off in the midst of one.
const CUT_OFF: u64 = 7;
/// Rounds after which everything must have come to rest.
const ROUNDS: usize = 300;

mod beginning;

pub use beginning::Beginning;

/// What happened, step by step.
pub type Log = Arc<Mutex<Vec<String>>>;

pub struct World {
    pub dice: Dice,
    pub folder: tempfile::TempDir,
    pub clock: ManualClock,
    pub known: KnownRecords,
    pub ledger: Ledger,
    brokers: Option<Brokers>,
    life: Option<Life>,
    words: u64,
    faults: bool,
    log: Log,
    focus: Option<String>,
    /// The latest instant that the clock has told.
    latest: DateTime<Utc>,
    /// Counts changes by their kinds.
    pub kinds: Kinds,
}

/// How often each kind of change stands in the histories that were looked at.
pub type Kinds = Arc<Mutex<BTreeMap<String, u64>>>;

/// A folder in memory where there is such a thing: what is simulated is the end of a process and not of a machine, so
/// nothing is gained by waiting for a disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

impl World {
    /// The world of a seed.
    pub fn of(beginning: &Beginning, seed: u64, log: Log, kinds: Kinds) -> Self {
        let mut dice = Dice::of(seed);
        let folder = folder();
        for file in fs::read_dir(beginning.folder.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let clock = ManualClock::at(Utc.with_ymd_and_hms(2026, 1, 12, 9, 0, 1).unwrap());
        // Half of the worlds are embedded, and half have a broker between their services.
        let brokers = (dice.below(2) == 0).then(|| Brokers::new(dice.fork()));
        let life = Some(Life::begin(folder.path(), &clock, brokers.as_ref()));
        Self {
            dice,
            folder,
            clock,
            known: beginning.known.clone(),
            ledger: beginning.ledger.clone(),
            brokers,
            life,
            words: beginning.words,
            faults: true,
            log,
            focus: None,
            latest: DateTime::UNIX_EPOCH,
            kinds,
        }
    }

    pub fn life(&self) -> &Life {
        self.life.as_ref().unwrap()
    }

    pub fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    /// Everything that a seed does.
    pub fn live(&mut self) {
        // Each seed has its own tempo: some have many crashes, some much time, some a backlog.
        let tempo: Vec<u64> = [40, 40, 6, 3, 7, 1, 6, 1].iter().map(|often| often * (1 + self.dice.below(4))).collect();
        for _ in 0..STEPS {
            let mut roll = self.dice.below(tempo.iter().sum());
            let step = tempo.iter().position(|often| {
                let here = roll < *often;
                roll = roll.saturating_sub(*often);
                here
            });
            match step.unwrap_or_default() {
                0 => self.command(),
                1 => {
                    let worker = self.dice.below(self.life().workers.len() as u64) as usize;
                    self.work(worker);
                }
                2 => self.wait(),
                3 => self.crash("between two steps"),
                4 => self.repeat(),
                5 => self.rebuild(),
                6 => self.follow(),
                _ => self.refold(),
            }
        }
        if let Some(brokers) = &self.brokers {
            brokers.behave();
        }
        // A clock that went back comes to where it was.
        self.clock.set(self.latest.max(self.clock.now()));
        self.crash("before the end");
        self.settle();
    }

    /// The process ends without warning, and another begins on what it left.
    fn crash(&mut self, when: &str) {
        self.note(format!("crash {when}"));
        self.ledger.crashes += 1;
        drop(self.life.take());
        self.life = Some(Life::begin(self.folder.path(), &self.clock, self.brokers.as_ref()));
    }

    /// Somebody asks for something.
    pub fn command(&mut self) {
        let agreement = self.focus();
        self.order(|mind| match mind.dice.below(24) {
            0..=4 => mind.of_register(),
            5 | 6 => mind.propose(),
            7 => mind.import(),
            8 => mind.with_country(),
            9 => mind.erase(),
            10..=13 => mind.of_strategy(),
            _ => match &agreement {
                Some(agreement) => mind.on_agreement(agreement),
                None => mind.propose(),
            },
        });
    }

    /// The agreement that people are busy with: mostly the same as before, so that some are carried to their end.
    fn focus(&mut self) -> Option<p::Agreement> {
        let stays = self.dice.below(5) > 0;
        let same = self.focus.take().filter(|_| stays).and_then(|name| self.agreement(&name));
        let over =
            [AgreementState::Declined, AgreementState::Withdrawn, AgreementState::Ended, AgreementState::Superseded];
        let goes_on = same.filter(|same| !over.contains(&same.state()));
        let agreements = self.known.agreements.clone();
        let agreement = goes_on.or_else(|| {
            let name = (!agreements.is_empty()).then(|| self.dice.pick(&agreements).clone())?;
            self.agreement(&name)
        });
        self.focus = agreement.as_ref().map(|agreement| agreement.name.clone());
        agreement
    }

    fn agreement(&self, name: &str) -> Option<p::Agreement> {
        let name = RecordName::parse_any(name, "name").unwrap();
        let loaded = self.life().look(self.life().journal("partnerships").load::<Agreement>(&name)).unwrap()?;
        Some(loaded.state.resource(&loaded.name, &loaded.etag))
    }

    /// Gives an order and judges what came of it. Answers what it named, where it was granted.
    fn order(&mut self, think: impl FnOnce(&mut Mind<'_>) -> Order) -> Option<Named> {
        let tried = self.faults && self.dice.below(24) == 0;
        let mut mind = Mind {
            dice: &mut self.dice,
            known: &self.known,
            now: self.clock.now(),
            words: &mut self.words,
            texts: Vec::new(),
            stale: false,
            tried,
            errs: self.faults,
        };
        let order = think(&mut mind);
        let cut = (self.faults && self.dice.below(100) < CUT_OFF).then(|| 1 + self.dice.below(2));
        let service = order.service();
        let before = JournalExtent::of(self.life(), service);
        let (answer, between) = match self.life().call(&order.call, cut) {
            Some(answer) => (answer, None),
            None => {
                self.note(format!("{order}: committed, and nobody was told"));
                self.crash("in the command");
                let between = JournalExtent::of(self.life(), service);
                (self.life().call(&order.call, None).unwrap(), Some(between))
            }
        };
        let after = JournalExtent::of(self.life(), service);
        match answer {
            Err(status) => {
                self.note(format!("{order}: {}", status.message()));
                assert_eq!(before, after, "a refusal changes nothing");
                self.refused(&order, &status);
                None
            }
            Ok(answer) => {
                self.note(format!("{order}: granted"));
                assert!(!order.stale, "the record has another head");
                assert!(!order.tried || before == after, "what is only tried changes nothing");
                assert!(!order.foreign || before.changes == after.changes, "a stranger changes nothing");
                let follows =
                    self.known.deleted.contains_key(&order.record) && !order.call.path.ends_with("/EraseTexts");
                assert!(!follows, "nothing follows a tombstone but the erasure of its texts");
                if let Some(between) = between.filter(|between| *between != before && !order.many) {
                    assert_eq!(between, after, "what was done is not done twice");
                }
                let changed = after.changes > before.changes;
                Some(self.granted(order, &answer, changed))
            }
        }
    }

    /// Somebody sends again what was granted.
    fn repeat(&mut self) {
        let since = self.clock.now() - Duration::days(29);
        let recent: Vec<usize> = (0..self.ledger.granted.len())
            .filter(|n| self.ledger.granted[*n].at > since && !self.ledger.granted[*n].order.many)
            .collect();
        if recent.is_empty() {
            return;
        }
        let first = self.ledger.granted[*self.dice.pick(&recent)].clone();
        let service = first.order.service();
        let before = JournalExtent::of(self.life(), service);
        let answer = self.life().call(&first.order.call, None).unwrap();
        self.note(format!("again: {}: {:?}", first.order, answer.as_ref().map(|_| ()).map_err(Status::message)));
        if answer.as_ref().is_err_and(|status| status.code() == Code::NotFound) && self.learns_anew(service) {
            assert_eq!(before, JournalExtent::of(self.life(), service), "a refusal changes nothing");
            return;
        }
        let answer = answer.expect("what was granted is granted again");
        assert_eq!(Named::read(first.order.call.path, &answer), first.named, "the first answer");
        assert_eq!(before, JournalExtent::of(self.life(), service), "what is repeated has no effect");
        self.ledger.repeated += 1;
    }

    /// Whether a service has still to hear again of what it kept in an earlier shape: until then it knows no such city.
    fn learns_anew(&self, service: &str) -> bool {
        let old = query(self.life(), service, "SELECT record FROM mirrors WHERE revision = 0");
        !old.is_empty()
    }

    /// One of those that go on beside takes a step.
    fn work(&mut self, worker: usize) {
        let name = self.life().workers[worker].name();
        let timers = name.strip_prefix("timers of ").map(str::to_owned);
        let from = timers.as_ref().map(|service| JournalExtent::of(self.life(), service).changes);
        let cut = (self.faults && self.dice.below(100) < CUT_OFF).then(|| 1 + self.dice.below(3));
        match self.life.as_mut().unwrap().step(worker, cut) {
            None => {
                self.note(format!("{name}: cut off"));
                self.crash("in the step");
            }
            Some(Ok(moved)) => self.note(format!("{name}: {moved}")),
            Some(Err(refusal)) => {
                self.note(format!("{name}: {refusal}"));
                assert_eq!(refusal.reason, Reason::Unavailable);
                assert!(self.brokers.is_some(), "there is nothing that could be away");
            }
        }
        if let (Some(service), Some(from)) = (timers, from) {
            let to = JournalExtent::of(self.life(), &service).changes;
            self.ledger.rounds.push((service, from + 1..=to));
        }
    }

    /// Time passes, or the clock is put back by seconds or minutes.
    fn wait(&mut self) {
        self.latest = self.latest.max(self.clock.now());
        if self.dice.below(5) == 0 {
            let now = self.clock.now() - Duration::seconds(1 + self.dice.below(15 * 60).cast_signed());
            self.note(format!("the clock is put back to {now}"));
            return self.clock.set(now);
        }
        let minutes = match self.dice.below(10) {
            0..=3 => self.dice.below(120),
            4..=6 => self.dice.below(72 * 60),
            7 | 8 => self.dice.below(100 * 24 * 60),
            _ => self.dice.below(3 * 365 * 24 * 60),
        };
        let now = self.clock.now() + Duration::minutes(minutes.cast_signed()) + Duration::seconds(1);
        self.note(format!("it is {now}"));
        self.clock.set(now);
    }

    fn rebuild(&mut self) {
        self.note("rebuild");
        for journal in &self.life().journals {
            let rebuilt = self.life().look(journal.rebuild(|_| ())).unwrap();
            assert!(rebuilt.differing.is_empty() && rebuilt.broken.is_empty() && rebuilt.erased == 0, "{rebuilt:?}");
        }
    }

    /// A new version of the program begins: none of the snapshots that the one before it took can be read.
    fn refold(&mut self) {
        for journal in &self.life().journals {
            let forget = async {
                let tx = journal.store().begin().await.unwrap();
                for table in ["records", "mirrors"] {
                    let old = format!("UPDATE {table} SET revision = 0, state = x''");
                    tx.execute_unprepared(&old).await.unwrap();
                }
                tx.commit().await.unwrap();
            };
            self.life().look(forget);
        }
        self.crash("and a new version begins");
    }

    /// A tenant reads on in its feed.
    fn follow(&mut self) {
        let tenants: Vec<TenantId> = self.known.cities.iter().filter_map(|city| city.tenant).collect();
        let tenant = if self.dice.below(4) == 0 { STRANGER } else { *self.dice.pick(&tenants) };
        let service = self.dice.pick(&hansa::node::SERVICES).name;
        let page = 1 + self.dice.below(20);
        let mut follower = self.ledger.followers.remove(&(service, tenant)).unwrap_or_default();
        follower.read(self.life(), service, tenant, page);
        self.note(format!("{tenant} has read the feed of {service} up to {}", follower.after));
        self.ledger.followers.insert((service, tenant), follower);
    }

    /// Lets everything that has happened take its effect.
    pub fn settle(&mut self) {
        self.faults = false;
        for _ in 0..ROUNDS {
            let mut moved = 0;
            for worker in 0..self.life().workers.len() {
                let name = self.life().workers[worker].name();
                let step = self.life.as_mut().unwrap().step(worker, None).unwrap();
                moved += step.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            }
            if moved == 0 {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

/// What a follower has heard.
impl Follower {
    pub fn read(&mut self, life: &Life, service: &str, tenant: TenantId, page: u64) -> bool {
        let entries = life.look(life.journal(service).feed(tenant, self.after, page)).unwrap();
        for entry in &entries {
            assert!(entry.position > self.after, "positions go up");
            self.after = entry.position;
            self.heard.push((entry.change.envelope.record.clone(), entry.change.envelope.version));
        }
        !entries.is_empty()
    }
}

/// Whether bytes hold a text.
pub fn tells(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
}
