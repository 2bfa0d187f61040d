//! Checks the effects of mergers, attestations, deletions, erasures and key rotations against the histories.

use crate::{
    acts::caller,
    checks::{Histories, Stored, id, of, stamp},
    ledger::{Named, query},
    life::{Call, Life},
    world::World,
};
use chrono::{DateTime, NaiveDate, Utc};
use ed25519_dalek::VerifyingKey;
use hansa_journal::Clock;
use hansa_kernel::{Moment, Record, RecordName, Role, TenantId, envelope, time};
use hansa_partnerships_domain::agreement::{Agreement, Change as AgreementChange};
use hansa_proto::{
    changes::{ListChangesRequest, ListChangesResponse},
    partnerships::{AgreementState, AgreementStep, PartyEntry, PartySucceeded},
    register::{IdentityEntry, city_change, tenant_change},
    types::AssuranceLevel,
};
use hansa_register_domain::Tenant;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use tonic::Code;
use tonic_types::StatusExt;

fn claimed(stored: &Stored) -> DateTime<Utc> {
    time::instant("claim_time", stored.envelope.claim_time.as_ref()).unwrap()
}

/// Returns the identity log from the history of a tenant.
fn log(history: &[Stored]) -> Vec<IdentityEntry> {
    let entry = |stored: &Stored| match stored.change() {
        tenant_change::Change::Created(created) => created.identity,
        tenant_change::Change::KeyRotated(rotated) => rotated.identity,
        tenant_change::Change::Updated(_) => None,
    };
    history.iter().filter_map(entry).collect()
}

fn public(entry: &IdentityEntry) -> VerifyingKey {
    VerifyingKey::from_bytes(entry.public_key.as_slice().try_into().unwrap()).unwrap()
}

/// Checks that every signature verifies with a key of the identity log or of the node, also after a rotation.
pub fn signatures(life: &Life, register: &Histories, histories: &Histories) {
    let node = life.journals[0].node();
    let mut keys = BTreeMap::from([(node.key_name(), node.verifying())]);
    for (name, history) in of(register, "tenants") {
        let named = |entry: &IdentityEntry| {
            let key = public(entry);
            (format!("{name}/keys/{}", envelope::fingerprint(&key)), key)
        };
        keys.extend(log(history).iter().map(named));
    }
    for stored in histories.values().flatten() {
        for signature in &stored.signed.signatures {
            let key = keys.get(&signature.key).unwrap_or_else(|| panic!("the key {} is unknown", signature.key));
            let holds = envelope::signed_by(envelope::PAYLOAD_TYPE, &stored.signed.envelope, signature, key);
            assert!(holds, "{}: the signature of {} does not verify", stored.envelope.record, signature.key);
        }
    }
}

/// A public key and the wrapped secret key.
type SealedText = (Vec<u8>, Vec<u8>);

/// Checks that each new key is signed by the key before, that the host keeps only the latest secret key, and that
/// the id of a tenant does not change.
pub fn keys(life: &Life, register: &Histories) {
    let mut held: BTreeMap<uuid::Uuid, Vec<SealedText>> = BTreeMap::new();
    for row in query(life, "register", "SELECT tenant, public_key, wrapped FROM tenant_keys") {
        let key = (row.try_get("", "public_key").unwrap(), row.try_get("", "wrapped").unwrap());
        held.entry(row.try_get("", "tenant").unwrap()).or_default().push(key);
    }
    for (name, history) in of(register, "tenants") {
        let (log, tenant) = (log(history), TenantId(id(name).0));
        let shown =
            life.look(life.journal("register").load::<Tenant>(&RecordName::new("tenants", id(name)))).unwrap().unwrap();
        assert_eq!(shown.state.resource(&shown.name, "").identity_log, log, "{name}: the identity log lacks a key");
        assert_eq!(
            tenant,
            TenantId::from_key(public(&log[0]).as_bytes()),
            "{name}: the id must derive from the first key"
        );
        for (n, stored) in history.iter().enumerate() {
            for entry in &log[n.saturating_sub(1)..=n] {
                let key = format!("{name}/keys/{}", envelope::fingerprint(&public(entry)));
                assert!(stored.signed.signatures.iter().any(|one| one.key == key), "{name}: {key} did not sign {n}");
            }
        }
        let kept = &held[&tenant.0];
        assert_eq!(kept.len(), log.len(), "{name}: the host must store each key once");
        let open: Vec<_> = kept.iter().filter(|(_, wrapped)| !wrapped.is_empty()).collect();
        let [(public_key, wrapped)] = open[..] else { panic!("{name}: the host keeps {} secret keys", open.len()) };
        let secret = life.journals[0].node().unwrap(tenant, wrapped).expect("the node can unwrap the key");
        assert_eq!(
            secret.verifying_key(),
            public(log.last().unwrap()),
            "{name}: the kept secret is not the latest key"
        );
        assert_eq!(public_key.as_slice(), secret.verifying_key().as_bytes());
    }
}

/// The view tables by service. They must not contain deleted records.
const VIEWS: [(&str, &[&str]); 3] = [
    ("register", &["cities"]),
    ("partnerships", &["agreements", "ended_cities"]),
    ("strategy", &["strategies", "joined_cities", "ties"]),
];

/// Checks that a deleted record has one tombstone, at the end of its history, that no view contains the record, and
/// that a read by its owner returns `NOT_FOUND` with the reason `DELETED`.
pub fn tombstones(world: &World, service: &str, histories: &Histories) {
    for (name, history) in histories {
        let buried: Vec<usize> = (0..history.len()).filter(|n| history[*n].is_tombstone()).collect();
        let Some(tenant) = world.known.deleted.get(name) else {
            assert!(buried.is_empty(), "{name} has a tombstone without a deletion");
            continue;
        };
        assert_eq!(buried, [history.len() - 1], "{name}: the only tombstone must be the last change");
        for (of, tables) in VIEWS {
            for table in tables {
                let rows = query(world.life(), of, &format!("SELECT record FROM {table}"));
                let here = rows.iter().any(|row| row.try_get::<uuid::Uuid>("", "record").unwrap() == id(name).0);
                assert!(!here, "{name} is deleted, but still in {table}");
            }
        }
        let due = format!("SELECT name FROM records WHERE name = '{name}' AND due_at IS NOT NULL");
        assert!(query(world.life(), service, &due).is_empty(), "{name} is deleted, but still has a timer");
        let (path, role) = match name.split('/').next().unwrap() {
            "cities" => ("/hansa.register.v1.CityService/GetCity", Role::Steward),
            "agreements" => ("/hansa.partnerships.v1.AgreementService/GetAgreement", Role::Steward),
            _ => ("/hansa.strategy.v1.StrategyService/GetStrategy", Role::Mayor),
        };
        let ask = |path, bytes| world.life().call(&Call { path, who: caller(*tenant, role), bytes }, None).unwrap();
        let told = ask(path, Named { name: name.clone(), etag: String::new() }.encode_to_vec()).unwrap_err();
        let reason = told.get_details_error_info().unwrap().reason;
        assert_eq!((told.code(), reason.as_str()), (Code::NotFound, "DELETED"), "{name}: {told:?}");
        let past = ListChangesRequest { parent: name.clone(), page_size: 1_000, ..Default::default() };
        let past = ask("/hansa.changes.v1.ChangeService/ListChanges", past.encode_to_vec()).unwrap();
        let past = ListChangesResponse::decode(past.as_slice()).unwrap().changes;
        assert_eq!(past.len(), history.len(), "{name}: a deletion must keep the history");
    }
}

/// Returns the heir of each ended city and the date of succession.
fn heirs(register: &Histories) -> BTreeMap<String, (String, NaiveDate)> {
    let mut heirs = BTreeMap::new();
    for (name, history) in of(register, "cities") {
        for stored in history.iter().filter(|stored| !stored.is_tombstone()) {
            let (heir, date) = match stored.change() {
                city_change::Change::Merged(merged) => (merged.successor, merged.effective_date),
                city_change::Change::Split(split) if !split.continuing_city.is_empty() => {
                    (split.continuing_city, split.effective_date)
                }
                _ => continue,
            };
            let day = time::day("effective_date", date.as_ref()).unwrap();
            assert!(heirs.insert(name.clone(), (heir, day)).is_none(), "{name} ends twice");
        }
    }
    heirs
}

const OVER: [AgreementState; 4] =
    [AgreementState::Declined, AgreementState::Withdrawn, AgreementState::Ended, AgreementState::Superseded];

/// Checks that the agreements of an ended city went to its heir: each side once, not before the effective date, and
/// without a command.
pub fn successions(world: &World, register: &Histories, partnerships: &Histories) {
    let (heirs, today) = (heirs(register), Moment::at(world.clock.now()).today());
    let after = |city: &String, day: NaiveDate| heirs.get(city).filter(|(_, since)| *since <= day);
    for (name, history) in of(partnerships, "agreements") {
        let (mut state, mut followed) = (None::<Agreement>, BTreeSet::new());
        for stored in history.iter().filter(|stored| !stored.is_tombstone()) {
            let change: AgreementChange = stored.change();
            let day = claimed(stored).date_naive();
            match &change {
                AgreementChange::PartySucceeded(PartySucceeded { city, successor, effective_date }) => {
                    assert!(stored.is_by_nobody(), "{name}: a succession must have no actor");
                    assert!(followed.insert(city.clone()), "{name} followed {city} twice");
                    let (_, since) = after(city, day).unwrap_or_else(|| panic!("{name}: {city} existed on {day}"));
                    assert_eq!(
                        *effective_date,
                        Some(time::date(*since)),
                        "{name}: the effective date of the succession"
                    );
                    let chain = std::iter::successors(Some(city), |city| after(city, day).map(|(heir, _)| heir));
                    let heir = &successor.as_ref().unwrap().city;
                    assert!(chain.skip(1).any(|one| one == heir), "{name}: {heir} is not an heir of {city}");
                }
                AgreementChange::Ended(ended) if stored.is_by_nobody() => {
                    assert!(
                        after(&ended.city, day).is_some(),
                        "{name}: the agreement ended without a command and without an ended city"
                    );
                }
                _ => {}
            }
            state = Some(Agreement::fold(state, &change, &stamp(&stored.envelope)).unwrap());
        }
        if history.iter().any(Stored::is_tombstone) {
            continue;
        }
        let shown = state.unwrap().resource(&RecordName::parse_any(name, "name").unwrap(), "");
        if OVER.contains(&shown.state()) {
            continue;
        }
        for party in [shown.initiator, shown.partner].into_iter().flatten() {
            let chain = std::iter::successors(Some(&party.city), |city| after(city, today).map(|(heir, _)| heir));
            let heir = chain.last().unwrap();
            // A city without an existing heir keeps its side.
            let follows = *heir != party.city && !world.known.deleted.contains_key(heir);
            assert!(!follows, "{name} is not over, but its party {} has ended", party.city);
        }
    }
}

/// The state of an agreement's sides that attestations depend on.
#[derive(Default)]
struct Sides {
    tenants: BTreeMap<String, String>,
    /// Number of unanswered attestations by city and step.
    open: BTreeMap<(String, AgreementStep), i64>,
    imported: bool,
    signed: BTreeSet<String>,
    in_force: bool,
}

impl Sides {
    fn party(&mut self, party: Option<&PartyEntry>) {
        let party = party.unwrap();
        self.tenants.insert(party.city.clone(), party.tenant.clone());
    }

    /// Checks that a city answers only for itself, and only steps that the other city attested.
    fn answered(&mut self, name: &str, stored: &Stored, city: &str, step: AgreementStep) {
        assert_eq!(self.tenants[city], stored.envelope.on_behalf_of, "{name}: another tenant answered for {city}");
        if step == AgreementStep::Import {
            return assert!(self.imported, "{name} was not imported");
        }
        let open = self.open.entry((city.to_owned(), step)).or_default();
        *open -= 1;
        assert!(*open >= 0, "{name}: {step:?} of {city} was answered more often than attested");
    }

    fn take(&mut self, name: &str, stored: &Stored) {
        match stored.change() {
            AgreementChange::Proposed(proposed) => {
                self.party(proposed.initiator.as_ref());
                self.party(proposed.partner.as_ref());
            }
            AgreementChange::Imported(imported) => {
                self.party(imported.initiator.as_ref());
                self.party(imported.partner.as_ref());
                self.imported = true;
            }
            AgreementChange::Claimed(claimed) => {
                self.tenants.insert(claimed.city, claimed.tenant);
            }
            AgreementChange::PartySucceeded(succeeded) => self.succeeded(&succeeded),
            AgreementChange::StepAttested(attested) => {
                assert_eq!(stored.envelope.assurance_level(), AssuranceLevel::Attested, "{name}");
                assert_eq!(
                    self.tenants[&attested.city], "",
                    "{name}: {} has a tenant, so its steps cannot be attested",
                    attested.city
                );
                *self.open.entry((attested.city.clone(), attested.step())).or_default() += 1;
                if attested.step() == AgreementStep::Signature {
                    self.signed.insert(attested.city);
                }
            }
            AgreementChange::Signed(signed) => {
                self.signed.insert(signed.city);
            }
            AgreementChange::AttestationConfirmed(confirmed) => {
                self.answered(name, stored, &confirmed.city, confirmed.step());
            }
            AgreementChange::AttestationDisputed(disputed) => {
                self.answered(name, stored, &disputed.city, disputed.step());
                match disputed.step() {
                    AgreementStep::Signature if !self.in_force => drop(self.signed.remove(&disputed.city)),
                    _ if !self.in_force => self.signed.clear(),
                    _ => {}
                }
            }
            AgreementChange::EnteredIntoForce(_) => {
                assert_eq!(
                    self.signed.len(),
                    2,
                    "{name}: an agreement enters into force only with two undisputed signatures"
                );
                self.in_force = true;
            }
            _ => {}
        }
    }

    fn succeeded(&mut self, PartySucceeded { city, successor, .. }: &PartySucceeded) {
        self.party(successor.as_ref());
        self.tenants.remove(city);
        let heir = &successor.as_ref().unwrap().city;
        if self.signed.remove(city) {
            self.signed.insert(heir.clone());
        }
        let before: Vec<_> = self.open.keys().filter(|(of, _)| of == city).cloned().collect();
        for (of, step) in before {
            let open = self.open.remove(&(of, step)).unwrap_or_default();
            self.open.insert((heir.clone(), step), open);
        }
    }
}

/// Checks that only steps of cities without a tenant are attested, that only the city itself answers, once per
/// attestation, and that a disputed signature does not count before the agreement is in force.
pub fn attestations(partnerships: &Histories) {
    for (name, history) in of(partnerships, "agreements") {
        let mut sides = Sides::default();
        history.iter().filter(|stored| !stored.is_tombstone()).for_each(|stored| sides.take(name, stored));
    }
}

/// Checks that the files of a service contain no erased text, also after a rebuild.
pub fn nothing_erased_is_told(world: &World, service: &str) {
    let read = |file: &str| std::fs::read(world.folder.path().join(format!("{service}.{file}"))).unwrap_or_default();
    let bytes = [read("db"), read("db-wal")].concat();
    let text = String::from_utf8_lossy(&bytes);
    for erased in world.ledger.texts.iter().filter(|text| text.erased && text.service == service) {
        assert!(!text.contains(&erased.text), "{erased:?} is erased, but still in a file of {service}");
    }
}
