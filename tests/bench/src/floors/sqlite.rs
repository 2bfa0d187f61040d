//! The floor for SQLite: its C interface, called from one thread without a connection pool or an async runtime.

use super::sample::Sample;
use rusqlite::{Connection, params, types::Value};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A file with the same tables as the program's.
pub struct Floor {
    db: Connection,
    sample: Sample,
    records: usize,
    turn: i64,
}

/// Opens or creates a file with the same durability settings as the program's.
fn open(file: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(file)?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16000; \
         PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;",
    )?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// Returns the statements that create the tables and indexes of a file.
fn schema(db: &Connection) -> anyhow::Result<Vec<String>> {
    let mut found = db.prepare(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type DESC, rowid",
    )?;
    let rows = found.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    Ok(rows)
}

/// Derives an id from a number. The ids are distributed like those of the program.
fn id(number: i64) -> [u8; 16] {
    let spread = (i128::from(number) + 1).cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Uuid::from_u128(spread).into_bytes()
}

impl Floor {
    /// Creates a file with the tables of `like`, and fills it with records.
    pub fn make(file: &Path, like: &Path, records: usize) -> anyhow::Result<Self> {
        let sample = Sample::file(like)?;
        let db = open(file)?;
        for statement in schema(&Connection::open(like)?)? {
            db.execute_batch(&statement)?;
        }
        let floor = Self { db, sample, records, turn: 0 };
        floor.db.execute_batch("BEGIN")?;
        for number in 0..i64::try_from(records)? {
            floor.entry(number, 1)?;
        }
        floor.db.execute_batch("COMMIT")?;
        Ok(floor)
    }

    fn entry(&self, number: i64, version: i64) -> anyhow::Result<()> {
        let Sample { head, state, sort_name, .. } = &self.sample;
        let record = id(number);
        self.db
            .prepare_cached(
                "INSERT INTO records (record, name, version, head, revision, state, due_at, frozen) \
                 VALUES (?1, ?2, ?3, ?4, 1, ?5, NULL, NULL) ON CONFLICT (record) DO UPDATE SET name = excluded.name, \
                 version = excluded.version, head = excluded.head, revision = excluded.revision, \
                 state = excluded.state, due_at = excluded.due_at, frozen = excluded.frozen",
            )?
            .execute(params![record, "cities/01234567-89ab-cdef-0123-456789abcdef", version, head, state])?;
        self.db
            .prepare_cached(
                "INSERT INTO cities (record, sort_name, country, tier, size_class, joined, registered) \
                 VALUES (?1, ?2, 'DE', 1, 1, 0, 1) ON CONFLICT (record) DO UPDATE SET sort_name = excluded.sort_name, \
                 country = excluded.country, tier = excluded.tier, size_class = excluded.size_class, \
                 joined = excluded.joined, registered = excluded.registered",
            )?
            .execute(params![record, sort_name])?;
        Ok(())
    }

    fn command(&mut self) -> anyhow::Result<()> {
        self.turn += 1;
        let turn = self.turn;
        let number = turn % i64::try_from(self.records)?;
        let record = id(number);
        let Sample { kind, envelope, signatures, .. } = &self.sample;
        self.db
            .prepare_cached(
                "INSERT INTO changes (record, version, payload_type, envelope, signatures, received_at, trace, stream_sequence) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?2, NULL, NULL)",
            )?
            .execute(params![record, turn, kind, envelope, signatures])?;
        let request = Uuid::now_v7().into_bytes();
        self.db
            .prepare_cached(
                "INSERT INTO requests (tenant, request, fingerprint, record, version, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            )?
            .execute(params![[7_u8; 16], request, [9_u8; 16], record, turn])?;
        self.db
            .prepare_cached("INSERT INTO feed (position, tenant, record, version) VALUES (?1, ?2, ?3, ?1)")?
            .execute(params![turn, [0_u8; 16], record])?;
        self.entry(number, turn)
    }

    /// Measures commands per second, with `together` commands per commit.
    pub fn run(&mut self, long: Duration, together: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        let mut done = 0.0;
        while began.elapsed() < long {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            for _ in 0..together {
                self.command()?;
                done += 1.0;
            }
            self.db.execute_batch("COMMIT")?;
        }
        Ok(done / began.elapsed().as_secs_f64())
    }
}

/// The rows of some tables of a file, to be written to another file.
pub struct Rows {
    schema: Vec<String>,
    tables: Vec<(String, Vec<Vec<Value>>)>,
}

impl Rows {
    /// Reads the rows of the tables.
    pub fn read(file: &Path, tables: &[&str]) -> anyhow::Result<Self> {
        let db = Connection::open(file)?;
        let mut out = Self { schema: schema(&db)?, tables: Vec::new() };
        for table in tables {
            let mut query = db.prepare(&format!("SELECT * FROM {table}"))?;
            let columns = query.column_count();
            let rows = query
                .query_map([], |row| (0..columns).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>())?
                .collect::<Result<Vec<_>, _>>()?;
            out.tables.push(((*table).to_owned(), rows));
        }
        Ok(out)
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// Writes all rows to a new file, with `batch` rows of each table per commit. Returns the seconds that this took.
    pub fn write(&self, file: &Path, batch: usize) -> anyhow::Result<f64> {
        let db = open(file)?;
        for statement in &self.schema {
            db.execute_batch(statement)?;
        }
        let most = self.tables.iter().map(|(_, rows)| rows.len()).max().unwrap_or_default();
        let began = Instant::now();
        for from in (0..most).step_by(batch) {
            db.execute_batch("BEGIN IMMEDIATE")?;
            for (table, rows) in &self.tables {
                for row in rows.iter().skip(from).take(batch) {
                    let places = vec!["?"; row.len()].join(", ");
                    db.prepare_cached(&format!("INSERT INTO {table} VALUES ({places})"))?
                        .execute(rusqlite::params_from_iter(row))?;
                }
            }
            db.execute_batch("COMMIT")?;
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Reads only the changes of a journal. Returns the seconds that this took, and the number of changes.
pub fn read_changes(file: &Path) -> anyhow::Result<(f64, usize)> {
    let db = open(file)?;
    let began = Instant::now();
    let mut query =
        db.prepare("SELECT seq, record, version, payload_type, envelope, signatures FROM changes ORDER BY seq")?;
    let mut rows = query.query([])?;
    let mut count = 0;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        bytes += row.get::<_, Vec<u8>>(4)?.len() + row.get::<_, Vec<u8>>(5)?.len() + row.get::<_, String>(3)?.len();
        count += 1;
    }
    std::hint::black_box(bytes);
    Ok((began.elapsed().as_secs_f64(), count))
}

/// Returns the bytes of all used pages of a file, after a checkpoint of its write-ahead log.
pub fn bytes(file: &Path) -> anyhow::Result<f64> {
    let db = Connection::open(file)?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, f64>(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}

/// Returns the number that a query selects.
pub fn number(file: &Path, query: &str) -> anyhow::Result<f64> {
    Ok(Connection::open(file)?.query_row(query, [], |row| row.get(0))?)
}
