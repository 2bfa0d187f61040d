//! Invariants that must hold once all workers are done, whatever happened before.

use crate::{
    acts::STRANGER,
    ledger::{Follower, query},
    life::Life,
    outcomes,
    world::{World, tells},
};
use chrono::DateTime;
use hansa::node::SERVICES;
use hansa_journal::{Clock, Journal, tables};
use hansa_kernel::{
    Audience, FoldError, Record, RecordId, RecordName, Reference as _, Stamp, TenantId, envelope, time,
};
use hansa_partnerships_domain::{agreement::Agreement, ties::Tie};
use hansa_proto::{
    ChangeSet,
    types::{Actor, ChangeEnvelope, SignedChange, Tombstone},
};
use hansa_register_domain::reference::{CityReference, CountryReference, OfficeReference};
use hansa_strategy_domain::Strategy;
use prost::{Message, Name};
use sea_orm::{EntityTrait, QueryOrder};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A stored change with its position.
pub struct Stored {
    seq: i64,
    pub signed: SignedChange,
    pub envelope: ChangeEnvelope,
}

impl Stored {
    /// Returns whether the change deletes its record.
    pub fn is_tombstone(&self) -> bool {
        self.envelope.payload_type == Tombstone::full_name()
    }

    /// Returns the decoded change. Fails if the change belongs to another set.
    pub fn change<C: ChangeSet>(&self) -> C {
        C::decode(&self.envelope.payload_type, &self.envelope.payload).unwrap().unwrap()
    }

    /// Returns whether the change has no actor and no command.
    pub fn is_by_nobody(&self) -> bool {
        self.envelope.actor.clone().unwrap_or_default() == Actor::default() && self.envelope.command_hash.is_empty()
    }
}

/// All records of a service with their histories.
pub type Histories = BTreeMap<String, Vec<Stored>>;

/// Changes without an actor that follow from other records, not from a timer.
const FOLLOWS: [&str; 3] = ["AgreementSuperseded", "PartySucceeded", "AgreementEnded"];

/// Checks all invariants. Returns the number of changes that timers made.
pub fn all(world: &World) -> u64 {
    let (life, mut fired) = (world.life(), 0);
    let all: BTreeMap<&str, Histories> =
        SERVICES.iter().map(|service| (service.name, histories(life, service.name))).collect();
    for (service, histories) in &all {
        chains(life, service, histories);
        granted(world, service, histories);
        texts(world, service, histories);
        feeds(world, service, histories);
        fired += timers(world, service, histories);
        nothing_waits(world, service);
        outcomes::signatures(life, &all["register"], histories);
        outcomes::tombstones(world, service, histories);
    }
    outcomes::keys(life, &all["register"]);
    outcomes::successions(world, &all["register"], &all["partnerships"]);
    outcomes::attestations(&all["partnerships"]);
    for stored in all.values().flat_map(|histories| histories.values()).flatten() {
        let kind = stored.envelope.payload_type.rsplit('.').next().unwrap_or_default();
        *world.kinds.lock().unwrap().entry(kind.to_owned()).or_default() += 1;
    }
    mirrors(life, &all);
    evaluations(world);
    for journal in &life.journals {
        let rebuilt = life.look(journal.rebuild(|_| ())).unwrap();
        assert!(rebuilt.differing.is_empty() && rebuilt.broken.is_empty() && rebuilt.erased == 0, "{rebuilt:?}");
        outcomes::nothing_erased_is_told(world, journal.service());
    }
    fired
}

fn histories(life: &Life, service: &str) -> Histories {
    let find = tables::change::Entity::find().order_by_asc(tables::change::Column::Seq);
    let rows = life.look(find.all(life.journal(service).store().reader())).unwrap();
    let mut out = Histories::new();
    for row in rows {
        let envelope = ChangeEnvelope::decode(row.envelope.as_slice()).unwrap();
        let signatures = SignedChange::decode(row.signatures.as_slice()).unwrap().signatures;
        let signed = SignedChange { envelope: row.envelope, signatures };
        out.entry(envelope.record.clone()).or_default().push(Stored { seq: row.seq, signed, envelope });
    }
    out
}

/// Checks that each history is a chain without gaps, signed by the node, and that the record has the version and
/// head of its last change.
fn chains(life: &Life, service: &str, histories: &Histories) {
    let node = life.journal(service).node();
    let records = query(life, service, "SELECT name, version, head FROM records");
    assert_eq!(records.len(), histories.len(), "{service}: records and histories do not match");
    for row in records {
        let name: String = row.try_get("", "name").unwrap();
        let history: Vec<SignedChange> = histories[&name].iter().map(|stored| stored.signed.clone()).collect();
        let key = |of: &str| (of == node.key_name()).then(|| node.verifying());
        envelope::verify_chain(&history, key).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        let (version, head) = (row.try_get::<i64>("", "version").unwrap(), row.try_get::<Vec<u8>>("", "head").unwrap());
        assert_eq!(version, history.len() as i64, "{name}");
        assert_eq!(head, envelope::hash(&history.last().unwrap().envelope), "{name}");
    }
}

/// Checks that the histories contain the result of every granted command.
fn granted(world: &World, service: &str, histories: &Histories) {
    let heads: BTreeSet<String> =
        histories.values().flatten().map(|stored| hex::encode(envelope::hash(&stored.signed.envelope))).collect();
    for granted in world.ledger.granted.iter().filter(|granted| granted.order.service() == service) {
        let (order, named) = (&granted.order, &granted.named);
        assert!(
            named.name.is_empty() || histories.contains_key(&named.name),
            "{order} was granted, but the record is missing: {named:?}"
        );
        assert!(
            named.etag.is_empty() || heads.contains(&named.etag),
            "{order} was granted, but the change is missing: {named:?}"
        );
    }
}

/// Checks that only the table `seals` contains texts, each once, and no erased text.
fn texts(world: &World, service: &str, histories: &Histories) {
    let life = world.life();
    for stored in histories.values().flatten() {
        assert!(!tells(&stored.signed.envelope), "a change of {} contains a text", stored.envelope.record);
    }
    for (table, column) in [("records", "state"), ("mirrors", "state"), ("requests", "fingerprint")] {
        for row in query(life, service, &format!("SELECT {column} AS bytes FROM {table}")) {
            assert!(!tells(&row.try_get::<Vec<u8>>("", "bytes").unwrap()), "{table} of {service} contains a text");
        }
    }
    let mut kept: BTreeMap<String, usize> = BTreeMap::new();
    for row in query(life, service, "SELECT value FROM seals") {
        let value = String::from_utf8(row.try_get("", "value").unwrap()).unwrap();
        *kept.entry(value).or_default() += 1;
    }
    for text in world.ledger.texts.iter().filter(|text| text.service == service) {
        let expected = usize::from(!text.erased);
        assert_eq!(kept.get(&text.text).copied().unwrap_or_default(), expected, "{text:?}");
    }
}

/// Checks that the feed of each tenant contains exactly the changes that the tenant may see, in order, also for a
/// reader that reads page by page.
fn feeds(world: &World, service: &'static str, histories: &Histories) {
    let joined = world.known.cities.iter().filter_map(|city| city.tenant);
    for tenant in joined.chain([world.known.steward, STRANGER]) {
        let sees = |stored: &Stored| {
            let audience = stored.envelope.audience.clone().unwrap_or_default();
            Audience::from_proto(&audience).unwrap().includes(tenant)
        };
        let visible = histories.iter().filter(|(_, history)| history.iter().any(sees));
        let expected: BTreeMap<&str, Vec<u64>> =
            visible.map(|(name, history)| (name.as_str(), (1..=history.len() as u64).collect())).collect();
        let followers = [Some(Follower::default()), world.ledger.followers.get(&(service, tenant)).cloned()];
        for mut follower in followers.into_iter().flatten() {
            while follower.read(world.life(), service, tenant, 50) {}
            let mut heard: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
            for (record, version) in &follower.heard {
                let versions = heard.entry(record).or_default();
                // A record that becomes public is delivered again. Only the first delivery of a version counts.
                if !versions.contains(version) {
                    versions.push(*version);
                }
            }
            assert_eq!(heard, expected, "the feed of {service} for {tenant}");
        }
    }
}

/// Folds a history and checks the changes by timers. Returns position and due instant of each of these changes.
fn alarms<R: Record>(history: &[Stored]) -> Vec<(i64, i64)> {
    let (mut state, mut out): (Option<R>, Vec<(i64, i64)>) = (None, Vec::new());
    let mut expected: Vec<(i64, &'static str, Vec<u8>)> = Vec::new();
    for stored in history {
        let envelope = &stored.envelope;
        if stored.is_tombstone() {
            // A deleted record has no timers.
            state = None;
            continue;
        }
        let follows = FOLLOWS.iter().any(|kind| envelope.payload_type.ends_with(kind));
        if stored.is_by_nobody() && !follows {
            if expected.is_empty() {
                let due =
                    state.as_ref().and_then(Record::due).unwrap_or_else(|| panic!("{envelope:?}: no timer was due"));
                let now = time::instant("claim_time", envelope.claim_time.as_ref()).unwrap();
                assert!(due <= now, "{envelope:?}: the timer fired too early");
                let steps = state.iter().flat_map(|state| state.on_due(due));
                let step = |one: hansa_kernel::Emitted<R::Change>| {
                    (due.timestamp_micros(), one.change.type_name(), one.change.payload())
                };
                expected = steps.map(step).collect();
            }
            let (due, kind, payload) = expected.remove(0);
            assert_eq!(
                (envelope.payload_type.as_str(), &envelope.payload),
                (kind, &payload),
                "the timer made another change than `on_due` returns"
            );
            out.push((stored.seq, due));
        } else {
            assert!(expected.is_empty(), "{envelope:?}: a timer must make all its changes together");
        }
        state = Some(R::fold(state, &stored.change(), &stamp(envelope)).unwrap());
    }
    assert!(expected.is_empty(), "a timer must make all its changes together");
    out
}

pub fn stamp(envelope: &ChangeEnvelope) -> Stamp {
    Stamp {
        version: hansa_kernel::envelope::version(envelope),
        at: time::instant("claim_time", envelope.claim_time.as_ref()).unwrap(),
        actor: envelope.actor.clone().unwrap_or_default(),
        party: TenantId::parse(&envelope.on_behalf_of, "on_behalf_of").ok(),
        level: envelope.assurance_level(),
    }
}

/// Checks that every timer fired once and in order of time, and that no timer is due. Returns the number of changes.
fn timers(world: &World, service: &str, histories: &Histories) -> u64 {
    let mut fired: BTreeMap<i64, i64> = BTreeMap::new();
    for (name, history) in histories {
        match name.split('/').next() {
            Some("agreements") => fired.extend(alarms::<Agreement>(history)),
            Some("strategies") => fired.extend(alarms::<Strategy>(history)),
            _ => {}
        }
    }
    for (_, round) in world.ledger.rounds.iter().filter(|(of, range)| of == service && !range.is_empty()) {
        let dues: Vec<i64> = fired.range(round.clone()).map(|(_, due)| *due).collect();
        assert_eq!(dues.len() as i64, round.end() - round.start() + 1, "a step of the timers made another change");
        assert!(dues.is_sorted(), "timers must fire in order of time");
    }
    let now = world.clock.now();
    for row in query(world.life(), service, "SELECT name, due_at FROM records WHERE due_at IS NOT NULL") {
        let due = DateTime::from_timestamp_micros(row.try_get("", "due_at").unwrap()).unwrap();
        assert!(due > now, "{} is still due", row.try_get::<String>("", "name").unwrap());
    }
    fired.len() as u64
}

fn nothing_waits(world: &World, service: &str) {
    for table in ["dirty", "quarantine"] {
        let rows = query(world.life(), service, &format!("SELECT * FROM {table}"));
        assert!(rows.is_empty(), "{table} of {service}: {rows:?}");
    }
    let frozen = query(world.life(), service, "SELECT name FROM records WHERE frozen IS NOT NULL");
    assert!(frozen.is_empty(), "{frozen:?}");
}

/// Checks that each mirror has the state and the version of the owner's history.
fn mirrors(life: &Life, all: &BTreeMap<&str, Histories>) {
    let (register, partnerships) = (&all["register"], &all["partnerships"]);
    for reader in ["partnerships", "networks", "strategy"] {
        mirrored(life, register, reader, "cities", CityReference::fold);
        mirrored(life, register, reader, "countries", CountryReference::fold);
    }
    mirrored(life, register, "strategy", "offices", OfficeReference::fold);
    mirrored(life, partnerships, "strategy", "agreements", Tie::fold);
    for (owner, reader, collection) in
        [(partnerships, "partnerships", "agreements"), (&all["strategy"], "strategy", "strategies")]
    {
        as_far(life, owner, reader, collection);
    }
}

/// Checks that the mirrors of a collection equal the owner's fold of the owner's history.
fn mirrored<S, C: ChangeSet>(
    life: &Life,
    owner: &Histories,
    reader: &str,
    collection: &str,
    fold: impl Fn(Option<S>, &C, &Stamp) -> Result<S, FoldError>,
) where
    S: Serialize,
{
    as_far(life, owner, reader, collection);
    let rows = query(life, reader, &format!("SELECT record, state FROM mirrors WHERE collection = '{collection}'"));
    let kept: BTreeMap<uuid::Uuid, Vec<u8>> =
        rows.iter().map(|row| (row.try_get("", "record").unwrap(), row.try_get("", "state").unwrap())).collect();
    for (name, history) in of(owner, collection) {
        let mut expected: Option<S> = None;
        for stored in history.iter().filter(|stored| !stored.is_tombstone()) {
            expected = Some(fold(expected, &stored.change(), &stamp(&stored.envelope)).unwrap());
        }
        let stands = !history.iter().any(Stored::is_tombstone);
        let expected = if stands { postcard::to_stdvec(&expected.unwrap()).unwrap() } else { Vec::new() };
        assert_eq!(kept[&id(name).0], expected, "the mirror of {name} in {reader}");
    }
}

/// Returns the histories of a collection.
pub fn of<'a>(histories: &'a Histories, collection: &str) -> impl Iterator<Item = (&'a String, &'a Vec<Stored>)> {
    let prefix = format!("{collection}/");
    histories.iter().filter(move |(name, _)| name.starts_with(&prefix))
}

pub fn id(name: &str) -> RecordId {
    RecordName::parse_any(name, "name").unwrap().id
}

fn as_far(life: &Life, owner: &Histories, reader: &str, collection: &str) {
    let rows = query(life, reader, &format!("SELECT record, version FROM mirrors WHERE collection = '{collection}'"));
    let kept: BTreeMap<uuid::Uuid, i64> =
        rows.iter().map(|row| (row.try_get("", "record").unwrap(), row.try_get("", "version").unwrap())).collect();
    let owned: BTreeMap<uuid::Uuid, i64> =
        of(owner, collection).map(|(name, history)| (id(name).0, history.len() as i64)).collect();
    assert_eq!(kept, owned, "the versions of the mirrors of {collection} in {reader}");
}

/// Checks that each city that has joined has an evaluation, and that a new evaluation gives the same result.
fn evaluations(world: &World) {
    let life = world.life();
    let journal: &Journal = life.journal("strategy");
    let recorded = || {
        let rows = query(life, "strategy", "SELECT name, version FROM records WHERE name LIKE 'evaluations/%'");
        let read = |row: &sea_orm::QueryResult| {
            (row.try_get::<String>("", "name").unwrap(), row.try_get::<i64>("", "version").unwrap())
        };
        rows.iter().map(read).collect::<BTreeMap<_, _>>()
    };
    let before = recorded();
    let cities: Vec<_> = world.known.joined().into_iter().map(|city| id(&city.name).0).collect();
    assert_eq!(before.len(), cities.len(), "each city that has joined must have an evaluation");
    let rubric = std::sync::Arc::new(hansa_strategy_domain::Rubric::embedded());
    let evaluator = std::sync::Arc::new(hansa_strategy::evaluator::Evaluator::new(journal, rubric));
    life.look(async {
        journal.mark("evaluate", cities).await.unwrap();
        for mut queue in evaluator.queues() {
            while queue.step().await.unwrap() > 0 {}
        }
    });
    assert_eq!(recorded(), before, "a new evaluation differs from the recorded one");
}
