//! A service's database: one SQLite file per service, or one PostgreSQL schema per service.
//!
//! Most of the journal is the same for both engines. The rest branches on [`Backend`]: the SQL of batches, row locks, and
//! positions of the feed, which SQLite's single writer can assign at commit.

pub(crate) mod batch;
pub(crate) mod connection;
pub(crate) mod dirty_keys;
pub(crate) mod error;
pub(crate) mod loader;
pub(crate) mod migration;
pub(crate) mod migrations;
pub(crate) mod outbox_message;
pub mod tables;

use crate::{
    limits::{
        CONNECTION_IDLE, POSTGRES_CONNECTIONS, POSTGRES_READS, POSTGRES_WAIT, POSTGRES_WRITES, SCRUB_TRIES,
        SQLITE_BUSY, SQLITE_CACHE_KIB, SQLITE_READERS, SQLITE_ROWS,
    },
    store::{
        connection::Connection,
        error::StoreError,
        migrations::{migrate, refuse_before_v1},
    },
};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    sqlx::{Connection as _, postgres::PgConnectOptions},
};
use sea_orm_migration::MigratorTrait;
use std::path::Path;

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// SQLite: one file, written by one process.
    Sqlite,
    /// PostgreSQL: a server that several replicas write to.
    Postgres,
}

/// Selects the owner of a schema if it is another role that the current user may assume.
const OWNER: &str = "SELECT quote_ident(pg_get_userbyid(nspowner)) FROM pg_namespace \
    WHERE pg_get_userbyid(nspowner) <> current_user AND pg_has_role(nspowner, 'MEMBER') AND nspname =";

/// A service's database.
#[derive(Clone, Debug)]
pub struct Store {
    /// Supplies the connections of transactions.
    pool: DatabaseConnection,
    writer: Connection,
    reader: Connection,
    backend: Backend,
}

impl Store {
    /// Opens or creates a SQLite file and applies the pending migrations. A commit survives a power cut (synchronous FULL).
    ///
    /// SQLite overwrites erased values with zeros (`secure_delete`), so that free pages hold nothing of them. The write-ahead
    /// log still contains the old pages. The store truncates the log after each erasure, and at each start in case a crash
    /// prevented that.
    ///
    /// # Errors
    /// If the file cannot be opened or migrated.
    pub async fn sqlite<M: MigratorTrait>(file: &Path) -> Result<Self, StoreError> {
        let connect = |connections: u32| {
            let file = file.to_owned();
            let mut options = ConnectOptions::new("sqlite://hansa.db?mode=rwc");
            options.max_connections(connections).min_connections(1).sqlx_logging(false);
            // A file cannot disconnect. `before_acquire` below is the check that matters.
            options.test_before_acquire(false);
            options.map_sqlx_sqlite_opts(move |o| {
                o.filename(&file)
                    .create_if_missing(true)
                    .busy_timeout(SQLITE_BUSY)
                    .row_buffer_size(SQLITE_ROWS)
                    .foreign_keys(true)
                    .pragma("journal_mode", "WAL")
                    .pragma("synchronous", "FULL")
                    .pragma("secure_delete", "ON")
                    .pragma("cache_size", format!("-{SQLITE_CACHE_KIB}"))
            });
            // If the disk fails, SQLite rolls the transaction back, but sqlx still counts it as open. Later statements on this
            // connection would be acknowledged and never committed, so the pool drops the connection.
            options.map_sqlx_sqlite_pool_opts(|pool| {
                pool.before_acquire(|connection, _| {
                    let clean = !connection.is_in_transaction();
                    Box::pin(async move { Ok(clean) })
                })
            });
            Database::connect(options)
        };
        if file.exists() {
            // A connection that may write would merge the write-ahead log into the file, so the check uses one that only reads.
            let mut options = ConnectOptions::new("sqlite://hansa.db?mode=ro");
            let old = file.to_owned();
            options
                .max_connections(1)
                .sqlx_logging(false)
                .map_sqlx_sqlite_opts(move |o| o.filename(&old).read_only(true));
            let old = Database::connect(options).await?;
            refuse_before_v1(&old).await?;
            old.close().await?;
        }
        let pool = connect(1).await?;
        migrate::<M>(&pool).await?;
        let reader = Connection::to_file(&connect(SQLITE_READERS).await?, SQLITE_READERS);
        let store = Self { writer: Connection::pooled(&pool), pool, reader, backend: Backend::Sqlite };
        store.scrub().await;
        Ok(store)
    }

    /// Connects to a PostgreSQL server, creates the schema if it is missing, and applies the pending migrations. An advisory
    /// lock serializes replicas that start together. A database that a newer version has already migrated is used unchanged.
    ///
    /// # Errors
    /// If the server is unreachable or refuses the connection.
    pub async fn postgres<M: MigratorTrait>(url: &str, schema: &'static str) -> Result<Self, StoreError> {
        // The driver's own error would quote the whole address, including the password.
        if let Err(error) = url.parse::<PgConnectOptions>() {
            return Err(DbErr::Conn(RuntimeErr::Internal(format!(
                "the address of the database is malformed: {error}"
            ))));
        }
        let options = |connections: u32| {
            let mut options = ConnectOptions::new(url);
            options.max_connections(connections).min_connections(1).sqlx_logging(false);
            options.acquire_timeout(POSTGRES_WAIT).connect_timeout(POSTGRES_WAIT);
            options.test_before_acquire_if_idle_for(CONNECTION_IDLE);
            options.set_schema_search_path(schema).set_application_name(format!("hansa-{schema}"));
            options
        };
        let first = Database::connect(options(1)).await?;
        refuse_before_v1(&first).await?;
        let say = |sql: String| Statement::from_string(first.get_database_backend(), sql);
        first.execute_raw(say("SELECT pg_advisory_lock(7206981)".into())).await?;
        // `CREATE SCHEMA IF NOT EXISTS` needs the right to create schemas even if the schema exists. A service's user need not
        // have that right.
        let there = say(format!("SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'"));
        if first.query_one_raw(there).await?.is_none() {
            first.execute_raw(say(format!("CREATE SCHEMA {schema}"))).await?;
        }
        // New tables belong to the owner of the schema, even if an administrator runs the migration (`hansa doctor`).
        if let Some(owner) = first.query_one_raw(say(format!("{OWNER} '{schema}'"))).await? {
            first.execute_raw(say(format!("SET ROLE {}", owner.try_get_by_index::<String>(0)?))).await?;
        }
        migrate::<M>(&first).await?;
        first.execute_raw(say("SELECT pg_advisory_unlock(7206981)".into())).await?;
        first.close().await?;
        let pool = Database::connect(options(POSTGRES_CONNECTIONS)).await?;
        let to_server = |most| Connection::to_server(&pool, most, POSTGRES_WAIT);
        let (writer, reader) = (to_server(POSTGRES_WRITES), to_server(POSTGRES_READS));
        Ok(Self { writer, reader, pool, backend: Backend::Postgres })
    }

    /// Returns the engine.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Returns the engine as the query builder names it.
    #[must_use]
    pub fn engine(&self) -> DbBackend {
        self.reader.get_database_backend()
    }

    /// Returns the connections for single-statement writes. They are separate so that heavy reading cannot exhaust them.
    #[must_use]
    pub fn writer(&self) -> &Connection {
        &self.writer
    }

    /// Returns the connections for reading.
    #[must_use]
    pub fn reader(&self) -> &Connection {
        &self.reader
    }

    /// Truncates SQLite's write-ahead log, so that erased values disappear from it. On PostgreSQL this does nothing: the next
    /// vacuum removes the dead rows, and logs and backups live as long as the operator keeps them.
    pub(crate) async fn scrub(&self) {
        if self.backend == Backend::Postgres {
            return;
        }
        for _ in 0..SCRUB_TRIES {
            let checkpoint = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(TRUNCATE)");
            let busy = match self.writer.query_one_raw(checkpoint).await {
                Ok(row) => row.and_then(|row| row.try_get_by_index::<i32>(0).ok()) != Some(0),
                Err(error) => {
                    tracing::warn!(%error, "the write-ahead log could not be truncated");
                    true
                }
            };
            if !busy {
                return;
            }
        }
        tracing::error!("the write-ahead log still contains erased values; the next erasure or restart truncates it");
    }

    /// Begins a transaction that will write. On SQLite it takes the write lock immediately, because a deferred lock fails if
    /// another writer is active.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        let mut options = TransactionOptions::default();
        if self.backend == Backend::Sqlite {
            options.sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        }
        self.pool.begin_with_options(options).await
    }
}
