//! `hansa import`: imports published data. Rows that cannot be imported are listed with line and reason, and the other
//! rows are imported. A second import of the same file changes nothing, and an interrupted import can be run again.

mod cities;
mod countries;
mod ties;

use crate::{cli::Import, output, session::Session};
use std::collections::BTreeMap;

pub use cities::{import as import_cities, send as send_cities};
pub use countries::{import as import_countries, send as send_countries};
pub use ties::{import as import_ties, send as send_ties, tie};

/// Maximum number of refused rows that are listed; further rows are counted.
const LISTED: usize = 20;
/// Number of batches in flight concurrently.
const IN_FLIGHT: usize = 4;

/// The outcome of an import.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of rows by outcome, such as `created`.
    pub outcomes: BTreeMap<String, u64>,
    /// Refused rows: line and reason.
    pub refused: Vec<(usize, String)>,
}

impl Report {
    /// Counts a row.
    pub fn count(&mut self, outcome: &str) {
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    /// Counts a refused row, and keeps its line and reason.
    pub fn refuse(&mut self, line: usize, reason: impl Into<String>) {
        self.count("refused");
        self.refused.push((line, reason.into()));
    }

    /// Returns how many rows had an outcome.
    pub fn of(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or(0)
    }

    /// Returns how often each reason occurred. The part of a reason that differs from row to row is cut off.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for (_, reason) in &self.refused {
            let kind: String = reason.split(['`', ';']).next().unwrap_or_default().trim().to_owned();
            *reasons.entry(kind).or_default() += 1;
        }
        reasons
    }

    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            let refused: Vec<_> =
                self.refused.iter().map(|(line, reason)| serde_json::json!({"line": line, "reason": reason})).collect();
            return output::print_json(&serde_json::json!({"outcomes": self.outcomes, "refused": refused}));
        }
        let rows = self.outcomes.iter().map(|(outcome, count)| vec![outcome.clone(), count.to_string()]);
        println!("{}", output::table(&["outcome", "rows"], rows));
        for (line, reason) in self.refused.iter().take(LISTED) {
            println!("line {line}: {reason}");
        }
        if self.refused.len() > LISTED {
            println!("and {} more; --json lists all", self.refused.len() - LISTED);
        }
        Ok(())
    }
}

/// Imports a file or a folder, and prints the report.
///
/// # Errors
/// If a file cannot be read or a call fails. Refused rows are no error.
pub async fn run(session: &Session, what: Import, json: bool) -> anyhow::Result<()> {
    let report = match what {
        Import::Cities { file, format, source } => import_cities(&session.api, &file, format, &source).await?,
        Import::Countries { folder } => import_countries(&session.api, &folder).await?,
        Import::Ties { file, source } => import_ties(&session.api, &file, &source).await?,
    };
    report.print(json)
}
