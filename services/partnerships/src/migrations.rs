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
        steps.push(Box::new(ended_cities()));
        steps
    }
}

/// What lists filter by, each with the order of the list.
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

fn first() -> Step {
    let mut agreements = Table::create().table("agreements").to_owned();
    agreements.col(uuid("record").primary_key()).col(string("sort_key")).col(integer("state")).col(integer("kind"));
    agreements.col(uuid("city_a")).col(uuid("city_b")).col(string("country_a")).col(string("country_b"));
    agreements.col(uuid_null("tenant_a")).col(uuid_null("tenant_b")).col(uuid("owner")).col(boolean("public"));
    let step = Step::new("partnerships_0001").table(&agreements);
    let step = step.index("agreements_sort", "agreements", &["sort_key", "record"]);
    let by = |step: Step, (name, column)| step.index(name, "agreements", &[column, "sort_key", "record"]);
    FILTERS.into_iter().fold(step, by)
}

/// The cities whose records go to another.
fn ended_cities() -> Step {
    let mut cities = Table::create().table("ended_cities").to_owned();
    Step::new("partnerships_ended_cities").table(cities.col(uuid("record").primary_key()).col(string("since")))
}
