//! Invented records, the same on every machine.

use crate::load;
use anyhow::Context;
use hansa_kernel::RecordId;
use hansa_proto::register::{
    BatchImportCitiesRequest, CityRow, CityTier, CreateTenantRequest, ImportOutcome, Tenant, TenantKind,
};
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

/// Rows a batch.
const BATCH: usize = 500;
/// Batches that are entered at once, where there are many. The writer takes a few thousand commands before it refuses more.
const AT_ONCE: usize = 4;
/// After how many cities it is told how far it is.
const TELL: usize = 100_000;
/// The countries that cities lie in, in turn.
pub const COUNTRIES: [&str; 8] = ["DE", "FR", "PL", "BR", "JP", "KE", "US", "IN"];

/// The name of a city.
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
            source_scheme: "geonames".into(),
            source_key: key(number),
            display_name: called(number),
            country_code: country(number).into(),
            tier: CityTier::Municipality as i32,
            population: i64::try_from(population(number)).unwrap_or_default(),
            ..Default::default()
        })
        .collect();
    let request = BatchImportCitiesRequest { rows, source: "the bench".into(), ..Default::default() };
    let answer = steward.cities().batch_import_cities(request).await?.into_inner();
    let refused = answer.rows.iter().find(|row| row.outcome() != ImportOutcome::Created);
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

/// The same, some batches at once, for many. Says how far it is.
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

/// A city of the bench joins. Answers its tenant's name.
pub async fn join(steward: &Caller, number: usize) -> Result<String, Status> {
    let tenant = Tenant { kind: TenantKind::City as i32, city: city(number), ..Default::default() };
    let request = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
    Ok(steward.tenants().create_tenant(request).await?.into_inner().name)
}

/// Writes cities as a file that `hansa import cities` reads.
pub fn cities_file(file: &Path, count: usize) -> anyhow::Result<()> {
    let mut out = String::from("geonameid,name,country,admin1,population,lat,lon,timezone,feature_code\n");
    for number in 0..count {
        let (key, name, country, people) = (key(number), called(number), country(number), population(number));
        let (north, east) = (number % 80, number % 170);
        writeln!(out, "{key},{name},{country},01,{people},{north}.5,{east}.25,Etc/UTC,PPL")?;
    }
    std::fs::write(file, out).with_context(|| format!("{} cannot be written", file.display()))
}

/// Writes ties between the first `cities` cities as a file that `hansa import ties` reads. No two are of one pair.
pub fn ties_file(file: &Path, ties: usize, cities: usize) -> anyhow::Result<()> {
    let mut out = String::from(
        "tie_id,claimed_by,a_id,a_name,a_country,a_tier,a_lat,a_lon,b_id,b_name,b_country,b_tier,b_lat,b_lon\n",
    );
    for number in 0..ties {
        // Each step around the ring of cities is another distance.
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
