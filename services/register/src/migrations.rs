//! The tables of the register's views.

use hansa_journal::Step;
use sea_orm_migration::{prelude::*, schema::*};

/// The journal's steps, then the register's.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut steps = hansa_journal::migrations();
        steps.push(Box::new(first()));
        steps.push(Box::new(tenant_keys()));
        steps
    }
}

fn first() -> Step {
    let view = |table: &'static str| Table::create().table(table).col(uuid("record").primary_key()).to_owned();
    let mut cities = view("cities");
    cities.col(string("sort_name")).col(string("country")).col(integer("tier")).col(integer("size_class"));
    cities.col(boolean("joined")).col(boolean("linked"));
    let mut tenants = view("tenants");
    tenants.col(string("sort_name")).col(integer("kind")).col(uuid_null("city"));
    Step::new("register_0001")
        .table(&cities)
        .table(view("countries").col(string("code")))
        .table(&tenants)
        .index("cities_sort", "cities", &["sort_name", "record"])
        .index("cities_country", "cities", &["country", "sort_name", "record"])
        .index("countries_code", "countries", &["code"])
        .index("tenants_city", "tenants", &["city"])
}

/// The keys that the host holds.
fn tenant_keys() -> Step {
    let mut keys = Table::create().table("tenant_keys").to_owned();
    keys.col(uuid("tenant")).col(binary("public_key")).col(binary("wrapped")).col(big_integer("changed_at"));
    keys.primary_key(Index::create().col("tenant").col("public_key"));
    Step::new("register_tenant_keys").table(&keys)
}
