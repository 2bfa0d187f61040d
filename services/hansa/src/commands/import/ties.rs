//! Town twinnings from a list, as attested agreements (AG-13). An end that no register knows becomes an unlinked city.

use super::{IN_FLIGHT, Report, cities};
use crate::{api::Api, files};
use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use hansa_kernel::RecordId;
use hansa_proto::partnerships::{
    AgreementImportOutcome, AgreementOrigin, AgreementRow, BatchImportAgreementsRequest, ImportedAgreement,
};
use hansa_register_domain::import::{Columns, Unusable, ties};
use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

/// Ties a batch.
const BATCH: usize = 500;
/// How long the agreements may take to hear of cities that were entered a moment ago.
const HEARD: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A tie between two cities, by their names.
pub fn tie(initiator: String, partner: String, origin: AgreementOrigin) -> AgreementRow {
    AgreementRow { initiator, partner, origin: Some(origin), ..Default::default() }
}

/// Imports a file.
pub async fn import(api: &Api, file: &Path, source: &str) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let (rows, ends) = read(file, source, &mut report)?;
    let mut entered = Report::default();
    cities::send(api, ends, source, &mut entered).await?;
    for (line, reason) in entered.refused {
        report.refuse(line, format!("an end that no register knows: {reason}"));
    }
    for (outcome, count) in entered.outcomes.into_iter().filter(|(outcome, _)| outcome != "refused") {
        *report.outcomes.entry(format!("unlinked cities {outcome}")).or_default() += count;
    }
    send(api, rows, &mut report).await?;
    Ok(report)
}

type Ends = Vec<(usize, hansa_proto::register::CityRow)>;

fn read(file: &Path, source: &str, report: &mut Report) -> anyhow::Result<(Vec<(usize, AgreementRow)>, Ends)> {
    let mut reader = files::rows(file, b',')?;
    let mut records = reader.records();
    let header = records.next().context("the file is empty")??;
    let header: Vec<&str> = header.iter().collect();
    let columns: Columns = ties::columns(&header)?;
    let place = |name: &str| header.iter().position(|column| *column == name);
    let (id, claimed) = (place("tie_id").context("there is no column `tie_id`")?, place("claimed_by"));
    let (mut rows, mut ends, mut entered) = (Vec::new(), Vec::new(), HashSet::new());
    for record in records {
        let record = record?;
        let (line, fields) = (files::line(&record), record.iter().collect::<Vec<_>>());
        let field = |name: &str| place(name).and_then(|at| fields.get(at)).copied().unwrap_or_default();
        if [field("a_tier"), field("b_tier")].contains(&"SUB_MUNICIPAL") {
            report.refuse(line, "the source says that an end is part of a city, which is no party (CT-2)");
            continue;
        }
        let mut usable = true;
        for end in ties::parse(columns.row(line, &fields)) {
            match end {
                Ok(end) if entered.insert(end.source_key.clone()) => ends.push((line, end)),
                Ok(_) => {}
                Err(Unusable { line, reason }) => {
                    report.refuse(line, reason);
                    usable = false;
                }
            }
        }
        if usable {
            let origin = AgreementOrigin {
                source: source.to_owned(),
                tie_id: fields.get(id).copied().unwrap_or_default().to_owned(),
                claimed_by: claimed.and_then(|at| fields.get(at)).copied().unwrap_or_default().to_owned(),
            };
            rows.push((line, tie(city(field("a_id")), city(field("b_id")), origin)));
        }
    }
    Ok((rows, ends))
}

/// The city that a list means: `g` and GeoNames' number, or `x` and the list's own.
fn city(id: &str) -> String {
    let record = match id.strip_prefix('g') {
        Some(number) => RecordId::from_source("geonames", number),
        None => RecordId::from_source("ties", id),
    };
    format!("cities/{record}")
}

/// Sends ties. Those whose cities the agreements have not heard of yet are sent again for a while.
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
                    AgreementImportOutcome::Refused if unheard(&imported) && Instant::now() < deadline => {
                        waiting.push((line, row));
                        continue;
                    }
                    AgreementImportOutcome::Refused => report.refuse(line, imported.reason),
                    outcome => {
                        let name = outcome.as_str_name().trim_start_matches("AGREEMENT_IMPORT_OUTCOME_");
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

fn unheard(imported: &ImportedAgreement) -> bool {
    imported.reason.contains("(PL-1)")
}

type Answered = Vec<((usize, AgreementRow), ImportedAgreement)>;

async fn batch_import(api: &Api, batch: Vec<(usize, AgreementRow)>) -> anyhow::Result<Answered> {
    let rows = batch.iter().map(|(_, row)| row.clone()).collect();
    let request = BatchImportAgreementsRequest { rows, ..Default::default() };
    let answer = api.agreements().batch_import_agreements(request).await?.into_inner();
    Ok(batch.into_iter().zip(answer.rows).collect())
}
