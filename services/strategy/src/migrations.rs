//! The tables of the strategy service's views.

use hansa_journal::Step;
use sea_orm_migration::{prelude::*, schema::*};

/// The journal's steps, then the service's own.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut steps = hansa_journal::migrations();
        steps.push(Box::new(first()));
        steps
    }
}

fn first() -> Step {
    let mut strategies = Table::create().table("strategies").to_owned();
    strategies.col(uuid("record").primary_key()).col(uuid("tenant")).col(uuid("city"));
    strategies.col(integer("state")).col(string("newest"));
    let mut joined = Table::create().table("joined_cities").to_owned();
    joined.col(uuid("record").primary_key()).col(string("country")).col(uuid("tenant"));
    let mut ties = Table::create().table("ties").to_owned();
    ties.col(uuid("record")).col(uuid("city")).col(uuid("partner")).col(string("partner_country"));
    ties.primary_key(Index::create().col("record").col("city"));
    Step::new("strategy_0001")
        .table(&strategies)
        .table(&joined)
        .table(&ties)
        .index("strategies_tenant", "strategies", &["tenant", "newest", "record"])
        .index("strategies_city", "strategies", &["city", "newest"])
        .index("joined_cities_country", "joined_cities", &["country"])
        .index("joined_cities_tenant", "joined_cities", &["tenant"])
        .index("ties_city", "ties", &["city"])
        .index("ties_partner", "ties", &["partner"])
        .index("ties_partner_country", "ties", &["partner_country", "city"])
}
