//! Connections for single statements.
//!
//! sqlx checks a connection by a round trip in a task of its own each time it returns to the pool. That takes longer than many a
//! statement. So a connection whose statement succeeded is kept here for the next one. After a failed or cancelled statement it
//! returns to the pool, which checks it.

use crate::{
    limits::{CONNECTION_IDLE, CONNECTION_KEPT, POSTGRES_WAIT},
    store::error::StoreError,
};
use async_trait::async_trait;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement,
    sea_query::Values,
    sqlx::{
        self, AssertSqlSafe, Connection as _, Database, Executor, IntoArguments, Pool, Postgres, Sqlite,
        pool::PoolConnection, query::Query,
    },
};
use sea_query_sqlx::SqlxValues;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Executes single statements. Each statement is a transaction of its own and sees what was committed before it.
#[derive(Clone, Debug)]
pub struct Connection(Target);

#[derive(Clone, Debug)]
enum Target {
    /// The connection pool itself.
    Pooled(DatabaseConnection),
    Sqlite(Arc<StatementPool<Sqlite>>),
    Postgres(Arc<StatementPool<Postgres>>),
}

impl Connection {
    /// Acquires a connection from the pool for each statement, because transactions need it too.
    pub(crate) fn pooled(pool: &DatabaseConnection) -> Self {
        Self(Target::Pooled(pool.clone()))
    }

    /// Keeps up to `most` connections of a pool to a file, possibly all of them.
    pub(crate) fn to_file(pool: &DatabaseConnection, most: u32) -> Self {
        Self(Target::Sqlite(StatementPool::of(pool.get_sqlite_connection_pool(), most, None)))
    }

    /// Keeps up to `most` connections of a pool to a server and leaves the others to transactions. A statement waits at most
    /// `patience` for a connection.
    pub(crate) fn to_server(pool: &DatabaseConnection, most: u32, patience: Duration) -> Self {
        Self(Target::Postgres(StatementPool::of(pool.get_postgres_connection_pool(), most, Some(patience))))
    }
}

/// The connections of a pool that are kept for single statements.
struct StatementPool<DB: Database> {
    pool: Pool<DB>,
    /// Limits the statements that run concurrently.
    permits: Arc<Semaphore>,
    /// How long a statement waits for a permit; `None` for a file, which needs no limit.
    patience: Option<Duration>,
    idle: Mutex<Vec<IdleConnection<DB>>>,
}

/// A kept connection that waits for its next statement.
struct IdleConnection<DB: Database> {
    connection: PoolConnection<DB>,
    /// When it was acquired from the pool.
    taken: Instant,
    /// When it last finished a statement.
    used: Instant,
}

/// A connection that executes a statement, and its permit. Unless it is kept afterwards it returns to the pool when dropped: the
/// statement failed, or its caller was cancelled.
struct BusyConnection<DB: Database> {
    /// `Some` until it is kept or dropped.
    inner: Option<(PoolConnection<DB>, OwnedSemaphorePermit)>,
    taken: Instant,
}

impl<DB: Database> BusyConnection<DB> {
    fn connection(&mut self) -> &mut DB::Connection {
        &mut self.inner.as_mut().expect("a connection is kept or dropped only once").0
    }
}

impl<DB: Database> Drop for BusyConnection<DB> {
    /// Releases the permit only after the database has finished the cancelled statement. Otherwise a caller who disconnects
    /// repeatedly would occupy one connection after the other.
    fn drop(&mut self) {
        if let (Some((mut connection, permit)), Ok(runtime)) = (self.inner.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if !matches!(tokio::time::timeout(POSTGRES_WAIT, connection.ping()).await, Ok(Ok(()))) {
                    // The pool would wait for it for ever.
                    drop(connection.detach());
                }
                drop(permit);
            });
        }
    }
}

impl<DB: Database> std::fmt::Debug for StatementPool<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatementPool").field("idle", &self.idle().len()).finish_non_exhaustive()
    }
}

impl<DB: Database> StatementPool<DB> {
    fn of(pool: &Pool<DB>, most: u32, patience: Option<Duration>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Arc::new(Self { pool: pool.clone(), permits, patience, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<IdleConnection<DB>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a kept connection, or acquires one from the pool.
    async fn take(&self) -> Result<BusyConnection<DB>, StoreError> {
        match self.patience {
            Some(patience) => tokio::time::timeout(patience, self.take_unbounded())
                .await
                .unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))),
            None => self.take_unbounded().await,
        }
    }

    async fn take_unbounded(&self) -> Result<BusyConnection<DB>, StoreError> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        self.release_idle();
        let kept = self.idle().pop();
        let (connection, taken) = match kept {
            Some(IdleConnection { connection, taken, .. }) => (connection, taken),
            None => (self.pool.acquire().await.map_err(acquire_error)?, Instant::now()),
        };
        Ok(BusyConnection { inner: Some((connection, permit)), taken })
    }

    /// Returns idle connections to the pool: transactions may need them, and the server may have closed them.
    fn release_idle(&self) {
        self.idle().retain(|idle| idle.used.elapsed() < CONNECTION_IDLE);
    }

    /// Keeps a connection whose statement succeeded. After `CONNECTION_KEPT` it returns to the pool, which closes old connections.
    fn keep(&self, mut busy: BusyConnection<DB>) {
        self.release_idle();
        let taken = busy.taken;
        if let Some((connection, _permit)) = busy.inner.take().filter(|_| taken.elapsed() < CONNECTION_KEPT) {
            self.idle().push(IdleConnection { connection, taken, used: Instant::now() });
        }
    }
}

/// Executes statements of either engine.
impl<DB: Database> StatementPool<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    ExecResult: From<DB::QueryResult>,
    QueryResult: From<DB::Row>,
{
    async fn execute(&self, statement: Statement) -> Result<ExecResult, StoreError> {
        let mut busy = self.take().await?;
        let done = query(statement).execute(busy.connection()).await.map_err(|e| DbErr::Exec(runtime_error(e)))?;
        self.keep(busy);
        Ok(done.into())
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, StoreError> {
        let mut busy = self.take().await?;
        let done = busy
            .connection()
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .map_err(|e| DbErr::Exec(runtime_error(e)))?;
        self.keep(busy);
        Ok(done.into())
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>, StoreError> {
        let mut busy = self.take().await?;
        let rows = query(statement).fetch_all(busy.connection()).await.map_err(|e| DbErr::Query(runtime_error(e)))?;
        self.keep(busy);
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

fn runtime_error(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(error.into())
}

fn acquire_error(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        other => DbErr::Conn(runtime_error(other)),
    }
}

fn query<DB: Database>(statement: Statement) -> Query<'static, DB, SqlxValues>
where
    SqlxValues: IntoArguments<DB>,
{
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

#[async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        match &self.0 {
            Target::Pooled(pool) => pool.get_database_backend(),
            Target::Sqlite(_) => DbBackend::Sqlite,
            Target::Postgres(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Target::Pooled(pool) => pool.execute_raw(statement).await,
            Target::Sqlite(kept) => kept.execute(statement).await,
            Target::Postgres(kept) => kept.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Target::Pooled(pool) => pool.execute_unprepared(sql).await,
            Target::Sqlite(kept) => kept.execute_unprepared(sql).await,
            Target::Postgres(kept) => kept.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &self.0 {
            Target::Pooled(pool) => pool.query_all_raw(statement).await,
            Target::Sqlite(kept) => kept.rows(statement).await,
            Target::Postgres(kept) => kept.rows(statement).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::SQLITE_READERS;
    use sea_orm::sqlx::SqlitePool;

    #[tokio::test]
    async fn a_connection_is_kept_until_it_is_old() {
        let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
        let kept = StatementPool::of(&pool, SQLITE_READERS, None);
        assert_eq!(kept.permits.available_permits(), SQLITE_READERS as usize);
        for (ago, left) in [(CONNECTION_KEPT, 0), (Duration::ZERO, 1)] {
            let mut busy = kept.take().await.unwrap();
            assert_eq!(kept.permits.available_permits(), SQLITE_READERS as usize - 1);
            busy.taken = Instant::now().checked_sub(ago).unwrap();
            kept.keep(busy);
            assert_eq!(kept.idle().len(), left);
        }
        assert_eq!(kept.permits.available_permits(), SQLITE_READERS as usize);
        // A dropped connection is not kept.
        drop(kept.take().await.unwrap());
        let all = kept.permits.acquire_many(SQLITE_READERS).await.unwrap();
        assert!(kept.idle().is_empty());
        drop(all);
    }

    #[tokio::test]
    async fn an_idle_connection_returns_to_the_pool() {
        let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
        let kept = StatementPool::of(&pool, SQLITE_READERS, None);
        kept.keep(kept.take().await.unwrap());
        kept.idle()[0].used = Instant::now().checked_sub(CONNECTION_IDLE).unwrap();
        let used = kept.take().await.unwrap();
        assert!(
            used.taken.elapsed() < CONNECTION_IDLE && kept.idle().is_empty(),
            "it is another connection of the pool"
        );
    }
}
