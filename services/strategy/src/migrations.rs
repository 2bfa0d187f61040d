//! The migrations of the service's own schema: the tables of its views.

use crate::views;
use hansa_journal::Migration;
use sea_orm_migration::{
    prelude::*,
    schema::{string, uuid},
};

/// The migrations of the journal and of the service.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = hansa_journal::migrations();
        migrations.push(Box::new(first()));
        migrations
    }
}

fn first() -> Migration {
    // Written out, because the table generated from the entity would name its composite primary key differently.
    let mut ties = Table::create().table("ties").to_owned();
    ties.col(uuid("record")).col(uuid("city")).col(uuid("partner")).col(string("partner_country"));
    ties.primary_key(Index::create().col("record").col("city"));
    Migration::new("strategy_v1")
        .view::<views::strategy::Entity>()
        .view::<views::joined_city::Entity>()
        .table(&ties)
        .index("strategies_tenant", "strategies", &["tenant", "newest", "record"])
        .index("strategies_city", "strategies", &["city", "newest"])
        .index("joined_cities_country", "joined_cities", &["country"])
        .index("joined_cities_tenant", "joined_cities", &["tenant"])
        .index("ties_city", "ties", &["city"])
        .index("ties_partner", "ties", &["partner"])
        .index("ties_partner_country", "ties", &["partner_country", "city"])
}
