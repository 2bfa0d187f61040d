//! What is asked of the platform: by whom, of what, and whether it can be granted at all.

use crate::life::Call;
use chrono::{DateTime, Days, Months, Utc};
use hansa_kernel::{Caller, PersonId, RecordId, Role, TenantId, time};
use hansa_proto::{google::r#type::Date, types::LocalizedText};
use hansa_tests::Dice;
use prost::Message;
use std::{collections::BTreeMap, fmt};
use uuid::Uuid;

/// Somebody who has nothing to do with any of it.
pub const STRANGER: TenantId = TenantId(Uuid::from_u128(0xdead));

/// A city of the simulated world.
#[derive(Clone)]
pub struct City {
    pub key: &'static str,
    pub name: String,
    pub country: &'static str,
    pub tenant: Option<TenantId>,
    /// It was merged, divided or deleted, or will be.
    pub gone: bool,
}

impl City {
    pub fn new(key: &'static str, country: &'static str) -> Self {
        let name = format!("cities/{}", RecordId::from_source("geonames", key));
        Self { key, name, country, tenant: None, gone: false }
    }
}

/// What is there to act on.
#[derive(Clone)]
pub struct KnownRecords {
    pub steward: TenantId,
    pub cities: Vec<City>,
    pub agreements: Vec<String>,
    pub strategies: Vec<(String, TenantId)>,
    /// What was deleted, and by whom.
    pub deleted: BTreeMap<String, TenantId>,
}

impl KnownRecords {
    /// Cities that have joined.
    pub fn joined(&self) -> Vec<&City> {
        self.cities.iter().filter(|city| city.tenant.is_some()).collect()
    }
}

/// One thing that is asked.
#[derive(Clone)]
pub struct Order {
    pub call: Call,
    /// The record that it is about, where it is there already.
    pub record: String,
    /// The texts in it.
    pub texts: Vec<String>,
    /// It names a head that is not the record's: it cannot be granted.
    pub stale: bool,
    /// It is only tried.
    pub tried: bool,
    /// It is decided for many records, each for itself.
    pub many: bool,
    /// Who asks has nothing to do with the record: it cannot be granted.
    pub foreign: bool,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rpc = self.call.path.rsplit('/').next().unwrap_or_default();
        let who = self.call.who.tenant.to_string();
        write!(f, "{rpc} by {:?} of {} on {}", self.call.who.roles, &who[..8], self.record)?;
        for (is, what) in [(self.stale, "stale"), (self.tried, "tried"), (self.foreign, "foreign")] {
            if is {
                write!(f, ", {what}")?;
            }
        }
        Ok(())
    }
}

/// Thinks of things to ask.
pub struct Mind<'a> {
    pub dice: &'a mut Dice,
    pub known: &'a KnownRecords,
    pub now: DateTime<Utc>,
    /// Counts texts, so that each is told from all others.
    pub words: &'a mut u64,
    /// Of the order that is being thought of.
    pub texts: Vec<String>,
    pub stale: bool,
    pub tried: bool,
    /// Whether it makes mistakes, and thinks of what others may not do.
    pub errs: bool,
}

/// Every text begins so; nothing else does.
pub const SECRET: &str = "zecret-";

impl Mind<'_> {
    pub fn chance(&mut self, of: u64, in_all: u64) -> bool {
        self.dice.below(in_all) < of
    }

    /// A text that stands nowhere else.
    pub fn text(&mut self) -> Vec<LocalizedText> {
        *self.words += 1;
        let text = format!("{SECRET}{};", self.words);
        self.texts.push(text.clone());
        vec![LocalizedText { language_code: "en".into(), text, ..Default::default() }]
    }

    /// A request id; few requests go without.
    pub fn id(&mut self) -> String {
        let (high, low) = (self.dice.below(u64::MAX), self.dice.below(u64::MAX));
        let id = uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
        id.into_uuid().to_string()
    }

    /// The head that a request names: mostly none, sometimes the one that is, sometimes another.
    pub fn etag(&mut self, current: &str) -> String {
        match self.dice.below(12) {
            _ if !self.errs => String::new(),
            0 if !current.is_empty() => current.to_owned(),
            1 => {
                self.stale = true;
                "ab".repeat(32)
            }
            _ => String::new(),
        }
    }

    pub fn days(&self, days: i64) -> Option<Date> {
        let today = self.now.date_naive();
        let day = match days {
            0.. => today + Days::new(days.unsigned_abs()),
            _ => today - Days::new(days.unsigned_abs()),
        };
        Some(time::date(day))
    }

    pub fn months(&self, months: u32) -> Option<Date> {
        Some(time::date(self.now.date_naive() + Months::new(months)))
    }

    /// Two cities. Mostly both have joined, and still are.
    pub fn pair(&mut self) -> [City; 2] {
        let there = |city: &&City| city.tenant.is_some() && !city.gone;
        let all: Vec<City> = self.known.cities.iter().filter(there).cloned().collect();
        let of = if all.len() < 2 || self.chance(1, 5) { self.known.cities.clone() } else { all };
        let one = self.dice.below(of.len() as u64);
        let other = (one + 1 + self.dice.below(of.len() as u64 - 1)) % of.len() as u64;
        [one, other].map(|n| of[n as usize].clone())
    }

    /// The order, as somebody gives it who may: or, now and then, as somebody does who may not.
    pub fn order(&mut self, path: &'static str, record: &str, who: (TenantId, Role), message: &impl Message) -> Order {
        let (mut tenant, mut role) = who;
        let foreign = self.errs && role != Role::Steward && self.chance(1, 16);
        if foreign {
            tenant = STRANGER;
        } else if self.errs && self.chance(1, 24) {
            role = *self.dice.pick(&[Role::Observer, Role::Operator, Role::IrOfficer, Role::CouncilClerk, Role::Mayor]);
        }
        Order {
            call: Call { path, who: caller(tenant, role), bytes: message.encode_to_vec() },
            record: record.to_owned(),
            texts: std::mem::take(&mut self.texts),
            stale: std::mem::take(&mut self.stale),
            tried: self.tried,
            many: false,
            foreign,
        }
    }
}

/// Someone of a tenant.
pub fn caller(tenant: TenantId, role: Role) -> Caller {
    Caller { tenant, person: PersonId(Uuid::from_u128(9)), roles: vec![role], scopes: vec!["*".into()] }
}
