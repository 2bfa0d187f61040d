//! Migrations of a service's own schema: the tables of its views, and their indexes.

use async_trait::async_trait;
use sea_orm::{EntityTrait, Schema};
use sea_orm_migration::prelude::*;

/// A migration that creates tables and indexes. The database stores its name; a released migration is never edited.
#[derive(Debug)]
pub struct Migration {
    name: &'static str,
    tables: Vec<Table>,
    indexes: Vec<IndexCreateStatement>,
}

/// A table of a migration.
#[derive(Debug)]
enum Table {
    /// The table of an entity, generated from its columns for the engine.
    OfEntity(fn(&Schema) -> TableCreateStatement),
    /// A table that is written out, because its entity has changed since.
    Written(Box<TableCreateStatement>),
}

impl Migration {
    /// Creates a migration without tables and indexes.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, tables: Vec::new(), indexes: Vec::new() }
    }

    /// Creates the table of a view from its entity. `tests/schema.rs` freezes the SQL: before the entity changes, replace this by
    /// `table` with the columns of the released version.
    #[must_use]
    pub fn view<E: EntityTrait>(mut self) -> Self {
        self.tables.push(Table::OfEntity(|schema| schema.create_table_from_entity(E::default())));
        self
    }

    /// Creates a table.
    #[must_use]
    pub fn table(mut self, table: &TableCreateStatement) -> Self {
        self.tables.push(Table::Written(Box::new(table.clone())));
        self
    }

    /// Creates an index over some columns, in this order.
    #[must_use]
    pub fn index(mut self, name: &'static str, table: &'static str, columns: &[&'static str]) -> Self {
        let mut index = Index::create().name(name).table(table).to_owned();
        for column in columns {
            index.col(*column);
        }
        self.indexes.push(index);
        self
    }
}

impl MigrationName for Migration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(manager.get_database_backend());
        for table in &self.tables {
            let table = match table {
                Table::OfEntity(generate) => generate(&schema),
                Table::Written(table) => (**table).clone(),
            };
            manager.create_table(table).await?;
        }
        for index in &self.indexes {
            manager.create_index(index.clone()).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration(format!("the migration {} cannot be reverted", self.name)))
    }
}
