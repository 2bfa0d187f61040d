//! The tables of the service's views.

use hansa_journal::Step;
use sea_orm_migration::{prelude::*, schema::*};

/// The journal's steps, then the service's.
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
    let view = |table: &'static str| Table::create().table(table).col(uuid("record").primary_key()).to_owned();
    let mut memberships = view("memberships");
    memberships.col(string("sort_key")).col(uuid("network")).col(uuid("city")).col(integer("state"));
    memberships.col(uuid("secretariat")).col(uuid("member")).col(boolean("public"));
    Step::new("networks_0001")
        .table(view("networks").col(string("sort_name")).col(integer("kind")).col(integer("scope")))
        .table(&memberships)
        .index("networks_sort", "networks", &["sort_name", "record"])
        .index("memberships_sort", "memberships", &["sort_key", "record"])
        .index("memberships_network", "memberships", &["network", "sort_key", "record"])
        .index("memberships_city", "memberships", &["city", "sort_key", "record"])
}
