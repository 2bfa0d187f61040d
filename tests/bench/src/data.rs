//! Synthetic records, the same on every machine.

use crate::load;
use anyhow::Context;
use hansa_kernel::RecordId;
use hansa_proto::register::{
    BatchImportCitiesRequest, CityRow, CityTier, CreateTenantRequest, SourceRegister, Tenant, TenantKind,
};
use hansa_proto::types::RowOutcome;
use hansa_tests::{Caller, request_id};
use std::{
    fmt::Write,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tonic::Status;

/// Number of rows per batch.
const BATCH: usize = 500;
/// Number of batches that are sent concurrently. The writer queues a few thousand commands before it refuses more.
const AT_ONCE: usize = 4;
/// Number of cities between two progress messages.
const TELL: usize = 100_000;
/// The countries, assigned to the cities round robin.
pub const COUNTRIES: [&str; 8] = ["DE", "FR", "PL", "BR", "JP", "KE", "US", "IN"];

/// Returns the resource name of a city.
pub fn city(number: usize) -> String {
    format!("cities/{}", RecordId::from_source("geonames", &key(number)))
}

fn key(number: usize) -> String {
    (1_000_000 + number).to_string()
}

fn called(number: usize) -> String {
    format!("City of the bench {number}")
}

fn country(number: usize) -> &'static str {
    COUNTRIES[number % COUNTRIES.len()]
}

fn population(number: usize) -> usize {
    1_000 + number * 7_919 % 2_000_000
}

async fn enter_some(steward: &Caller, numbers: Range<usize>) -> anyhow::Result<()> {
    let rows = numbers
        .map(|number| CityRow {
            source_register: SourceRegister::Geonames as i32,
            source_key: key(number),
            display_name: called(number),
            country_code: country(number).into(),
            tier: CityTier::Municipality as i32,
            population: i32::try_from(population(number)).ok(),
            ..Default::default()
        })
        .collect();
    let request = BatchImportCitiesRequest { rows, source: "the bench".into(), ..Default::default() };
    let answer = steward.cities().batch_import_cities(request).await?.into_inner();
    let refused = answer.rows.iter().find(|row| row.outcome() != RowOutcome::Created);
    anyhow::ensure!(refused.is_none(), "{refused:?}");
    Ok(())
}

/// Enters the first `count` cities.
pub async fn enter(steward: &Caller, count: usize) -> anyhow::Result<()> {
    for first in (0..count).step_by(BATCH) {
        enter_some(steward, first..count.min(first + BATCH)).await?;
    }
    Ok(())
}

/// Enters the first `count` cities in concurrent batches, and prints the progress.
pub async fn enter_many(lines: &[Caller], count: usize) -> anyhow::Result<()> {
    let done = Arc::new(AtomicUsize::new(0));
    load::each(lines, AT_ONCE, count.div_ceil(BATCH), move |steward, batch| {
        let (done, numbers) = (done.clone(), batch * BATCH..count.min(batch * BATCH + BATCH));
        async move {
            let entered = numbers.len();
            enter_some(&steward, numbers).await?;
            let before = done.fetch_add(entered, Ordering::Relaxed);
            if before / TELL != (before + entered) / TELL {
                eprintln!("bench: {} of {count} cities entered", before + entered);
            }
            Ok(())
        }
    })
    .await
}

/// Makes a city of the bench a tenant. Returns the tenant's name.
pub async fn join(steward: &Caller, number: usize) -> Result<String, Status> {
    let tenant = Tenant { kind: TenantKind::City as i32, city: city(number), ..Default::default() };
    let request = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
    Ok(steward.tenants().create_tenant(request).await?.into_inner().name)
}

/// Writes a file of cities for `hansa import cities`.
pub fn cities_file(file: &Path, count: usize) -> anyhow::Result<()> {
    let mut out = String::from("geonameid,name,country,admin1,population,lat,lon,timezone,feature_code\n");
    for number in 0..count {
        let (key, name, country, people) = (key(number), called(number), country(number), population(number));
        let (north, east) = (number % 80, number % 170);
        writeln!(out, "{key},{name},{country},01,{people},{north}.5,{east}.25,Etc/UTC,PPL")?;
    }
    std::fs::write(file, out).with_context(|| format!("{} cannot be written", file.display()))
}

/// Writes a file of ties between the first `cities` cities for `hansa import ties`. No two ties connect the same pair.
pub fn ties_file(file: &Path, ties: usize, cities: usize) -> anyhow::Result<()> {
    let mut out = String::from(
        "external_id,claimed_by,a_id,a_name,a_country,a_tier,a_lat,a_lon,b_id,b_name,b_country,b_tier,b_lat,b_lon\n",
    );
    for number in 0..ties {
        // Each round through the cities connects pairs at another distance.
        let (a, b) = (number % cities, (number + 1 + number / cities) % cities);
        write!(out, "t{number},both")?;
        for end in [a, b] {
            write!(
                out,
                ",g{},{},{},MUNICIPALITY,{}.5,{}.25",
                key(end),
                called(end),
                country(end),
                end % 80,
                end % 170
            )?;
        }
        out.push('\n');
    }
    std::fs::write(file, out).with_context(|| format!("{} cannot be written", file.display()))
}
