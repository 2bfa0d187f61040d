//! The tables of the register's views.

use sea_orm_migration::{prelude::*, schema::*};

/// The journal's steps, then the register's.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut steps = hansa_journal::migrations();
        steps.push(Box::new(Register0001));
        steps.push(Box::new(TenantKeys));
        steps
    }
}

/// The keys that the host holds.
struct TenantKeys;

impl MigrationName for TenantKeys {
    fn name(&self) -> &'static str {
        "register_tenant_keys"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for TenantKeys {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut keys = Table::create().table("tenant_keys").to_owned();
        keys.col(uuid("tenant")).col(binary("public_key")).col(binary("wrapped")).col(big_integer("changed_at"));
        keys.primary_key(Index::create().col("tenant").col("public_key"));
        manager.create_table(keys).await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("keys are not thrown away".into()))
    }
}

struct Register0001;

impl MigrationName for Register0001 {
    fn name(&self) -> &'static str {
        "register_0001"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Register0001 {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let view = |table: &'static str| Table::create().table(table).col(uuid("record").primary_key()).to_owned();
        let cities = view("cities")
            .col(string("sort_name"))
            .col(string("country"))
            .col(integer("tier"))
            .col(integer("size_class"))
            .col(boolean("joined"))
            .col(boolean("linked"))
            .to_owned();
        let countries = view("countries").col(string("code")).to_owned();
        let tenants = view("tenants").col(string("sort_name")).col(integer("kind")).col(uuid_null("city")).to_owned();
        for table in [cities, countries, tenants] {
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
            index("cities_sort", "cities", &["sort_name", "record"]),
            index("cities_country", "cities", &["country", "sort_name", "record"]),
            index("countries_code", "countries", &["code"]),
            index("tenants_city", "tenants", &["city"]),
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the register's first step is not taken back".into()))
    }
}
