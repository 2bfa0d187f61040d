//! A sample of the rows that one command wrote. The floors write rows of the same size.

use anyhow::Context;
use rusqlite::Connection;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use std::path::Path;

/// The columns whose size matters.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Full message name of the payload.
    pub kind: String,
    /// The signed envelope.
    pub envelope: Vec<u8>,
    /// The signatures of the envelope.
    pub signatures: Vec<u8>,
    /// The record's head.
    pub head: Vec<u8>,
    /// The record's state.
    pub state: Vec<u8>,
    /// The view's sort key.
    pub sort_name: String,
    /// Number of rows that the command wrote to the erasable store; zero for a rename.
    pub seals: i64,
    /// Number of rows that the command wrote to the feed.
    pub feed: i64,
}

/// Returns the query for the newest rename. `at` is the schema of the register's tables with a dot, or empty.
fn query(at: &str) -> String {
    format!(
        "SELECT c.payload_type, c.envelope, c.signatures, r.head, r.state, v.sort_name, \
         (SELECT count(*) FROM {at}seals s WHERE s.record = c.record), \
         (SELECT count(*) FROM {at}feed f WHERE f.record = c.record AND f.version = c.version) \
         FROM {at}changes c JOIN {at}records r ON r.record = c.record JOIN {at}cities v ON v.record = c.record \
         WHERE c.version > 1 ORDER BY c.seq DESC LIMIT 1"
    )
}

impl Sample {
    /// Reads the sample from the newest rename in a file.
    pub fn file(file: &Path) -> anyhow::Result<Self> {
        let row = |row: &rusqlite::Row| {
            Ok(Self {
                kind: row.get(0)?,
                envelope: row.get(1)?,
                signatures: row.get(2)?,
                head: row.get(3)?,
                state: row.get(4)?,
                sort_name: row.get(5)?,
                seals: row.get(6)?,
                feed: row.get(7)?,
            })
        };
        Connection::open(file)?.query_row(&query(""), [], row)?.expected()
    }

    /// Reads the sample from the newest rename on a server.
    pub async fn server(db: &DatabaseConnection) -> anyhow::Result<Self> {
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query("register."))).await?;
        let row = row.context("the database contains no rename")?;
        Self {
            kind: row.try_get_by_index(0)?,
            envelope: row.try_get_by_index(1)?,
            signatures: row.try_get_by_index(2)?,
            head: row.try_get_by_index(3)?,
            state: row.try_get_by_index(4)?,
            sort_name: row.try_get_by_index(5)?,
            seals: row.try_get_by_index(6)?,
            feed: row.try_get_by_index(7)?,
        }
        .expected()
    }

    /// Checks that the program writes one row per table, as the floors do.
    fn expected(self) -> anyhow::Result<Self> {
        anyhow::ensure!(self.seals == 0 && self.feed == 1, "a rename and the floor write different rows: {self:?}");
        Ok(self)
    }
}
