//! The migrations of the journal's own tables. A released migration is never edited.

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use sea_orm_migration::{prelude::*, schema::*};
use std::collections::BTreeSet;

/// Returns the journal's migrations. A service appends its own.
#[must_use]
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Journal0001)]
}

/// The first migration of the development versions before contract v1.
const BEFORE_V1: &str = "journal_0001";

/// Refuses a database of a development version before contract v1. Reads only.
///
/// # Errors
/// If the database has the first migration of those versions.
pub(crate) async fn refuse_before_v1(db: &DatabaseConnection) -> Result<(), DbErr> {
    let sql = format!("SELECT 1 FROM seaql_migrations WHERE version = '{BEFORE_V1}'");
    let found = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await;
    // A new database does not have the table yet, and the query fails.
    if let Ok(Some(_)) = found {
        return Err(DbErr::Migration(format!(
            "the data was written by a development version from before contract v1 ({BEFORE_V1}), which this version cannot read; \
             nothing was changed. Start with an empty data folder or database, or use the version that wrote the data"
        )));
    }
    Ok(())
}

/// Applies the pending migrations.
///
/// If a newer version has applied all of these and more, there is nothing to do: a version's migrations only add (expand), and a
/// later version removes what they made unnecessary (contract). A replica of the old version may therefore start during a rollout
/// and after a rollback. A database that has unknown migrations and lacks known ones belongs to another line of versions.
///
/// # Errors
/// If the database is of another line of versions, or a migration fails.
pub(crate) async fn migrate<M: MigratorTrait>(db: &DatabaseConnection) -> Result<(), DbErr> {
    let ours: BTreeSet<String> = M::migrations().iter().map(|one| one.name().to_owned()).collect();
    let applied: BTreeSet<String> = M::get_migration_models(db).await?.into_iter().map(|one| one.version).collect();
    let newer: Vec<&str> = applied.difference(&ours).map(String::as_str).collect();
    if newer.is_empty() {
        return M::up(db, None).await;
    }
    let lacking: Vec<&str> = ours.difference(&applied).map(String::as_str).collect();
    if !lacking.is_empty() {
        let (newer, lacking) = (newer.join(", "), lacking.join(", "));
        return Err(DbErr::Migration(format!(
            "the database has unknown migrations ({newer}) and lacks known ones ({lacking}); start the program version that it belongs to"
        )));
    }
    tracing::warn!(migrations = newer.join(", "), "a newer version has migrated the database; it is used unchanged");
    Ok(())
}

struct Journal0001;

impl MigrationName for Journal0001 {
    fn name(&self) -> &'static str {
        "journal_v1"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Journal0001 {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        // Each stream sequence belongs to one change and is looked up. Without a broker this index is empty.
        let published = "CREATE INDEX changes_published ON changes (stream_sequence) WHERE stream_sequence IS NOT NULL";
        manager.get_connection().execute_unprepared(published).await?;
        // The relay looks for unpublished changes every half second, in the order of insertion. The index of these alone can be
        // read in that order under PostgreSQL's generic plan. On SQLite all changes stay unpublished without a broker, and the
        // index would only cost space.
        if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
            let unpublished = "CREATE INDEX changes_unpublished ON changes (seq) WHERE stream_sequence IS NULL";
            manager.get_connection().execute_unprepared(unpublished).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the journal's first migration cannot be reverted".into()))
    }
}

fn named(table: &'static str) -> TableCreateStatement {
    Table::create().table(table).to_owned()
}

fn keyed(table: &'static str, key: ColumnDef) -> TableCreateStatement {
    named(table).col(key).to_owned()
}

fn paired(
    table: &'static str,
    first: (&'static str, ColumnDef),
    second: (&'static str, ColumnDef),
) -> TableCreateStatement {
    named(table).col(first.1).col(second.1).primary_key(Index::create().col(first.0).col(second.0)).to_owned()
}

/// The tables of the first version.
fn tables() -> Vec<TableCreateStatement> {
    let subscription = || ("subscription", string("subscription"));
    let record = || ("record", uuid("record"));
    vec![
        keyed("changes", big_pk("seq"))
            .col(uuid("record"))
            .col(big_integer("version"))
            .col(string("payload_type"))
            .col(blob("envelope"))
            .col(blob("signatures"))
            .col(big_integer("received_at"))
            .col(string_null("trace"))
            .col(big_integer_null("stream_sequence"))
            .to_owned(),
        keyed("records", uuid("record").primary_key().take())
            .col(string("name"))
            .col(big_integer("version"))
            .col(blob("head"))
            .col(integer("revision"))
            .col(blob("state"))
            .col(big_integer_null("due_at"))
            .col(string_null("frozen"))
            .to_owned(),
        paired("requests", ("tenant", uuid("tenant")), ("request", uuid("request")))
            .col(blob("fingerprint"))
            .col(uuid("record"))
            .col(big_integer("version"))
            .col(big_integer("created_at"))
            .to_owned(),
        keyed("feed", big_pk("seq"))
            .col(big_integer_null("position"))
            .col(uuid("tenant"))
            .col(uuid("record"))
            .col(big_integer("version"))
            .to_owned(),
        keyed("seals", blob("seal").primary_key().take())
            .col(uuid("record"))
            .col(uuid("tenant"))
            .col(blob("salt"))
            .col(blob("value"))
            .col(big_integer_null("erased_at"))
            .to_owned(),
        paired("mirrors", ("collection", string("collection")), record())
            .col(big_integer("version"))
            .col(integer("revision"))
            .col(blob("state"))
            .to_owned(),
        keyed("cursors", string("subscription").primary_key().take()).col(big_integer("position")).to_owned(),
        paired("quarantine", subscription(), record())
            .col(string("name"))
            .col(big_integer("version"))
            .col(string("reason"))
            .col(big_integer("since"))
            .to_owned(),
        paired("dirty", ("queue", string("queue")), ("key", uuid("key")))
            .col(big_integer("marks"))
            .col(string_null("trace"))
            .to_owned(),
    ]
}

fn big_pk(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().auto_increment().primary_key().take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let on = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create().name(name).table(table).to_owned();
        for column in columns {
            index.col(*column);
        }
        index
    };
    vec![
        on("changes_record_version", "changes", &["record", "version"]).unique().to_owned(),
        on("records_due", "records", &["due_at"]),
        on("feed_position", "feed", &["position"]),
        on("feed_tenant_position", "feed", &["tenant", "position"]),
        on("seals_record", "seals", &["record"]),
    ]
}
