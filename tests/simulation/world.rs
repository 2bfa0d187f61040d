//! The simulated world: a node with its files, the callers, and a scheduler that decides the next step.

use crate::{
    acts::{KnownRecords, Mind, Order, SECRET, STRANGER},
    broker::Brokers,
    ledger::{Follower, JournalExtent, Ledger, Named, query},
    life::Life,
};
use chrono::{DateTime, Duration, TimeZone, Utc};
use hansa_journal::{Clock, ManualClock};
use hansa_kernel::{ReasonClass, RecordName, TenantId};
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

/// Number of steps per seed.
const STEPS: usize = 100;
/// Percentage of commands and worker steps during which the node crashes.
const CUT_OFF: u64 = 7;
/// Maximum number of rounds until no worker has anything to do.
const ROUNDS: usize = 300;

mod beginning;

pub use beginning::Beginning;

/// The log of the steps.
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
    /// The latest instant that the clock has shown.
    latest: DateTime<Utc>,
    /// Counts the changes by type.
    pub kinds: Kinds,
}

/// The number of changes in all checked histories, by type.
pub type Kinds = Arc<Mutex<BTreeMap<String, u64>>>;

/// Creates a temporary folder, in memory if possible. The simulation ends processes, not machines, so it needs no
/// durable disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

impl World {
    /// Creates the world of a seed.
    pub fn of(beginning: &Beginning, seed: u64, log: Log, kinds: Kinds) -> Self {
        let mut dice = Dice::of(seed);
        let folder = folder();
        for file in fs::read_dir(beginning.folder.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let clock = ManualClock::at(Utc.with_ymd_and_hms(2026, 1, 12, 9, 0, 1).unwrap());
        // Half of the worlds run embedded; half have brokers between their services.
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

    /// Runs all steps of the seed.
    pub fn live(&mut self) {
        // The weights of the steps differ per seed: some seeds have many crashes, some long waits, some a backlog.
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
        // Undoes a clock that was put back.
        self.clock.set(self.latest.max(self.clock.now()));
        self.crash("before the end");
        self.settle();
    }

    /// Ends the process without warning, and starts another on the same files.
    fn crash(&mut self, when: &str) {
        self.note(format!("crash {when}"));
        self.ledger.crashes += 1;
        drop(self.life.take());
        self.life = Some(Life::begin(self.folder.path(), &self.clock, self.brokers.as_ref()));
    }

    /// Runs a random command.
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

    /// Returns the agreement for the next command. It is mostly the same as before, so some agreements reach their end.
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

    /// Runs an order and checks the answer. Returns name and etag of the answer if the order was granted.
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
                self.note(format!("{order}: committed, but the caller got no answer"));
                self.crash("in the command");
                let between = JournalExtent::of(self.life(), service);
                (self.life().call(&order.call, None).unwrap(), Some(between))
            }
        };
        let after = JournalExtent::of(self.life(), service);
        match answer {
            Err(status) => {
                self.note(format!("{order}: {}", status.message()));
                assert_eq!(before, after, "a refused command changed the journal");
                self.refused(&order, &status);
                None
            }
            Ok(answer) => {
                self.note(format!("{order}: granted"));
                assert!(!order.stale, "a command with a stale etag was granted");
                assert!(!order.tried || before == after, "a command with `validate_only` changed the journal");
                assert!(
                    !order.foreign || before.changes == after.changes,
                    "a command of a stranger changed the journal"
                );
                let follows =
                    self.known.deleted.contains_key(&order.record) && !order.call.path.ends_with("/EraseTexts");
                assert!(!follows, "a command on a deleted record was granted");
                if let Some(between) = between.filter(|between| *between != before && !order.many) {
                    assert_eq!(between, after, "a retried command took effect twice");
                }
                let changed = after.changes > before.changes;
                Some(self.granted(order, &answer, changed))
            }
        }
    }

    /// Sends a granted command again.
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
        self.note(format!("replayed: {}: {:?}", first.order, answer.as_ref().map(|_| ()).map_err(Status::message)));
        if answer.as_ref().is_err_and(|status| status.code() == Code::NotFound) && self.learns_anew(service) {
            assert_eq!(before, JournalExtent::of(self.life(), service), "a refused command changed the journal");
            return;
        }
        let answer = answer.expect("a replayed command gets an answer");
        assert_eq!(
            Named::read(first.order.call.path, &answer),
            first.named,
            "a replayed command must get its first answer"
        );
        assert_eq!(before, JournalExtent::of(self.life(), service), "a replayed command changed the journal");
        self.ledger.repeated += 1;
    }

    /// Returns whether a service has mirrors of an earlier revision. Until the service has rebuilt these, it refuses
    /// commands on their records as not found.
    fn learns_anew(&self, service: &str) -> bool {
        let old = query(self.life(), service, "SELECT record FROM mirrors WHERE revision = 0");
        !old.is_empty()
    }

    /// Lets a worker take a step.
    fn work(&mut self, worker: usize) {
        let name = self.life().workers[worker].name();
        let timers = name.strip_prefix("timers of ").map(str::to_owned);
        let from = timers.as_ref().map(|service| JournalExtent::of(self.life(), service).changes);
        let cut = (self.faults && self.dice.below(100) < CUT_OFF).then(|| 1 + self.dice.below(3));
        match self.life.as_mut().unwrap().step(worker, cut) {
            None => {
                self.note(format!("{name}: crashed"));
                self.crash("in the step");
            }
            Some(Ok(moved)) => self.note(format!("{name}: {moved}")),
            Some(Err(refusal)) => {
                self.note(format!("{name}: {refusal}"));
                assert_eq!(refusal.class, ReasonClass::Unavailable);
                assert!(self.brokers.is_some(), "a world without brokers refused as unavailable");
            }
        }
        if let (Some(service), Some(from)) = (timers, from) {
            let to = JournalExtent::of(self.life(), &service).changes;
            self.ledger.rounds.push((service, from + 1..=to));
        }
    }

    /// Advances the clock, or puts it back by seconds or minutes.
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
        self.note(format!("the clock shows {now}"));
        self.clock.set(now);
    }

    fn rebuild(&mut self) {
        self.note("rebuild");
        for journal in &self.life().journals {
            let rebuilt = self.life().look(journal.rebuild(|_| ())).unwrap();
            assert!(rebuilt.differing.is_empty() && rebuilt.broken.is_empty() && rebuilt.erased == 0, "{rebuilt:?}");
        }
    }

    /// Starts a new version of the program that cannot read the snapshots of the earlier version.
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
        self.crash("before a new version starts");
    }

    /// Lets a tenant read the next page of its feed.
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

    /// Runs the workers without faults until none has anything to do.
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
        panic!("the workers still have work after {ROUNDS} rounds");
    }
}

impl Follower {
    pub fn read(&mut self, life: &Life, service: &str, tenant: TenantId, page: u64) -> bool {
        let entries = life.look(life.journal(service).feed(tenant, self.after, page)).unwrap();
        for entry in &entries {
            assert!(entry.position > self.after, "positions must increase");
            self.after = entry.position;
            self.heard
                .push((entry.change.envelope.record.clone(), hansa_kernel::envelope::version(&entry.change.envelope)));
        }
        !entries.is_empty()
    }
}

/// Returns whether bytes contain a text.
pub fn tells(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
}
