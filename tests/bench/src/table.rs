//! The table: rows with floor, figure and ratio, for people and as JSON.

use crate::Options;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

/// What must be reached.
#[derive(Clone, Copy, Debug)]
pub enum Must {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
}

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Of which figure of the list.
    pub id: &'static str,
    /// What was measured.
    pub what: String,
    /// The unit of floor and figure.
    pub unit: &'static str,
    /// The floor, median of its runs, where there is one.
    pub floor: Option<f64>,
    /// The figure, median of its runs.
    pub figure: f64,
    /// Median of the ratios of the runs, each with the floor run beside it.
    pub ratio: Option<f64>,
    /// What must be reached: by the ratio where there is one, else by the figure.
    pub must: Option<Must>,
    /// Every run: floor (where there is one) and figure.
    pub runs: Vec<(Option<f64>, f64)>,
    /// How it was measured, and what differs from the definition.
    pub notes: Vec<String>,
    /// Why it could not be measured.
    pub failed: Option<String>,
}

/// The middle of some figures.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A part of sorted values, such as 0.99.
pub fn part(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = ((values.len() as f64 * part).ceil() as usize).saturating_sub(1).min(last);
    values.get(at).copied().unwrap_or(f64::NAN)
}

impl Row {
    /// From runs with the floor beside each.
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

    /// From runs without a floor.
    pub fn alone(id: &'static str, what: impl Into<String>, unit: &'static str, runs: &[f64]) -> Self {
        let runs_alone = runs.iter().map(|run| (None, *run)).collect();
        Self { id, what: what.into(), unit, figure: median(runs), runs: runs_alone, ..Self::default() }
    }

    /// What could not be measured.
    pub fn failed(id: &str, error: &anyhow::Error) -> Self {
        let id = crate::ALL.into_iter().find(|known| *known == id).unwrap_or_default();
        Self { id, what: "could not be measured".into(), failed: Some(format!("{error:#}")), ..Self::default() }
    }

    /// The same, with what must be reached.
    pub fn must(mut self, must: Must) -> Self {
        self.must = Some(must);
        self
    }

    /// The same, with a note.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn reached(&self) -> Option<bool> {
        // As it is printed.
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

/// The table for people.
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

/// The table for programs.
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
