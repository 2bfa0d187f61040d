//! Readers of published files: from the text of a row to a row of an import, or the reason why it cannot be used. They do
//! no input or output: the caller splits the file into rows and fields.

pub mod cities_csv;
pub mod countries;
pub mod geonames;
pub mod ties;

use hansa_proto::register::{CityTier, Location};
use std::fmt;

/// A row that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unusable {
    /// The line of the file, from 1, counting the header.
    pub line: usize,
    /// Why, for people.
    pub reason: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Where the named columns stand in a file.
#[derive(Clone, Debug)]
pub struct Columns(Vec<(&'static str, usize)>);

impl Columns {
    /// Finds the columns in a header; others are passed over.
    ///
    /// # Errors
    /// At line 1 where one is missing.
    pub fn find(header: &[&str], wanted: &[&'static str]) -> Result<Self, Unusable> {
        let place = |name: &&'static str| {
            let at = header.iter().position(|column| column.trim_start_matches('\u{feff}') == *name);
            at.map(|at| (*name, at)).ok_or_else(|| Unusable { line: 1, reason: format!("there is no column `{name}`") })
        };
        wanted.iter().map(place).collect::<Result<_, _>>().map(Self)
    }

    /// A row of the file, to be read by column.
    #[must_use]
    pub fn row<'a>(&'a self, line: usize, fields: &'a [&'a str]) -> Row<'a> {
        Row { columns: self, line, fields }
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    columns: &'a Columns,
    line: usize,
    fields: &'a [&'a str],
}

impl<'a> Row<'a> {
    fn no(&self, reason: impl Into<String>) -> Unusable {
        Unusable { line: self.line, reason: reason.into() }
    }

    /// The field of a column; empty where the row is too short.
    fn get(&self, column: &str) -> &'a str {
        let at = self.columns.0.iter().find(|(name, _)| *name == column).map(|(_, at)| *at);
        at.and_then(|at| self.fields.get(at)).map_or("", |field| field.trim())
    }

    fn year(&self, column: &str) -> Result<i32, Unusable> {
        let value = self.get(column);
        if value.is_empty() {
            return Ok(0);
        }
        // Some files give the day: its year is what is kept.
        let year = if value.len() == 10 { value.get(..4).unwrap_or("") } else { value };
        year.parse().map_err(|_| self.no(format!("{column} is no year")))
    }
}

/// Degrees in whole hundred-thousandths, read as text so that no float rounds them; further digits are cut.
fn degrees_e5(text: &str) -> Option<i32> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit()) {
        return None;
    }
    let fraction: String = fraction.chars().chain("00000".chars()).take(5).collect();
    let value = whole.parse::<i32>().ok()?.checked_mul(100_000)?.checked_add(fraction.parse().ok()?)?;
    Some(if negative { -value } else { value })
}

/// Both or neither.
fn location(latitude: &str, longitude: &str) -> Result<Option<Location>, String> {
    if latitude.is_empty() && longitude.is_empty() {
        return Ok(None);
    }
    match (degrees_e5(latitude), degrees_e5(longitude)) {
        (Some(latitude_e5), Some(longitude_e5)) => Ok(Some(Location { latitude_e5, longitude_e5 })),
        _ => Err("latitude and longitude are no degrees".into()),
    }
}

fn population(text: &str) -> Result<i64, String> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| "population is no number".into()) }
}

/// What GeoNames' code of a feature means for a tier; places that nobody governs are left out.
fn tier(feature_code: &str) -> Result<CityTier, String> {
    match feature_code {
        "PPLH" | "PPLCH" => Err("a historical place".into()),
        "PPLQ" => Err("an abandoned place".into()),
        "PPLW" => Err("a destroyed place".into()),
        "PPLX" => Ok(CityTier::SubMunicipal),
        _ => Ok(CityTier::Municipality),
    }
}

#[cfg(test)]
#[path = "import/tests.rs"]
mod tests;
