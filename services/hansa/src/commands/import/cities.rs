//! Imports cities from a CSV file with named columns or from a dump of GeoNames.

use super::{IN_FLIGHT, Report};
use crate::{api::Api, cli::CityFormat, files};
use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use hansa_chassis::row_failure;
use hansa_proto::register::{BatchImportCitiesRequest, CityRow};
use hansa_proto::types::RowOutcome;
use hansa_register_domain::{
    city::IMPORT_ROWS,
    import::{Unusable, cities_csv, geonames},
};
use std::path::Path;

/// Imports a file.
///
/// # Errors
/// If the file or its header cannot be read, or a call fails.
pub async fn import(api: &Api, file: &Path, format: Option<CityFormat>, source: &str) -> anyhow::Result<Report> {
    let dump = file.extension().is_some_and(|ending| ending == "txt");
    let format = format.unwrap_or(if dump { CityFormat::Geonames } else { CityFormat::Csv });
    let mut report = Report::default();
    let rows = read(file, format, &mut report)?;
    send(api, rows, source, &mut report).await?;
    Ok(report)
}

fn read(file: &Path, format: CityFormat, report: &mut Report) -> anyhow::Result<Vec<(usize, CityRow)>> {
    let delimiter = if format == CityFormat::Geonames { b'\t' } else { b',' };
    let mut reader = files::rows(file, delimiter)?;
    let mut records = reader.records();
    let columns = match format {
        CityFormat::Geonames => None,
        CityFormat::Csv => {
            let header = records.next().context("the file is empty")??;
            Some(cities_csv::columns(&header.iter().collect::<Vec<_>>())?)
        }
    };
    let mut rows = Vec::new();
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(0));
                report.refuse(line, error.to_string());
                continue;
            }
        };
        let (line, fields) = (files::line(&record), record.iter().collect::<Vec<_>>());
        let row = match &columns {
            Some(columns) => cities_csv::parse(columns.row(line, &fields)),
            None => geonames::parse(line, &fields),
        };
        match row {
            Ok(row) => rows.push((line, row)),
            Err(Unusable { line, reason }) => report.refuse(line, reason),
        }
    }
    Ok(rows)
}

/// Sends rows to the register in batches, several concurrently.
///
/// # Errors
/// If a call fails.
pub async fn send(api: &Api, rows: Vec<(usize, CityRow)>, source: &str, report: &mut Report) -> anyhow::Result<()> {
    let bar = files::bar(rows.len() as u64, "cities");
    let batches: Vec<Vec<(usize, CityRow)>> = rows.chunks(IMPORT_ROWS).map(<[_]>::to_vec).collect();
    let mut answers = stream::iter(batches.into_iter().map(|batch| {
        let mut cities = api.cities();
        let source = source.to_owned();
        async move {
            let (lines, rows): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let request = BatchImportCitiesRequest { rows, source, ..Default::default() };
            let answer = cities.batch_import_cities(request).await?.into_inner();
            anyhow::Ok(lines.into_iter().zip(answer.rows).collect::<Vec<_>>())
        }
    }))
    .buffered(IN_FLIGHT);
    while let Some(answer) = answers.try_next().await? {
        bar.inc(answer.len() as u64);
        for (line, row) in answer {
            match row.outcome() {
                RowOutcome::Failed => report.refuse(line, row_failure(&row)),
                outcome => report.count(&outcome.as_str_name().trim_start_matches("ROW_OUTCOME_").to_lowercase()),
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}
