//! The migrations of the service's own schema: the tables of its views.

use crate::views;
use hansa_journal::Migration;
use sea_orm_migration::prelude::*;

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
    Migration::new("networks_v1")
        .view::<views::network::Entity>()
        .view::<views::membership::Entity>()
        .index("networks_sort", "networks", &["sort_name", "record"])
        .index("memberships_sort", "memberships", &["sort_key", "record"])
        .index("memberships_network", "memberships", &["network", "sort_key", "record"])
        .index("memberships_city", "memberships", &["city", "sort_key", "record"])
}
