//! Imports town twinnings as attested agreements (AG-13). A city that no register contains becomes an unlinked city.

use super::{IN_FLIGHT, Report, cities};
use crate::{api::Api, files};
use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use hansa_chassis::{row_failure, row_status};
use hansa_kernel::RecordId;
use hansa_proto::{
    partnerships::{AgreementOrigin, AgreementRow, BatchImportAgreementsRequest},
    register::{BatchImportCitiesRequest, CityRow, CityTier, SourceRegister},
    types::{RowOutcome, RowResult},
};
use hansa_register_domain::import::{Columns, Unusable, ties};
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};
use tonic_types::StatusExt;

/// Number of ties per batch.
const BATCH: usize = 500;
/// Maximum wait until the partnerships service has received cities that were just imported.
const HEARD: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Returns the row of a tie between two cities, given their record names.
pub fn tie(initiator: String, partner: String, origin: AgreementOrigin) -> AgreementRow {
    AgreementRow { initiator, partner, origin: Some(origin), ..Default::default() }
}

/// A row of the list. Each end is the city to create if no register contains it.
struct Listed {
    line: usize,
    ends: [CityRow; 2],
    origin: AgreementOrigin,
}

/// Imports a file.
///
/// # Errors
/// If the file or its header cannot be read, or a call fails.
pub async fn import(api: &Api, file: &Path, source: &str) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let listed = read(file, source, &mut report)?;
    let unlinked = enter_unlinked(api, &listed, source, &mut report).await?;
    let rows = listed
        .into_iter()
        .map(|Listed { line, ends, origin }| {
            let [a, b] = ends.map(|end| city(&end.source_key, &unlinked));
            (line, tie(a, b, origin))
        })
        .collect();
    send(api, rows, &mut report).await?;
    Ok(report)
}

fn read(file: &Path, source: &str, report: &mut Report) -> anyhow::Result<Vec<Listed>> {
    let mut reader = files::rows(file, b',')?;
    let mut records = reader.records();
    let header = records.next().context("the file is empty")??;
    let header: Vec<&str> = header.iter().collect();
    let columns: Columns = ties::columns(&header)?;
    let place = |name: &str| header.iter().position(|column| *column == name);
    let (id, claimed) = (place("tie_id").context("there is no column `tie_id`")?, place("claimed_by"));
    let mut listed = Vec::new();
    for record in records {
        let record = record?;
        let (line, fields) = (files::line(&record), record.iter().collect::<Vec<_>>());
        let ends = match ties::parse(columns.row(line, &fields)) {
            [Ok(a), Ok(b)] => [a, b],
            [Err(Unusable { line, reason }), _] | [_, Err(Unusable { line, reason })] => {
                report.refuse(line, reason);
                continue;
            }
        };
        if ends.iter().any(|end| end.tier() == CityTier::SubMunicipal) {
            report.refuse(line, "according to the source, an end is part of a city and cannot be a party (CT-2)");
            continue;
        }
        let field =
            |at: Option<usize>| at.and_then(|at| fields.get(at)).map(|field| (*field).to_owned()).unwrap_or_default();
        let origin =
            AgreementOrigin { source: source.to_owned(), external_id: field(Some(id)), claimed_by: field(claimed) };
        listed.push(Listed { line, ends, origin });
    }
    Ok(listed)
}

/// Creates unlinked cities for ends that no register contains: those that the list could not link to GeoNames, and
/// those with a GeoNames id that this node's register lacks. Returns their keys.
async fn enter_unlinked(
    api: &Api,
    listed: &[Listed],
    source: &str,
    report: &mut Report,
) -> anyhow::Result<HashSet<String>> {
    let mut ends: BTreeMap<&str, (usize, &CityRow)> = BTreeMap::new();
    for tie in listed {
        for end in &tie.ends {
            ends.entry(&end.source_key).or_insert((tie.line, end));
        }
    }
    let (linked, mut unlinked): (Vec<_>, Vec<_>) = ends.into_values().partition(|(_, end)| number(end).is_some());
    unlinked.extend(missing(api, linked, source).await?);
    let keys = unlinked.iter().map(|(_, end)| end.source_key.clone()).collect();
    let mut entered = Report::default();
    let rows = unlinked.into_iter().map(|(line, end)| (line, end.clone())).collect();
    cities::send(api, rows, source, &mut entered).await?;
    for (line, reason) in entered.refused {
        report.refuse(line, format!("an end that no register contains: {reason}"));
    }
    for (outcome, count) in entered.outcomes.into_iter().filter(|(outcome, _)| outcome != "refused") {
        *report.outcomes.entry(format!("unlinked cities {outcome}")).or_default() += count;
    }
    Ok(keys)
}

/// Returns the GeoNames id of an end, if the list has linked it.
fn number(end: &CityRow) -> Option<&str> {
    end.source_key.strip_prefix('g')
}

/// Returns the ends that the register does not contain. A trial import finds them: it would create them.
async fn missing<'a>(
    api: &Api,
    linked: Vec<(usize, &'a CityRow)>,
    source: &str,
) -> anyhow::Result<Vec<(usize, &'a CityRow)>> {
    let mut out = Vec::new();
    for batch in linked.chunks(BATCH) {
        let rows = batch
            .iter()
            .map(|(_, end)| CityRow {
                source_register: SourceRegister::Geonames as i32,
                source_key: number(end).unwrap_or_default().into(),
                ..(*end).clone()
            })
            .collect();
        let request =
            BatchImportCitiesRequest { rows, source: source.to_owned(), validate_only: true, ..Default::default() };
        let answer = api.cities().batch_import_cities(request).await?.into_inner();
        let unknown = answer.rows.iter().map(|row| row.outcome() == RowOutcome::Created);
        out.extend(batch.iter().zip(unknown).filter(|(_, unknown)| *unknown).map(|(end, _)| *end));
    }
    Ok(out)
}

/// Returns the name of the city for a key of the list.
fn city(key: &str, unlinked: &HashSet<String>) -> String {
    let record = match key.strip_prefix('g') {
        Some(number) if !unlinked.contains(key) => RecordId::from_source("geonames", number),
        _ => RecordId::from_source("ties", key),
    };
    format!("cities/{record}")
}

/// Sends ties in batches. If the partnerships service has not yet received a city of a tie, the tie is sent again,
/// for at most `HEARD`.
///
/// # Errors
/// If a call fails.
pub async fn send(api: &Api, rows: Vec<(usize, AgreementRow)>, report: &mut Report) -> anyhow::Result<()> {
    let bar = files::bar(rows.len() as u64, "ties");
    let deadline = Instant::now() + HEARD;
    let mut waiting = rows;
    while !waiting.is_empty() {
        let sent = std::mem::take(&mut waiting);
        let progress = sent.len();
        let mut answers = stream::iter(sent.chunks(BATCH).map(<[_]>::to_vec).map(|batch| batch_import(api, batch)))
            .buffered(IN_FLIGHT);
        while let Some(answer) = answers.try_next().await? {
            for ((line, row), imported) in answer {
                match imported.outcome() {
                    RowOutcome::Failed if unheard(&imported) && Instant::now() < deadline => {
                        waiting.push((line, row));
                        continue;
                    }
                    RowOutcome::Failed => report.refuse(line, row_failure(&imported)),
                    outcome => {
                        let name = outcome.as_str_name().trim_start_matches("ROW_OUTCOME_");
                        report.count(&name.to_lowercase());
                    }
                }
                bar.inc(1);
            }
        }
        if waiting.len() == progress {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn unheard(imported: &RowResult) -> bool {
    let info = row_status(imported).and_then(|status| status.get_details_error_info());
    info.is_some_and(|info| info.reason == "CITY_UNKNOWN")
}

type Answered = Vec<((usize, AgreementRow), RowResult)>;

async fn batch_import(api: &Api, batch: Vec<(usize, AgreementRow)>) -> anyhow::Result<Answered> {
    let rows = batch.iter().map(|(_, row)| row.clone()).collect();
    let request = BatchImportAgreementsRequest { rows, ..Default::default() };
    let answer = api.attestations().batch_import_agreements(request).await?.into_inner();
    Ok(batch.into_iter().zip(answer.rows).collect())
}
