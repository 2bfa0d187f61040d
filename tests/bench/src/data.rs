//! Invented records, the same on every machine.

use anyhow::Context;
use hansa_kernel::RecordId;
use hansa_proto::register::{BatchImportCitiesRequest, CityRow, CityTier, ImportOutcome};
use hansa_tests::Caller;
use std::{fmt::Write, path::Path};

/// Rows a batch.
const BATCH: usize = 500;
/// The countries that cities lie in, in turn.
const COUNTRIES: [&str; 8] = ["DE", "FR", "PL", "BR", "JP", "KE", "US", "IN"];

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

/// Enters the first `count` cities.
pub async fn enter(steward: &Caller, count: usize) -> anyhow::Result<()> {
    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(BATCH) {
        let rows = batch
            .iter()
            .map(|number| CityRow {
                source_scheme: "geonames".into(),
                source_key: key(*number),
                display_name: called(*number),
                country_code: country(*number).into(),
                tier: CityTier::Municipality as i32,
                population: i64::try_from(population(*number)).unwrap_or_default(),
                ..Default::default()
            })
            .collect();
        let request = BatchImportCitiesRequest { rows, source: "the bench".into(), ..Default::default() };
        let answer = steward.cities().batch_import_cities(request).await?.into_inner();
        let refused = answer.rows.iter().find(|row| row.outcome() != ImportOutcome::Created);
        anyhow::ensure!(refused.is_none(), "{refused:?}");
    }
    Ok(())
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
