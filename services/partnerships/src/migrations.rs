//! The migrations of the service's own tables: those of its views.

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

/// The indexes of the columns that lists filter by, each followed by the order of the list.
const FILTERS: [(&str, &str); 9] = [
    ("agreements_city_a", "city_a"),
    ("agreements_city_b", "city_b"),
    ("agreements_country_a", "country_a"),
    ("agreements_country_b", "country_b"),
    ("agreements_tenant_a", "tenant_a"),
    ("agreements_tenant_b", "tenant_b"),
    ("agreements_owner", "owner"),
    ("agreements_state", "state"),
    ("agreements_kind", "kind"),
];

fn first() -> Migration {
    let migration = Migration::new("partnerships_v1")
        .view::<views::agreement::Entity>()
        .view::<views::ended_city::Entity>()
        .index("agreements_sort", "agreements", &["sort_key", "record"]);
    let by =
        |migration: Migration, (name, column)| migration.index(name, "agreements", &[column, "sort_key", "record"]);
    FILTERS.into_iter().fold(migration, by)
}
