//! a snapshot of each service's database schema, per engine. A released migration must not change. The tables
//! of views are generated from entities, so this test fails if an entity changes the schema of an existing version.
//!
//! `TEST_SCHEMA=write` writes the snapshots in `tests/fixtures/schema`. `TEST_SCHEMA_FROM` names another program
//! that creates the schema.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_tests::platform::{SERVICES, database_on};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use std::{fs, path::Path, process::Command};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

const SQLITE: &str = "SELECT type || ' ' || name || ': ' || sql AS line FROM sqlite_master \
    WHERE sql IS NOT NULL ORDER BY type, name";
const POSTGRES_COLUMNS: &str = "SELECT 'column ' || table_name || '.' || column_name || ': ' || data_type || \
    CASE is_nullable WHEN 'YES' THEN ' null' ELSE ' not null' END || \
    COALESCE(' default ' || replace(column_default, table_schema || '.', ''), '') AS line \
    FROM information_schema.columns WHERE table_schema = $1 ORDER BY table_name, ordinal_position";
const POSTGRES_INDEXES: &str = "SELECT 'index ' || replace(indexdef, schemaname || '.', '') AS line \
    FROM pg_indexes WHERE schemaname = $1 ORDER BY tablename, indexname";

/// Applies all migrations to an empty node.
fn migrate(data: &Path, database: &[&str]) {
    let program = std::env::var("TEST_SCHEMA_FROM").unwrap_or_else(|_| HANSA.to_owned());
    let mut command = Command::new(program);
    let output = command.arg("migrate").args(database).arg("--data").arg(data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

async fn lines(db: &DatabaseConnection, sql: &str, schema: Option<&str>) -> Vec<String> {
    let values = schema.map(|schema| schema.to_owned().into());
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get::<String>("", "line").unwrap()).collect()
}

/// Compares a schema with its snapshot, or writes the snapshot.
fn compare(service: &str, engine: &str, found: &[String]) {
    assert!(found.len() > 10, "{service} has no schema on {engine}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/schema");
    let file = folder.join(format!("{service}.{engine}.txt"));
    // A nullable column is the same with and without `NULL`.
    let found =
        found.join("\n").replace("NOT NULL", "NOT-NULL").replace(" NULL", "").replace("NOT-NULL", "NOT NULL") + "\n";
    if std::env::var("TEST_SCHEMA").is_ok_and(|value| value == "write") {
        fs::create_dir_all(&folder).unwrap();
        return fs::write(&file, found).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, kept, "the schema of {service} on {engine} differs from {}: add a migration", file.display());
}

#[tokio::test]
async fn r_9_the_schema_on_sqlite_is_as_released() {
    let folder = tempfile::tempdir().unwrap();
    migrate(folder.path(), &[]);
    for service in SERVICES {
        let file = folder.path().join(format!("{service}.db"));
        let db = Database::connect(format!("sqlite://{}?mode=ro", file.display())).await.unwrap();
        compare(service, "sqlite", &lines(&db, SQLITE, None).await);
    }
}

#[tokio::test]
async fn r_9_the_schema_on_postgres_is_as_released() {
    let folder = tempfile::tempdir().unwrap();
    let url = std::env::var("DATABASE_URL").expect("run this by `make test`, which starts PostgreSQL");
    let database = database_on(&url).await;
    let nats = std::env::var("NATS_URL").expect("run this by `make test`, which starts NATS");
    migrate(folder.path(), &["--database", &database, "--nats", &nats]);
    let db = Database::connect(&database).await.unwrap();
    for service in SERVICES {
        let mut found = lines(&db, POSTGRES_COLUMNS, Some(service)).await;
        found.extend(lines(&db, POSTGRES_INDEXES, Some(service)).await);
        compare(service, "postgres", &found);
    }
}
