//! The result table: rows with floor, figure and ratio, printed as text and written as JSON.

use crate::Options;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

/// The target of a row.
#[derive(Clone, Copy, Debug)]
pub enum Must {
    /// The minimum value.
    Least(f64),
    /// The maximum value.
    Most(f64),
}

/// One row of the table.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The id of the measurement, such as `Q-1`.
    pub id: &'static str,
    /// The row's title: what was measured.
    pub what: String,
    /// The unit of floor and figure.
    pub unit: &'static str,
    /// The floor, the median of its runs, if the row has one.
    pub floor: Option<f64>,
    /// The figure, the median of its runs.
    pub figure: f64,
    /// The median of the runs' ratios. Each ratio divides a figure by the floor of the same run.
    pub ratio: Option<f64>,
    /// The target: for the ratio if the row has a floor, otherwise for the figure.
    pub must: Option<Must>,
    /// Every run: its floor, if the row has one, and its figure.
    pub runs: Vec<(Option<f64>, f64)>,
    /// Notes on the method and on differences from the definition.
    pub notes: Vec<String>,
    /// The error, if the measurement failed.
    pub failed: Option<String>,
}

/// Returns the median of some values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Returns a quantile of the values, such as 0.99. Sorts the values.
pub fn part(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = ((values.len() as f64 * part).ceil() as usize).saturating_sub(1).min(last);
    values.get(at).copied().unwrap_or(f64::NAN)
}

impl Row {
    /// Builds a row from runs of floor and figure.
    pub fn beside(id: &'static str, what: impl Into<String>, unit: &'static str, runs: &[(f64, f64)]) -> Self {
        let floors: Vec<f64> = runs.iter().map(|run| run.0).collect();
        let figures: Vec<f64> = runs.iter().map(|run| run.1).collect();
        let ratios: Vec<f64> = runs.iter().map(|run| run.1 / run.0).collect();
        Self {
            id,
            what: what.into(),
            unit,
            floor: Some(median(&floors)),
            figure: median(&figures),
            ratio: Some(median(&ratios)),
            runs: runs.iter().map(|run| (Some(run.0), run.1)).collect(),
            ..Self::default()
        }
    }

    /// Builds a row from runs without a floor.
    pub fn alone(id: &'static str, what: impl Into<String>, unit: &'static str, runs: &[f64]) -> Self {
        let runs_alone = runs.iter().map(|run| (None, *run)).collect();
        Self { id, what: what.into(), unit, figure: median(runs), runs: runs_alone, ..Self::default() }
    }

    /// Builds the row of a failed measurement.
    pub fn failed(id: &str, error: &anyhow::Error) -> Self {
        let id = crate::ALL.into_iter().find(|known| *known == id).unwrap_or_default();
        Self { id, what: "could not be measured".into(), failed: Some(format!("{error:#}")), ..Self::default() }
    }

    /// Sets the target.
    pub fn must(mut self, must: Must) -> Self {
        self.must = Some(must);
        self
    }

    /// Adds a note.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn reached(&self) -> Option<bool> {
        // Judge the rounded value, so that the table does not contradict itself.
        let is = (self.ratio.unwrap_or(self.figure) * 100.0).round() / 100.0;
        Some(match self.must? {
            Must::Least(least) => is >= least,
            Must::Most(most) => is <= most,
        })
    }

    fn must_text(&self) -> String {
        let times = if self.ratio.is_some() { " x".to_owned() } else { format!(" {}", self.unit) };
        match self.must {
            None => String::new(),
            Some(Must::Least(least)) => format!("≥ {}{times}", short(least)),
            Some(Must::Most(most)) => format!("≤ {}{times}", short(most)),
        }
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Formats the table as text.
pub fn print(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(150).set_header(["id", "what", "floor", "figure", "unit", "ratio", "must", "reached"]);
    let shown = |value: Option<f64>| value.map(short).unwrap_or_default();
    for row in rows {
        let figure = if row.failed.is_some() { "-".into() } else { short(row.figure) };
        let reached = row.reached().map_or("", |yes| if yes { "yes" } else { "no" });
        let (floor, ratio) = (shown(row.floor), shown(row.ratio));
        table.add_row([row.id, &row.what, &floor, &figure, row.unit, &ratio, &row.must_text(), reached]);
    }
    let mut out = table.to_string();
    for row in rows {
        let said = row.notes.iter().chain(&row.failed);
        for note in said {
            out.push_str(&format!("\n{} ({}): {note}", row.id, row.what));
        }
    }
    out
}

/// Formats the table as JSON.
pub fn json(rows: &[Row], options: &Options) -> anyhow::Result<String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.id, "what": row.what, "unit": row.unit, "floor": row.floor, "figure": row.figure,
                "ratio": row.ratio, "must": row.must_text(), "reached": row.reached(), "notes": row.notes,
                "runs": row.runs.iter().map(|(floor, figure)| json!({"floor": floor, "figure": figure}))
                    .collect::<Vec<_>>(),
                "failed": row.failed,
            })
        })
        .collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let out = json!({
        "rows": rows, "runs": options.runs, "seconds": options.seconds, "records": options.records, "cores": cores,
        "measured": chrono::Utc::now().to_rfc3339(),
    });
    Ok(serde_json::to_string_pretty(&out)? + "\n")
}
