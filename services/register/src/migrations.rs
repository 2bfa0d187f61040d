//! The migrations of the service's own schema: the tables of its views and of tenant keys.

use crate::views;
use hansa_journal::Migration;
use sea_orm_migration::{prelude::*, schema::*};

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
    let mut keys = Table::create().table("tenant_keys").to_owned();
    keys.col(uuid("tenant")).col(binary("public_key")).col(binary("wrapped")).col(big_integer("changed_at"));
    keys.primary_key(Index::create().col("tenant").col("public_key"));
    Migration::new("register_v1")
        .view::<views::city::Entity>()
        .view::<views::country::Entity>()
        .view::<views::tenant::Entity>()
        .table(&keys)
        .index("cities_sort", "cities", &["sort_name", "record"])
        .index("cities_country", "cities", &["country", "sort_name", "record"])
        .index("countries_code", "countries", &["code"])
        .index("tenants_city", "tenants", &["city"])
}
