//! Unreliable brokers between two services. They redeliver, reorder and delay messages, and lose acknowledgements. They
//! outlive the node.

use async_trait::async_trait;
use hansa_journal::{Delivery, JournalError, JournalSource, Source};
use hansa_kernel::{ReasonClass, RecordName, Refusal};
use hansa_proto::types::ChangeEnvelope;
use hansa_tests::Dice;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;

/// The broker of one subscription.
pub struct Broker {
    dice: Dice,
    /// Position in the owner's journal up to which the broker has read.
    read_to: i64,
    /// Messages without an acknowledgement.
    waiting: Vec<Delivery>,
}

/// All brokers of a node.
pub struct Brokers {
    all: Mutex<BTreeMap<&'static str, Arc<Mutex<Broker>>>>,
    seeds: Mutex<Dice>,
    honest: Arc<AtomicBool>,
}

impl Brokers {
    pub fn new(dice: Dice) -> Self {
        Self { all: Mutex::default(), seeds: Mutex::new(dice), honest: Arc::default() }
    }

    /// Makes the brokers reliable.
    pub fn behave(&self) {
        self.honest.store(true, Ordering::Relaxed);
    }

    /// Returns the broker of a subscription, and the flag that makes it reliable.
    pub fn of(&self, subscription: &'static str) -> (Arc<Mutex<Broker>>, Arc<AtomicBool>) {
        let fresh = || {
            let dice = self.seeds.lock().unwrap().fork();
            Arc::new(Mutex::new(Broker { dice, read_to: 0, waiting: Vec::new() }))
        };
        (self.all.lock().unwrap().entry(subscription).or_insert_with(fresh).clone(), self.honest.clone())
    }
}

/// A source of a subscription over an unreliable broker.
pub struct Unruly {
    owner: JournalSource,
    broker: Arc<Mutex<Broker>>,
    honest: Arc<AtomicBool>,
    taken: Vec<i64>,
    cut: Arc<Notify>,
}

/// The fate of an acknowledgement.
enum Told {
    Heard,
    Lost,
    Refused,
    /// The node crashes before it sends the acknowledgement.
    Never,
}

fn away() -> Refusal {
    Refusal::because(ReasonClass::Unavailable, "PL-4", "BROKER_UNAVAILABLE", "the broker cannot be reached")
}

impl Unruly {
    pub fn new(
        owner: JournalSource,
        (broker, honest): (Arc<Mutex<Broker>>, Arc<AtomicBool>),
        cut: Arc<Notify>,
    ) -> Self {
        Self { owner, broker, honest, taken: Vec::new(), cut }
    }

    fn honest(&self) -> bool {
        self.honest.load(Ordering::Relaxed)
    }

    fn one_in(&self, n: u64) -> bool {
        !self.honest() && self.broker.lock().unwrap().dice.below(n) == 0
    }
}

impl Broker {
    /// Returns some of the waiting messages in any order, some of them twice.
    fn some(&mut self) -> Vec<Delivery> {
        let mut out = self.waiting.clone();
        match self.dice.below(6) {
            0 | 1 => {}
            2 => out.truncate(self.dice.below(out.len() as u64 + 1) as usize),
            3 => out.retain(|_| self.dice.below(3) > 0),
            4 => shuffle(&mut out, &mut self.dice),
            _ => {
                let again: Vec<Delivery> = out.iter().rev().cloned().collect();
                out.extend(again);
                out.retain(|_| self.dice.below(4) > 0);
            }
        }
        out
    }
}

fn shuffle<T>(of: &mut [T], dice: &mut Dice) {
    for i in (1..of.len()).rev() {
        of.swap(i, dice.below(i as u64 + 1) as usize);
    }
}

#[async_trait]
impl Source for Unruly {
    async fn next(&mut self, _after: i64) -> Result<Vec<Delivery>, JournalError> {
        if self.one_in(16) {
            return Err(away().into());
        }
        let read_to = self.broker.lock().unwrap().read_to;
        let new = self.owner.next(read_to).await?;
        let mut broker = self.broker.lock().unwrap();
        broker.read_to = new.last().map_or(read_to, |last| last.position);
        broker.waiting.extend(new);
        let out = if self.honest() { broker.waiting.clone() } else { broker.some() };
        self.taken = out.iter().map(|delivery| delivery.position).collect();
        // As with JetStream: messages without an acknowledgement are redelivered, whatever position the subscription
        // keeps.
        Ok(out.into_iter().map(|delivery| Delivery { position: 0, ..delivery }).collect())
    }

    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, JournalError> {
        if self.one_in(16) {
            return Err(away().into());
        }
        self.owner.history(record, after).await
    }

    async fn acknowledge(&mut self) -> Result<(), JournalError> {
        let told = if self.honest() {
            Told::Heard
        } else {
            match self.broker.lock().unwrap().dice.below(16) {
                0 => Told::Never,
                1 => Told::Refused,
                2 => Told::Lost,
                _ => Told::Heard,
            }
        };
        match told {
            Told::Heard => self.broker.lock().unwrap().waiting.retain(|one| !self.taken.contains(&one.position)),
            Told::Lost => {}
            Told::Refused => return Err(away().into()),
            Told::Never => {
                self.cut.notify_one();
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), JournalError> {
        let mut broker = self.broker.lock().unwrap();
        (broker.read_to, broker.waiting) = (0, Vec::new());
        Ok(())
    }
}
