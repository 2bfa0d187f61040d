//! Imports country facts from a folder of published files (CT-3). Missing optional files are skipped.

use super::Report;
use crate::{api::Api, files};
use anyhow::{Context, bail};
use hansa_chassis::row_failure;
use hansa_proto::register::{BatchImportCountryFactsRequest, CountryRow};
use hansa_proto::types::RowOutcome;
use hansa_register_domain::{
    country::IMPORT_ROWS,
    import::{
        Columns, Row, Unusable,
        countries::{self, Codes},
    },
};
use std::path::Path;

/// The year of the list of state structures, because the list itself names no year.
const STRUCTURE_YEAR: i32 = 2025;

/// Imports a folder.
///
/// # Errors
/// If `countries.csv` is missing, a file cannot be read, or a call fails.
pub async fn import(api: &Api, folder: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let profiles = folder.join("countries.csv");
    if !profiles.exists() {
        bail!("{} contains no countries.csv, which the other files need for their country codes", folder.display());
    }
    let mut rows = read(&profiles, &countries::PROFILES, &mut report, |row| {
        countries::profile(row, "world-countries (ODbL 1.0)")
    })?;
    let codes = Codes::of(&rows);
    let mut more = |file: &str, columns: &[&'static str], parse: &dyn Fn(Row) -> Result<CountryRow, Unusable>| {
        let file = folder.join(file);
        if file.exists() { read(&file, columns, &mut report, parse) } else { Ok(Vec::new()) }
    };
    rows.extend(more("country_regime.csv", &countries::REGIMES, &|row| {
        countries::regime(row, &codes, "Our World in Data from V-Dem; Freedom House")
    })?);
    rows.extend(more("country_income_group.csv", &countries::INCOMES, &|row| {
        countries::income(row, &codes, "World Bank (CC BY 4.0)")
    })?);
    rows.extend(more("country_memberships.csv", &countries::MEMBERSHIPS, &|row| {
        countries::membership(row, &codes, "the organizations' own lists")
    })?);
    rows.extend(more("country_state_structure.csv", &countries::STRUCTURES, &|row| {
        countries::structure(row, &codes, STRUCTURE_YEAR, "compiled by hand")
    })?);
    send(api, rows, &mut report).await?;
    Ok(report)
}

fn read(
    file: &Path,
    columns: &[&'static str],
    report: &mut Report,
    parse: impl Fn(Row) -> Result<CountryRow, Unusable>,
) -> anyhow::Result<Vec<CountryRow>> {
    let mut reader = files::rows(file, b',')?;
    let mut records = reader.records();
    let header = records.next().with_context(|| format!("{} is empty", file.display()))??;
    let columns: Columns = countries::columns(&header.iter().collect::<Vec<_>>(), columns)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut rows = Vec::new();
    for record in records {
        let record = record?;
        let fields: Vec<_> = record.iter().collect();
        match parse(columns.row(files::line(&record), &fields)) {
            Ok(row) => rows.push(row),
            Err(Unusable { line, reason }) => report.refuse(line, format!("{name}: {reason}")),
        }
    }
    Ok(rows)
}

/// Sends rows in batches, sorted by country.
///
/// # Errors
/// If a call fails.
pub async fn send(api: &Api, mut rows: Vec<CountryRow>, report: &mut Report) -> anyhow::Result<()> {
    rows.sort_by(|a, b| a.country_code.cmp(&b.country_code));
    let bar = files::bar(rows.len() as u64, "country facts");
    for batch in rows.chunks(IMPORT_ROWS) {
        let request = BatchImportCountryFactsRequest { rows: batch.to_vec(), ..Default::default() };
        let answer = api.countries().batch_import_country_facts(request).await?.into_inner();
        for country in answer.rows {
            match country.outcome() {
                RowOutcome::Failed => report.refuse(0, format!("{}: {}", country.resource, row_failure(&country))),
                outcome => {
                    let outcome = outcome.as_str_name().trim_start_matches("ROW_OUTCOME_").to_lowercase();
                    report.count(&format!("countries {outcome}"));
                }
            }
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}
