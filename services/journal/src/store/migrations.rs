//! The migrations of the journal's own tables. A released migration is never edited.

use sea_orm::DatabaseConnection;
use sea_orm_migration::{prelude::*, schema::*};
use std::collections::BTreeSet;

/// Returns the journal's migrations. A service appends its own.
#[must_use]
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Journal0001), Box::new(JournalMarks), Box::new(JournalUnpublished)]
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
        "journal_0001"
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
        // Without a broker all changes stay unpublished, and the index would only cost space.
        let mut unpublished = Index::create();
        unpublished.name("changes_published").table("changes").col("published").col("seq");
        if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
            manager.create_index(unpublished).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the journal's first migration cannot be reverted".into()))
    }
}

/// Adds the index of stream sequences on SQLite. Each sequence belongs to one change and is looked up. Without a broker the index
/// is empty.
struct JournalMarks;

impl MigrationName for JournalMarks {
    fn name(&self) -> &'static str {
        "journal_marks"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for JournalMarks {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == sea_orm::DbBackend::Sqlite {
            let index = "CREATE INDEX changes_published ON changes (published) WHERE published IS NOT NULL";
            manager.get_connection().execute_unprepared(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the journal's migrations cannot be reverted".into()))
    }
}

/// Replaces the index of stream sequences on PostgreSQL by two partial ones. The relay looks for unpublished changes every half
/// second, in the order of insertion. The index of these alone can be read in that order under PostgreSQL's generic plan; the one
/// over all changes was read whole each time. For an older version only the speed differs.
struct JournalUnpublished;

impl MigrationName for JournalUnpublished {
    fn name(&self) -> &'static str {
        "journal_unpublished"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for JournalUnpublished {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
            let steps = "DROP INDEX changes_published;
                CREATE INDEX changes_published ON changes (published) WHERE published IS NOT NULL;
                CREATE INDEX changes_unpublished ON changes (seq) WHERE published IS NULL";
            manager.get_connection().execute_unprepared(steps).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the journal's migrations cannot be reverted".into()))
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
            .col(string("kind"))
            .col(blob("envelope"))
            .col(blob("signatures"))
            .col(big_integer("received_at"))
            .col(string_null("trace"))
            .col(big_integer_null("published"))
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
        paired("mirrors", subscription(), record())
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
