//! The tables of the strategy service's views.

use sea_orm_migration::{prelude::*, schema::*};

/// The journal's steps, then the service's own.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut steps = hansa_journal::migrations();
        steps.push(Box::new(Strategy0001));
        steps
    }
}

struct Strategy0001;

impl MigrationName for Strategy0001 {
    fn name(&self) -> &'static str {
        "strategy_0001"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Strategy0001 {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let strategies = Table::create()
            .table("strategies")
            .col(uuid("record").primary_key())
            .col(uuid("tenant"))
            .col(uuid("city"))
            .col(integer("state"))
            .col(string("newest"))
            .to_owned();
        let joined = Table::create()
            .table("joined_cities")
            .col(uuid("record").primary_key())
            .col(string("country"))
            .col(uuid("tenant"))
            .to_owned();
        let ties = Table::create()
            .table("ties")
            .col(uuid("record"))
            .col(uuid("city"))
            .col(uuid("partner"))
            .col(string("partner_country"))
            .primary_key(Index::create().col("record").col("city"))
            .to_owned();
        for table in [strategies, joined, ties] {
            manager.create_table(table).await?;
        }
        let index = |name: &'static str, table: &'static str, columns: &[&'static str]| {
            let mut index = Index::create().name(name).table(table).to_owned();
            for column in columns {
                index.col(*column);
            }
            index
        };
        for index in [
            index("strategies_tenant", "strategies", &["tenant", "newest", "record"]),
            index("strategies_city", "strategies", &["city", "newest"]),
            index("joined_cities_country", "joined_cities", &["country"]),
            index("joined_cities_tenant", "joined_cities", &["tenant"]),
            index("ties_city", "ties", &["city"]),
            index("ties_partner", "ties", &["partner"]),
            index("ties_partner_country", "ties", &["partner_country", "city"]),
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the strategy service's first step is not taken back".into()))
    }
}
