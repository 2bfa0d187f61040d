//! Connections to the database for statements that stand alone. sqlx asks a connection whether it is well each time that it
//! comes back to the pool, by a round trip and a task of its own: that is more than many a statement takes. So those that did
//! what was asked stay here, ready for the next statement; whichever did not goes back to the pool, which looks at it.

use crate::{
    limits::{CONNECTION_IDLE, CONNECTION_KEPT, POSTGRES_WAIT},
    store::StoreError,
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

/// Where statements that stand alone are sent: each sees what was committed before it, and is a transaction of its own.
#[derive(Clone, Debug)]
pub struct Connection(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// A pool by itself.
    Pooled(DatabaseConnection),
    Sqlite(Arc<Kept<Sqlite>>),
    Postgres(Arc<Kept<Postgres>>),
}

impl Connection {
    /// Takes each connection out of a pool for one statement: transactions need it as well.
    pub(crate) fn pooled(pool: &DatabaseConnection) -> Self {
        Self(Kind::Pooled(pool.clone()))
    }

    /// Keeps up to so many connections of a pool to a file, all of them if need be.
    pub(crate) fn to_file(pool: &DatabaseConnection, most: u32) -> Self {
        Self(Kind::Sqlite(Kept::of(pool.get_sqlite_connection_pool(), most, None)))
    }

    /// Keeps up to so many connections of a pool to a server. The pool's other ones are left to transactions.
    pub(crate) fn to_server(pool: &DatabaseConnection, most: u32, patience: Duration) -> Self {
        Self(Kind::Postgres(Kept::of(pool.get_postgres_connection_pool(), most, Some(patience))))
    }
}

/// Some connections of a pool.
struct Kept<DB: Database> {
    pool: Pool<DB>,
    /// One for each statement that may run at once.
    places: Arc<Semaphore>,
    /// How long a statement waits for a place at a server. A file is always there.
    patience: Option<Duration>,
    idle: Mutex<Vec<Idle<DB>>>,
}

/// A connection that waits for its next statement.
struct Idle<DB: Database> {
    connection: PoolConnection<DB>,
    /// When it was taken out of the pool.
    taken: Instant,
    /// When it did its last statement.
    used: Instant,
}

/// A connection that does a statement, and its place. Where it is not kept afterwards, since the statement failed or whoever
/// asked waits no more, it goes back to the pool.
struct Held<DB: Database> {
    /// There until it is kept or dropped.
    busy: Option<(PoolConnection<DB>, OwnedSemaphorePermit)>,
    taken: Instant,
}

impl<DB: Database> Held<DB> {
    fn connection(&mut self) -> &mut DB::Connection {
        &mut self.busy.as_mut().expect("it is dropped or kept once").0
    }
}

impl<DB: Database> Drop for Held<DB> {
    /// The database may still be at what nobody waits for any more. The place is free again when it is done with it: whoever
    /// hangs up again and again would otherwise take one connection after the other.
    fn drop(&mut self) {
        if let (Some((mut connection, place)), Ok(runtime)) = (self.busy.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if !matches!(tokio::time::timeout(POSTGRES_WAIT, connection.ping()).await, Ok(Ok(()))) {
                    // The pool would wait for it without end.
                    drop(connection.detach());
                }
                drop(place);
            });
        }
    }
}

impl<DB: Database> std::fmt::Debug for Kept<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("idle", &self.idle().len()).finish_non_exhaustive()
    }
}

impl<DB: Database> Kept<DB> {
    fn of(pool: &Pool<DB>, most: u32, patience: Option<Duration>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Arc::new(Self { pool: pool.clone(), places, patience, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle<DB>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was well a moment ago.
    async fn take(&self) -> Result<Held<DB>, StoreError> {
        match self.patience {
            Some(patience) => tokio::time::timeout(patience, self.taken())
                .await
                .unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))),
            None => self.taken().await,
        }
    }

    async fn taken(&self) -> Result<Held<DB>, StoreError> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        self.let_go();
        let kept = self.idle().pop();
        let (connection, taken) = match kept {
            Some(Idle { connection, taken, .. }) => (connection, taken),
            None => (self.pool.acquire().await.map_err(not_acquired)?, Instant::now()),
        };
        Ok(Held { busy: Some((connection, place)), taken })
    }

    /// Gives back what nobody had use for in a while: transactions may have, and a server may have gone meanwhile. The pool
    /// looks at it.
    fn let_go(&self) {
        self.idle().retain(|idle| idle.used.elapsed() < CONNECTION_IDLE);
    }

    /// Keeps a connection that did what was asked. Now and then the pool gets it back: it ends those that are old.
    fn keep(&self, mut held: Held<DB>) {
        self.let_go();
        let taken = held.taken;
        if let Some((connection, _place)) = held.busy.take().filter(|_| taken.elapsed() < CONNECTION_KEPT) {
            self.idle().push(Idle { connection, taken, used: Instant::now() });
        }
    }
}

/// What runs statements of either engine.
impl<DB: Database> Kept<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    ExecResult: From<DB::QueryResult>,
    QueryResult: From<DB::Row>,
{
    async fn execute(&self, statement: Statement) -> Result<ExecResult, StoreError> {
        let mut held = self.take().await?;
        let done = query(statement).execute(held.connection()).await.map_err(|e| DbErr::Exec(because(e)))?;
        self.keep(held);
        Ok(done.into())
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, StoreError> {
        let mut held = self.take().await?;
        let done =
            held.connection().execute(AssertSqlSafe(sql.to_owned())).await.map_err(|e| DbErr::Exec(because(e)))?;
        self.keep(held);
        Ok(done.into())
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>, StoreError> {
        let mut held = self.take().await?;
        let rows = query(statement).fetch_all(held.connection()).await.map_err(|e| DbErr::Query(because(e)))?;
        self.keep(held);
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

fn because(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(error.into())
}

fn not_acquired(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        other => DbErr::Conn(because(other)),
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
            Kind::Pooled(pool) => pool.get_database_backend(),
            Kind::Sqlite(_) => DbBackend::Sqlite,
            Kind::Postgres(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Kind::Pooled(pool) => pool.execute_raw(statement).await,
            Kind::Sqlite(kept) => kept.execute(statement).await,
            Kind::Postgres(kept) => kept.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Kind::Pooled(pool) => pool.execute_unprepared(sql).await,
            Kind::Sqlite(kept) => kept.execute_unprepared(sql).await,
            Kind::Postgres(kept) => kept.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &self.0 {
            Kind::Pooled(pool) => pool.query_all_raw(statement).await,
            Kind::Sqlite(kept) => kept.rows(statement).await,
            Kind::Postgres(kept) => kept.rows(statement).await,
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
    async fn a_connection_is_kept_for_a_while() {
        let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
        let kept = Kept::of(&pool, SQLITE_READERS, None);
        assert_eq!(kept.places.available_permits(), SQLITE_READERS as usize);
        for (ago, left) in [(CONNECTION_KEPT, 0), (Duration::ZERO, 1)] {
            let mut held = kept.take().await.unwrap();
            assert_eq!(kept.places.available_permits(), SQLITE_READERS as usize - 1);
            held.taken = Instant::now().checked_sub(ago).unwrap();
            kept.keep(held);
            assert_eq!(kept.idle().len(), left);
        }
        assert_eq!(kept.places.available_permits(), SQLITE_READERS as usize);
        // Nobody takes back what was not said to have done its work.
        drop(kept.take().await.unwrap());
        let all = kept.places.acquire_many(SQLITE_READERS).await.unwrap();
        assert!(kept.idle().is_empty());
        drop(all);
    }

    #[tokio::test]
    async fn what_lies_unused_goes_back() {
        let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
        let kept = Kept::of(&pool, SQLITE_READERS, None);
        kept.keep(kept.take().await.unwrap());
        kept.idle()[0].used = Instant::now().checked_sub(CONNECTION_IDLE).unwrap();
        let used = kept.take().await.unwrap();
        assert!(used.taken.elapsed() < CONNECTION_IDLE && kept.idle().is_empty(), "another one from the pool");
    }
}
