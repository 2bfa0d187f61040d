//! Readers of published files. A reader turns a row of text into a row of an import, or says why the row cannot be
//! used. Readers do no input or output: the caller splits the file into rows and fields.

pub mod cities_csv;
pub mod countries;
pub mod geonames;
pub mod ties;

use hansa_proto::{google::r#type::LatLng, register::CityTier};
use std::fmt;

/// The reason why a row cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unusable {
    /// The line number in the file. The header is line 1.
    pub line: usize,
    /// The reason, as a text for people.
    pub reason: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// The positions of the named columns in a file.
#[derive(Clone, Debug)]
pub struct Columns(Vec<(&'static str, usize)>);

impl Columns {
    /// Finds the wanted columns in a header and ignores the other columns.
    ///
    /// # Errors
    /// [`Unusable`] with line 1 if a wanted column is missing.
    pub fn find(header: &[&str], wanted: &[&'static str]) -> Result<Self, Unusable> {
        let place = |name: &&'static str| {
            let at = header.iter().position(|column| column.trim_start_matches('\u{feff}') == *name);
            at.map(|at| (*name, at)).ok_or_else(|| Unusable { line: 1, reason: format!("there is no column `{name}`") })
        };
        wanted.iter().map(place).collect::<Result<_, _>>().map(Self)
    }

    /// Returns a row of the file whose fields are read by column name.
    #[must_use]
    pub fn row<'a>(&'a self, line: usize, fields: &'a [&'a str]) -> Row<'a> {
        Row { columns: self, line, fields }
    }
}

/// One row of a file with named columns.
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

    /// Returns the field of a column, or an empty text if the row is too short.
    fn get(&self, column: &str) -> &'a str {
        let at = self.columns.0.iter().find(|(name, _)| *name == column).map(|(_, at)| *at);
        at.and_then(|at| self.fields.get(at)).map_or("", |field| field.trim())
    }

    fn year(&self, column: &str) -> Result<i32, Unusable> {
        let value = self.get(column);
        if value.is_empty() {
            return Ok(0);
        }
        // Some files contain a full date (YYYY-MM-DD). Only its year is kept.
        let year = if value.len() == 10 { value.get(..4).unwrap_or("") } else { value };
        year.parse().map_err(|_| self.no(format!("{column} is not a year")))
    }
}

/// Parses degrees into hundred-thousandths of a degree. The function works on text, so floating point rounds nothing;
/// it cuts off further digits.
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

/// Parses a location. Latitude and longitude must both be present or both be empty.
fn location(latitude: &str, longitude: &str) -> Result<Option<LatLng>, String> {
    if latitude.is_empty() && longitude.is_empty() {
        return Ok(None);
    }
    match (degrees_e5(latitude), degrees_e5(longitude)) {
        (Some(latitude), Some(longitude)) => Ok(Some(crate::city::fields::degrees((latitude, longitude)))),
        _ => Err("latitude and longitude must be decimal degrees".into()),
    }
}

/// Parses a population. Published files contain 0 if they do not know it.
fn population(text: &str) -> Result<Option<i32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let count: i32 = text.parse().map_err(|_| "population is not a number")?;
    Ok(Some(count).filter(|count| *count != 0))
}

/// Returns the tier for a GeoNames feature code. Places without a government are refused.
fn tier(feature_code: &str) -> Result<CityTier, String> {
    match feature_code {
        "PPLH" | "PPLCH" => Err("the place is historical".into()),
        "PPLQ" => Err("the place is abandoned".into()),
        "PPLW" => Err("the place was destroyed".into()),
        "PPLX" => Ok(CityTier::SubMunicipal),
        _ => Ok(CityTier::Municipality),
    }
}

#[cfg(test)]
#[path = "import/tests.rs"]
mod tests;
