//! The steps that make and change the journal's tables. A step that has been released is never edited.

use sea_orm::DatabaseConnection;
use sea_orm_migration::{prelude::*, schema::*};
use std::collections::BTreeSet;

/// The journal's steps; a service appends its own.
#[must_use]
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Journal0001), Box::new(JournalMarks), Box::new(JournalUnpublished)]
}

/// Takes the steps that are still to be taken.
///
/// Where a newer version has taken all of these and more, there is nothing to do: its steps only add (expand), and what they
/// make needless goes with a later version (contract). So a replica of the old version may start while the new one is rolled
/// out, and after it was taken back. A database that has foreign steps and lacks ours belongs to no version of this line.
pub(crate) async fn migrate<M: MigratorTrait>(db: &DatabaseConnection) -> Result<(), DbErr> {
    let ours: BTreeSet<String> = M::migrations().iter().map(|step| step.name().to_owned()).collect();
    let taken: BTreeSet<String> = M::get_migration_models(db).await?.into_iter().map(|step| step.version).collect();
    let newer: Vec<&str> = taken.difference(&ours).map(String::as_str).collect();
    if newer.is_empty() {
        return M::up(db, None).await;
    }
    let lacking: Vec<&str> = ours.difference(&taken).map(String::as_str).collect();
    if !lacking.is_empty() {
        let (newer, lacking) = (newer.join(", "), lacking.join(", "));
        return Err(DbErr::Migration(format!(
            "the database has steps unknown here ({newer}) and lacks others ({lacking})"
        )));
    }
    tracing::warn!(steps = newer.join(", "), "a newer version has brought the database further; it is used as it is");
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
        // Without a broker everything is unpublished, and the index would only cost.
        let mut unpublished = Index::create();
        unpublished.name("changes_published").table("changes").col("published").col("seq");
        if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
            manager.create_index(unpublished).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the journal's first step is not taken back".into()))
    }
}

/// One sequence of the broker's stream stands for one change, which is looked up. Files had no index of it: without a broker
/// nothing is marked, and this one then holds nothing.
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
        Err(DbErr::Migration("the journal's steps are not taken back".into()))
    }
}

/// What the broker lacks is looked for every half second, in the order of insertion. An index of that alone can be read in its
/// order, as PostgreSQL does once it has planned the statement for good, and then drops from it on the way what has been
/// published since; the one over all changes was read whole each time.
/// That an index takes another's place means nothing to an older version but its speed.
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
        Err(DbErr::Migration("the journal's steps are not taken back".into()))
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
