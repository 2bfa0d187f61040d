//! Random commands: caller, record, and whether the platform may grant the command.

use crate::life::Call;
use chrono::{DateTime, Days, Months, Utc};
use hansa_kernel::{Caller, PersonId, RecordId, Role, TenantId, time};
use hansa_proto::{google::r#type::Date, types::LocalizedText};
use hansa_tests::Dice;
use prost::Message;
use std::{collections::BTreeMap, fmt};
use uuid::Uuid;

/// A tenant without a relation to any record.
pub const STRANGER: TenantId = TenantId(Uuid::from_u128(0xdead));

/// A city of the simulated world.
#[derive(Clone)]
pub struct City {
    pub key: &'static str,
    pub name: String,
    pub country: &'static str,
    pub tenant: Option<TenantId>,
    /// Whether the city was or will be merged, split or deleted.
    pub gone: bool,
}

impl City {
    pub fn new(key: &'static str, country: &'static str) -> Self {
        let name = format!("cities/{}", RecordId::from_source("geonames", key));
        Self { key, name, country, tenant: None, gone: false }
    }
}

/// The records that commands can name.
#[derive(Clone)]
pub struct KnownRecords {
    pub steward: TenantId,
    pub cities: Vec<City>,
    pub agreements: Vec<String>,
    pub strategies: Vec<(String, TenantId)>,
    /// The deleted records, each with the tenant that deleted it.
    pub deleted: BTreeMap<String, TenantId>,
}

impl KnownRecords {
    /// Returns the cities that have joined.
    pub fn joined(&self) -> Vec<&City> {
        self.cities.iter().filter(|city| city.tenant.is_some()).collect()
    }
}

/// One command.
#[derive(Clone)]
pub struct Order {
    pub call: Call,
    /// The record that the command changes. Empty for a new record.
    pub record: String,
    /// The texts in the request.
    pub texts: Vec<String>,
    /// Whether the etag is stale, so the command must be refused.
    pub stale: bool,
    /// Whether the command has `validate_only`.
    pub tried: bool,
    /// Whether the command changes many records, each in a transaction of its own.
    pub many: bool,
    /// Whether the caller is a stranger to the record, so the command must be refused.
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

/// Creates random commands.
pub struct Mind<'a> {
    pub dice: &'a mut Dice,
    pub known: &'a KnownRecords,
    pub now: DateTime<Utc>,
    /// Counter of texts, which makes each text unique.
    pub words: &'a mut u64,
    /// The texts of the command under construction.
    pub texts: Vec<String>,
    pub stale: bool,
    pub tried: bool,
    /// Whether commands may contain mistakes and lack permission.
    pub errs: bool,
}

/// The beginning of every text, which occurs nowhere else.
pub const SECRET: &str = "zecret-";

impl Mind<'_> {
    pub fn chance(&mut self, of: u64, in_all: u64) -> bool {
        self.dice.below(in_all) < of
    }

    /// Returns a unique text.
    pub fn text(&mut self) -> Vec<LocalizedText> {
        *self.words += 1;
        let text = format!("{SECRET}{};", self.words);
        self.texts.push(text.clone());
        vec![LocalizedText { language_code: "en".into(), text, ..Default::default() }]
    }

    /// Returns a random request id.
    pub fn id(&mut self) -> String {
        let (high, low) = (self.dice.below(u64::MAX), self.dice.below(u64::MAX));
        let id = uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
        id.into_uuid().to_string()
    }

    /// Returns the etag for a request: mostly none, sometimes the current one, sometimes a stale one.
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

    /// Returns two cities. In most cases both have joined and still exist.
    pub fn pair(&mut self) -> [City; 2] {
        let there = |city: &&City| city.tenant.is_some() && !city.gone;
        let all: Vec<City> = self.known.cities.iter().filter(there).cloned().collect();
        let of = if all.len() < 2 || self.chance(1, 5) { self.known.cities.clone() } else { all };
        let one = self.dice.below(of.len() as u64);
        let other = (one + 1 + self.dice.below(of.len() as u64 - 1)) % of.len() as u64;
        [one, other].map(|n| of[n as usize].clone())
    }

    /// Returns the command, mostly by the given caller, sometimes by a stranger or with another role.
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

/// Returns a caller of a tenant with one role.
pub fn caller(tenant: TenantId, role: Role) -> Caller {
    Caller { tenant, person: PersonId(Uuid::from_u128(9)), roles: vec![role], scopes: vec!["*".into()] }
}
