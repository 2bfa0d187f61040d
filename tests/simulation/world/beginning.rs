//! The initial world, from which every seed starts.

use super::{Log, ROUNDS, World, folder};
use crate::{
    acts::{City, KnownRecords, Order},
    ledger::Ledger,
    life::Life,
    world::Kinds,
};
use chrono::{DateTime, TimeZone, Utc};
use hansa_journal::ManualClock;
use hansa_proto::{
    partnerships::{self as p, AgreementStep, GuidelinesNeed},
    register::RegimeClass,
    strategy::GoalAim,
};
use hansa_tests::Dice;
use sea_orm::ConnectionTrait;
use std::{collections::BTreeMap, fs};

/// Number of random commands before the seeds start. This is enough for some agreements to be in force.
const BEGINNING: usize = 150;

/// The initial world. Each seed starts from a copy.
pub struct Beginning {
    pub(super) folder: tempfile::TempDir,
    pub(super) known: KnownRecords,
    pub(super) ledger: Ledger,
    pub(super) words: u64,
}

impl Beginning {
    /// Creates a world with eight cities, four of which have joined, several agreements, an imported tie and a
    /// strategy. One agreement has attested steps and lacks only the initiator's signature.
    pub fn new() -> Self {
        let folder = folder();
        fs::write(folder.path().join("node.key"), hex::encode([7; 32])).unwrap();
        let steward = hansa_journal::NodeKeys::from_secret(&[7; 32]).tenant();
        let cities =
            [("1", "DE"), ("2", "TN"), ("3", "FR"), ("4", "NO"), ("5", "EC"), ("6", "PT"), ("7", "DE"), ("8", "FR")];
        let cities: Vec<City> = cities.into_iter().map(|(key, country)| City::new(key, country)).collect();
        let known = KnownRecords {
            steward,
            cities: cities.clone(),
            agreements: Vec::new(),
            strategies: Vec::new(),
            deleted: BTreeMap::new(),
        };
        let clock = ManualClock::at(Utc.with_ymd_and_hms(2026, 1, 12, 9, 0, 0).unwrap());
        let life = Some(Life::begin(folder.path(), &clock, None));
        let mut world = World {
            // Not the seed of any other world, because worlds with the same seed create the same request ids.
            dice: Dice::of(u64::MAX),
            folder,
            clock,
            known,
            ledger: Ledger::default(),
            brokers: None,
            life,
            words: 0,
            faults: false,
            log: Log::default(),
            focus: None,
            latest: DateTime::UNIX_EPOCH,
            kinds: Kinds::default(),
        };
        world.order(|mind| mind.import_cities(&cities)).unwrap();
        let regimes = [("DE", RegimeClass::LiberalDemocracy), ("TN", RegimeClass::ClosedAutocracy)];
        world.order(|mind| mind.regimes(&regimes)).unwrap();
        for city in &cities[..3] {
            world.order(|mind| mind.join(city)).unwrap();
        }
        world.settle();
        while world.known.agreements.len() < 3 {
            world.order(|mind| mind.propose());
        }
        world.order(|mind| mind.import());
        let attested = world.attested();
        // Hides the agreement from the random commands below.
        world.known.agreements.retain(|name| *name != attested);
        world.order(|mind| mind.draft()).unwrap();
        let (strategy, tenant) = world.known.strategies[0].clone();
        for goal in [("climate", GoalAim::GlobalChallenges), ("economy", GoalAim::EconomicAttractiveness)] {
            world.order(|mind| mind.goal(&strategy, tenant, goal)).unwrap();
        }
        world.order(|mind| mind.adopt(&strategy, tenant)).unwrap();
        for _ in 0..BEGINNING {
            world.command();
        }
        world.known.agreements.push(attested);
        world.settle();
        crate::checks::all(&world);
        let copy = self::folder();
        fs::copy(world.folder.path().join("node.key"), copy.path().join("node.key")).unwrap();
        for journal in &world.life().journals {
            let file = copy.path().join(format!("{}.db", journal.service()));
            let all = format!("VACUUM INTO '{}'", file.display());
            world.life().look(journal.store().reader().execute_unprepared(&all)).unwrap();
        }
        let World { known, ledger, words, .. } = world;
        Self { folder: copy, known, ledger, words }
    }
}

impl World {
    /// Prepares an agreement with a city that has not joined, up to the attested signature of that city. Then the
    /// city joins and takes over its side. The initiator has not signed, so the city can still dispute the attested
    /// steps.
    fn attested(&mut self) -> String {
        let named = self.order(|mind| mind.propose_to_one_who_is_absent()).unwrap();
        let agreement = self.brought(&named.name, &["SignAgreement"], |agreement| {
            agreement.attestations.iter().any(|one| one.step() == AgreementStep::Signature)
        });
        let absent = agreement.partner.unwrap_or_default().city;
        let city = self.known.cities.iter().find(|city| city.name == absent).unwrap().clone();
        self.order(|mind| mind.join(&city)).unwrap();
        // Lets the partnerships service apply the join.
        self.settle();
        self.brought(&named.name, &["SignAgreement", "ConfirmAttestation", "DisputeAttestation"], |agreement| {
            let (needs, side) = (agreement.requirements.unwrap_or_default(), agreement.initiator.as_ref().unwrap());
            let guided = side.guidelines_need() != GuidelinesNeed::Required
                || side.guidelines.is_some()
                || side.guidelines_override.is_some();
            let voted = !needs.initiator_council_vote || side.council_vote.is_some();
            guided && voted && !agreement.partner.as_ref().unwrap().tenant.is_empty()
        });
        named.name
    }

    /// Runs commands on an agreement, except some rpcs, until the condition holds.
    fn brought(&mut self, name: &str, without: &[&str], is: impl Fn(&p::Agreement) -> bool) -> p::Agreement {
        for _ in 0..ROUNDS {
            let agreement = self.agreement(name).unwrap();
            if is(&agreement) {
                return agreement;
            }
            let bad = |order: &Order| without.iter().any(|rpc| order.call.path.ends_with(rpc));
            self.order(|mind| {
                loop {
                    let order = mind.on_agreement(&agreement);
                    if !bad(&order) {
                        return order;
                    }
                }
            });
        }
        panic!("{name} does not reach the expected state in {ROUNDS} commands");
    }
}
