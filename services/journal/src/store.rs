//! The store: SQLite, a file a service, or PostgreSQL, a schema a service. Which one it is, nobody above this file asks.

use crate::{
    connection::Connection,
    limits::{
        CONNECTION_IDLE, POSTGRES_CONNECTIONS, POSTGRES_READS, POSTGRES_WAIT, POSTGRES_WRITES, SCRUB_TRIES,
        SQLITE_BUSY, SQLITE_CACHE_KIB, SQLITE_READERS, SQLITE_ROWS,
    },
    migrations::migrate,
};
use hansa_kernel::{Reason, Refusal};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    sqlx::{self, Connection as _, postgres::PgConnectOptions},
};
use sea_orm_migration::MigratorTrait;
use std::path::Path;

/// The database engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One file, one writing process.
    Sqlite,
    /// A server; several replicas may write.
    Postgres,
}

/// Who owns a schema, where it is another whom this user may act for.
const OWNER: &str = "SELECT quote_ident(pg_get_userbyid(nspowner)) FROM pg_namespace \
    WHERE pg_get_userbyid(nspowner) <> current_user AND pg_has_role(nspowner, 'MEMBER') AND nspname =";

/// A failure of the database.
pub type StoreError = DbErr;

/// A service's database.
#[derive(Clone, Debug)]
pub struct Store {
    /// Where transactions that write take their connections from.
    pool: DatabaseConnection,
    writer: Connection,
    reader: Connection,
    backend: Backend,
}

impl Store {
    /// Opens or makes a file and brings its tables up to date. A commit survives the loss of power (synchronous FULL).
    ///
    /// What is erased is overwritten with zeros (`secure_delete`), so that nothing of it stays in free pages. The
    /// write-ahead log still holds the pages as they were before: it is emptied after each erasure, and at each start for the
    /// case that a crash came between the two.
    ///
    /// # Errors
    /// Where the file cannot be opened or migrated.
    pub async fn sqlite<M: MigratorTrait>(file: &Path) -> Result<Self, StoreError> {
        let connect = |connections: u32| {
            let file = file.to_owned();
            let mut options = ConnectOptions::new("sqlite://hansa.db?mode=rwc");
            options.max_connections(connections).min_connections(1).sqlx_logging(false);
            // A file cannot hang up; the check below is the one that counts.
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
            // SQLite takes a transaction back by itself where the disk fails, and sqlx then still counts it as open: what
            // follows would be a part of it, acknowledged and never committed. Such a connection is not used again.
            options.map_sqlx_sqlite_pool_opts(|pool| {
                pool.before_acquire(|connection, _| {
                    let clean = !connection.is_in_transaction();
                    Box::pin(async move { Ok(clean) })
                })
            });
            Database::connect(options)
        };
        let pool = connect(1).await?;
        migrate::<M>(&pool).await?;
        let reader = Connection::to_file(&connect(SQLITE_READERS).await?, SQLITE_READERS);
        let store = Self { writer: Connection::pooled(&pool), pool, reader, backend: Backend::Sqlite };
        store.scrub().await;
        Ok(store)
    }

    /// Connects to a server, makes the schema where it is missing, and brings its tables up to date. Replicas that start
    /// together take turns. A database that a newer version has brought further is used as it is.
    ///
    /// # Errors
    /// Where the server is away or refuses.
    pub async fn postgres<M: MigratorTrait>(url: &str, schema: &'static str) -> Result<Self, StoreError> {
        // The driver would quote the whole address, and with it the password.
        if let Err(error) = url.parse::<PgConnectOptions>() {
            return Err(DbErr::Conn(RuntimeErr::Internal(format!("its address cannot be read: {error}"))));
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
        let say = |sql: String| Statement::from_string(first.get_database_backend(), sql);
        first.execute_raw(say("SELECT pg_advisory_lock(7206981)".into())).await?;
        // PostgreSQL asks for the right to make schemas even where this one is there: a service's own user need not have it.
        let there = say(format!("SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'"));
        if first.query_one_raw(there).await?.is_none() {
            first.execute_raw(say(format!("CREATE SCHEMA {schema}"))).await?;
        }
        // What is made belongs to whom the schema belongs to, also where somebody else looks after it (`hansa doctor`).
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

    /// Which engine it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Which engine it is, as queries are built for it.
    #[must_use]
    pub fn engine(&self) -> DbBackend {
        self.reader.get_database_backend()
    }

    /// Connections for writing by statements that stand alone: whoever reads much keeps none of them.
    #[must_use]
    pub fn writer(&self) -> &Connection {
        &self.writer
    }

    /// Connections for reading.
    #[must_use]
    pub fn reader(&self) -> &Connection {
        &self.reader
    }

    /// Takes what was erased out of the write-ahead log, by emptying it. PostgreSQL has no part in this: there the dead rows
    /// go with its next vacuum, its log and its backups as long as their operator keeps them.
    pub(crate) async fn scrub(&self) {
        if self.backend == Backend::Postgres {
            return;
        }
        for _ in 0..SCRUB_TRIES {
            let checkpoint = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(TRUNCATE)");
            let busy = match self.writer.query_one_raw(checkpoint).await {
                Ok(row) => row.and_then(|row| row.try_get_by_index::<i32>(0).ok()) != Some(0),
                Err(error) => {
                    tracing::warn!(%error, "the write-ahead log could not be emptied");
                    true
                }
            };
            if !busy {
                return;
            }
        }
        tracing::error!("the write-ahead log still holds what was erased; the next erasure or start empties it");
    }

    /// A transaction that will write. SQLite takes the write lock at once: a deferred one fails when it is busy.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        let mut options = TransactionOptions::default();
        if self.backend == Backend::Sqlite {
            options.sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        }
        self.pool.begin_with_options(options).await
    }
}

/// What is said of a text that PostgreSQL does not take.
const UNSTORABLE: &str = "holds a character that no text of a record has";

/// Whether the database's server is away or not ready yet, so that waiting may help; not where it refuses.
#[must_use]
pub fn is_away(error: &StoreError) -> bool {
    use RuntimeErr::SqlxError;
    use sqlx::Error;
    match error {
        DbErr::ConnectionAcquire(_) => true,
        DbErr::Conn(SqlxError(error)) | DbErr::Exec(SqlxError(error)) | DbErr::Query(SqlxError(error)) => {
            match &**error {
                Error::Io(_) | Error::PoolTimedOut => true,
                // Too many connections; shutting down, crashed, starting.
                Error::Database(said) => matches!(said.code().as_deref(), Some("53300" | "57P01" | "57P02" | "57P03")),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Whether a record's row lacks its revision: somebody has made its state again meanwhile.
pub(crate) fn lacks_a_revision(error: &StoreError) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let sqlx::Error::Database(said) = &**error else { return false };
    let of_records = said.table() == Some("records") || said.message().ends_with("records.revision");
    said.kind() == sqlx::error::ErrorKind::NotNullViolation && of_records
}

/// A failure of the database as a caller sees it. What the database said is logged, never answered.
#[must_use]
pub fn storage(error: &StoreError) -> Refusal {
    // PostgreSQL's texts know no NUL. Rules keep it out of records; a list may be asked for it.
    if error.to_string().contains("invalid byte sequence for encoding") {
        return Refusal::field("request", UNSTORABLE);
    }
    tracing::error!(%error, "the database failed");
    Refusal::because(Reason::Unavailable, "PL-4", "the database is away")
        .help("Send the same again, with the same request_id: what was done already is not done twice.")
}
