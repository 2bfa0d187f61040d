//! Steps of a service's schema: the tables of its views, and their indexes.

use async_trait::async_trait;
use sea_orm_migration::prelude::*;

/// A step that makes tables and indexes. It is known by its name for ever, and never edited once it was released.
#[derive(Debug)]
pub struct Step {
    name: &'static str,
    tables: Vec<TableCreateStatement>,
    indexes: Vec<IndexCreateStatement>,
}

impl Step {
    /// A step that does nothing yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, tables: Vec::new(), indexes: Vec::new() }
    }

    /// Makes a table.
    #[must_use]
    pub fn table(mut self, table: &TableCreateStatement) -> Self {
        self.tables.push(table.clone());
        self
    }

    /// Makes an index over some columns, in their order.
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

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in &self.tables {
            manager.create_table(table.clone()).await?;
        }
        for index in &self.indexes {
            manager.create_index(index.clone()).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration(format!("the step {} is not taken back", self.name)))
    }
}
