//! The acknowledged commands, and the content of the databases.

use crate::{acts::Order, life::Life};
use chrono::{DateTime, Utc};
use hansa_kernel::TenantId;
use prost::Message;
use sea_orm::{ConnectionTrait, QueryResult, Statement};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Name and etag of a record. All answers except two carry these fields with the same tags.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Named {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub etag: String,
}

impl Named {
    pub fn read(path: &str, answer: &[u8]) -> Self {
        if path.ends_with("/EraseTexts") {
            let erased = hansa_proto::changes::EraseTextsResponse::decode(answer).unwrap();
            return Self { name: erased.erasure, etag: String::new() };
        }
        if path.ends_with("/CreateActivity") {
            let activity = hansa_proto::partnerships::Activity::decode(answer).unwrap();
            let (agreement, _) = activity.name.split_once("/activities/").unwrap();
            return Self { name: agreement.to_owned(), etag: String::new() };
        }
        Self::decode(answer).unwrap()
    }
}

impl Order {
    /// Returns the service whose journal the command changes.
    pub fn service(&self) -> &'static str {
        match self.call.service() {
            "changes" => match self.record.split('/').next() {
                Some("strategies") => "strategy",
                Some("cities" | "offices") => "register",
                _ => "partnerships",
            },
            service => service,
        }
    }
}

/// A granted command with its answer.
#[derive(Clone)]
pub struct Granted {
    pub order: Order,
    pub named: Named,
    pub at: DateTime<Utc>,
}

/// A text that a tenant has written into a record.
#[derive(Clone, Debug)]
pub struct Text {
    pub service: &'static str,
    pub record: String,
    pub tenant: TenantId,
    pub text: String,
    pub erased: bool,
}

/// A reader of a feed.
#[derive(Clone, Default)]
pub struct Follower {
    pub after: u64,
    pub heard: Vec<(String, u64)>,
}

/// The knowledge of all callers.
#[derive(Clone, Default)]
pub struct Ledger {
    pub granted: Vec<Granted>,
    pub texts: Vec<Text>,
    pub followers: BTreeMap<(&'static str, TenantId), Follower>,
    /// The range of changes that one step of a service's timers made.
    pub rounds: Vec<(String, RangeInclusive<i64>)>,
    pub refused: u64,
    pub repeated: u64,
    pub crashes: u64,
}

impl Ledger {
    pub fn keep(&mut self, order: Order, named: Named, at: DateTime<Utc>) {
        self.granted.push(Granted { order, named, at });
    }

    pub fn keep_texts(&mut self, order: &Order, name: &str) {
        let (service, tenant) = (order.service(), order.call.who.tenant);
        if order.call.path.ends_with("/EraseTexts") {
            let theirs = |text: &&mut Text| text.record == order.record && text.tenant == tenant;
            self.texts.iter_mut().filter(theirs).for_each(|text| text.erased = true);
        }
        let record = name.to_owned();
        let text = |text: &String| Text { service, record: record.clone(), tenant, text: text.clone(), erased: false };
        self.texts.extend(order.texts.iter().map(text));
    }
}

/// The number of rows in the tables of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalExtent {
    pub changes: i64,
    rest: Vec<i64>,
}

impl JournalExtent {
    pub fn of(life: &Life, service: &str) -> Self {
        let counts = "SELECT (SELECT COALESCE(MAX(seq), 0) FROM changes) AS a, (SELECT COUNT(*) FROM requests) AS b, \
            (SELECT COUNT(*) FROM seals) AS c, (SELECT COUNT(*) FROM seals WHERE erased_at IS NULL) AS d, \
            (SELECT COUNT(*) FROM feed) AS e, (SELECT SUM(version) FROM records) AS f";
        let row = query(life, service, counts).pop().unwrap();
        let column = |name| row.try_get::<Option<i64>>("", name).unwrap().unwrap_or_default();
        Self { changes: column("a"), rest: ["b", "c", "d", "e", "f"].map(column).to_vec() }
    }
}

/// Returns the rows of a query on a service's database.
pub fn query(life: &Life, service: &str, sql: &str) -> Vec<QueryResult> {
    let db = life.journal(service).store().reader();
    life.look(db.query_all_raw(Statement::from_string(db.get_database_backend(), sql))).unwrap()
}

/// Returns the head of a record.
pub fn head(life: &Life, service: &str, name: &str) -> String {
    assert!(!name.contains('\''));
    let rows = query(life, service, &format!("SELECT head FROM records WHERE name = '{name}'"));
    rows.first().map(|row| hex::encode(row.try_get::<Vec<u8>>("", "head").unwrap())).unwrap_or_default()
}
