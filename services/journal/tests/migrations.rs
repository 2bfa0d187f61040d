//! Migrations: replicas that start concurrently, a version that runs on the next version's schema, and a database user
//! with rights only to its own schema.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, Migrator, enter, name, request};
use futures::future::join_all;
use hansa_journal::Store;
use sea_orm::{ConnectionTrait, Database, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use std::collections::BTreeSet;
use uuid::Uuid;

const REPLICAS: usize = 8;

/// A migration of the next version. It only adds a column.
struct Added;

impl MigrationName for Added {
    fn name(&self) -> &'static str {
        "fixture_0002"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Added {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("ALTER TABLE named ADD COLUMN nickname TEXT").await.map(drop)
    }
}

/// The migrations of the next version.
struct Next;

impl MigratorTrait for Next {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut steps = Migrator::migrations();
        steps.push(Box::new(Added));
        steps
    }
}

/// The migrations of an unrelated program.
struct Foreign;

impl MigratorTrait for Foreign {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Added)]
    }
}

fn database_url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: run these tests with `make test`")
}

fn fresh(prefix: &str) -> &'static str {
    format!("{prefix}_{}", Uuid::now_v7().simple()).leak()
}

/// Returns the applied migrations, in order.
async fn taken(store: &Store) -> Vec<String> {
    let db = store.reader();
    let sql =
        Statement::from_string(db.get_database_backend(), "SELECT version FROM seaql_migrations ORDER BY version");
    db.query_all_raw(sql).await.unwrap().iter().map(|row| row.try_get("", "version").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_take_each_step_once() {
    let schema = fresh("journal");
    let url = database_url();
    let stores = join_all((0..REPLICAS).map(|_| Store::postgres::<Migrator>(&url, schema))).await;
    for store in stores {
        let steps = taken(&store.unwrap()).await;
        let once: BTreeSet<&String> = steps.iter().collect();
        assert_eq!(steps.len(), Migrator::migrations().len());
        assert_eq!(once.len(), steps.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_on_where_the_next_one_has_added_to_the_schema() {
    for old in [Fixture::sqlite().await, Fixture::postgres().await] {
        old.journal.submit(enter("1", "City").idempotent(request(1, 1)), false).await.unwrap();
        old.migrate::<Next>().await.unwrap();
        // Two replicas of the old version: one that already runs, and one that starts now, after a restart or a
        // rollback.
        old.journal.submit(enter("2", "City").idempotent(request(2, 1)), false).await.unwrap();
        let again = old.again().await;
        again.submit(enter("3", "City").idempotent(request(3, 1)), false).await.unwrap();
        for city in ["1", "2", "3"] {
            assert_eq!(again.load::<hansa_register_domain::City>(&name(city)).await.unwrap().unwrap().version, 1);
        }
        assert_eq!(taken(again.store()).await.len(), Next::migrations().len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_line_is_refused() {
    let fixture = Fixture::postgres().await;
    fixture.migrate::<Next>().await.unwrap();
    let db = fixture.journal.store().reader();
    db.execute_unprepared("DELETE FROM seaql_migrations WHERE version = 'fixture_0001'").await.unwrap();
    let refused = fixture.migrate::<Migrator>().await.unwrap_err().to_string();
    assert!(refused.contains("fixture_0002") && refused.contains("fixture_0001"), "{refused}");
    assert!(fixture.migrate::<Foreign>().await.is_ok(), "a program whose migrations are all applied is accepted");
}

/// Returns the URL of the tests' database for another user.
fn url_of(user: &str) -> String {
    let url = database_url();
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{user}:test@{place}")
}

async fn say(statements: &[String]) {
    let admin = Database::connect(database_url()).await.unwrap();
    for sql in statements {
        admin.execute_unprepared(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_no_right_but_to_its_own_schema() {
    let (own, other) = (fresh("own"), fresh("other"));
    say(&[
        format!("CREATE ROLE {own} LOGIN PASSWORD 'test'"),
        format!("CREATE SCHEMA {own} AUTHORIZATION {own}"),
        format!("CREATE SCHEMA {other}"),
    ])
    .await;
    let url = url_of(own);
    let store = Store::postgres::<Migrator>(&url, own).await.unwrap();
    assert_eq!(taken(&store).await.len(), Migrator::migrations().len());
    assert!(Store::postgres::<Migrator>(&url, other).await.is_err(), "the user has no rights to another schema");
    assert!(Store::postgres::<Migrator>(&url, fresh("new")).await.is_err(), "the user cannot create schemas");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caretaker_makes_belongs_to_the_service() {
    let (own, caretaker) = (fresh("own"), fresh("caretaker"));
    say(&[
        format!("CREATE ROLE {own} LOGIN PASSWORD 'test'"),
        format!("CREATE ROLE {caretaker} LOGIN PASSWORD 'test' IN ROLE {own}"),
        format!("CREATE SCHEMA {own} AUTHORIZATION {own}"),
    ])
    .await;
    let looked_after = Store::postgres::<Migrator>(&url_of(caretaker), own).await.unwrap();
    assert_eq!(taken(&looked_after).await.len(), Migrator::migrations().len());
    let store = Store::postgres::<Next>(&url_of(own), own).await.unwrap();
    assert_eq!(taken(&store).await.len(), Next::migrations().len(), "the service owns the created tables");
    looked_after.reader().execute_unprepared("SELECT nickname FROM named").await.unwrap();
}
