//! The tables of the service's views.

use sea_orm_migration::{prelude::*, schema::*};

/// The journal's steps, then the service's.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut steps = hansa_journal::migrations();
        steps.push(Box::new(Partnerships0001));
        steps.push(Box::new(EndedCities));
        steps
    }
}

/// The cities whose records go to another.
struct EndedCities;

impl MigrationName for EndedCities {
    fn name(&self) -> &'static str {
        "partnerships_ended_cities"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for EndedCities {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut cities = Table::create().table("ended_cities").to_owned();
        manager.create_table(cities.col(uuid("record").primary_key()).col(string("since")).to_owned()).await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the service's steps are not taken back".into()))
    }
}

struct Partnerships0001;

impl MigrationName for Partnerships0001 {
    fn name(&self) -> &'static str {
        "partnerships_0001"
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

#[async_trait::async_trait]
impl MigrationTrait for Partnerships0001 {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let agreements = Table::create()
            .table("agreements")
            .col(uuid("record").primary_key())
            .col(string("sort_key"))
            .col(integer("state"))
            .col(integer("kind"))
            .col(uuid("city_a"))
            .col(uuid("city_b"))
            .col(string("country_a"))
            .col(string("country_b"))
            .col(uuid_null("tenant_a"))
            .col(uuid_null("tenant_b"))
            .col(uuid("owner"))
            .col(boolean("public"))
            .to_owned();
        manager.create_table(agreements).await?;
        let index = |name: &'static str| Index::create().name(name).table("agreements").to_owned();
        manager.create_index(index("agreements_sort").col("sort_key").col("record").to_owned()).await?;
        for (name, column) in FILTERS {
            let by = index(name).col(column).col("sort_key").col("record").to_owned();
            manager.create_index(by).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the service's first step is not taken back".into()))
    }
}
