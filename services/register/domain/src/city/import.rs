//! Import of cities from published registers. An import fills in the fields that the published register knows. It never
//! erases a value and never overwrites a field that a city or its steward wrote.

use super::{City, fields};
use crate::rights;
use hansa_kernel::{Caller, Decision, FoldError, Moment, RecordId, Refusal, Refused, record::emit, text};
use hansa_proto::{
    register::{self as proto, CityImported, CityRow, IdentifierScheme, SourceRegister, city_change::Change},
    types::RowOutcome,
};

/// Maximum number of rows of one import.
pub const IMPORT_ROWS: usize = 500;
/// The fields that a row can contain.
const TOLD: [&str; 6] = ["country_code", "subdivision_code", "tier", "population", "location", "time_zone"];

/// Returns the id of a row's city. Two nodes that import the same register derive the same id.
///
/// # Errors
/// `INVALID_FIELD` if the source of the row is unknown or its key is invalid.
pub fn row_id(row: &CityRow) -> Refused<RecordId> {
    let key = row.source_key.as_str();
    let scheme = match row.source_register() {
        SourceRegister::Geonames => "geonames",
        SourceRegister::Ties => "ties",
        SourceRegister::Unspecified => return Err(Refusal::field("source_register", "is required")),
    };
    if key.is_empty() || key.len() > 64 || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(Refusal::field("source_key", "must be 1 to 64 letters and digits"));
    }
    Ok(RecordId::from_source(scheme, key))
}

/// Imports one row. `before` is the city that the register holds under the row's id, if any. Nothing changes if the row
/// contains nothing new, if the city has joined (CT-10) or if the city has ended (CT-11).
///
/// # Errors
/// Refused under CT-10 if the caller is not the steward of the entry, and under PL-4 if the row is invalid.
pub fn import(before: Option<&City>, row: &CityRow, source: &str, caller: &Caller, at: Moment) -> Decision<Change> {
    rights::steward(caller)?;
    row_id(row)?;
    text::name("source", source)?;
    text::name("display_name", &row.display_name)?;
    let (mut next, first) = match before {
        Some(city) if kept(city) => return Ok(Vec::new()),
        Some(city) => {
            rights::change(city, caller)?;
            if city.ended(at.today()).is_some() {
                return Ok(Vec::new());
            }
            (city.clone(), false)
        }
        None => (City::blank(caller.tenant), true),
    };
    next.take(row, first)?;
    if before == Some(&next) {
        return Ok(Vec::new());
    }
    emit(CityImported { row: Some(row.clone()), source: source.to_owned() })
}

/// Returns the outcome of an accepted row. `before` is the city before the import; `is_changed` says whether the import
/// changed it.
#[must_use]
pub fn outcome(before: Option<&City>, is_changed: bool, at: Moment) -> RowOutcome {
    match before {
        Some(city) if kept(city) || city.ended(at.today()).is_some() => RowOutcome::Skipped,
        _ if !is_changed => RowOutcome::Unchanged,
        None => RowOutcome::Created,
        Some(_) => RowOutcome::Updated,
    }
}

fn kept(city: &City) -> bool {
    city.tenant().is_some()
}

impl City {
    /// Returns whether the field was written by hand.
    pub(super) fn is_own(&self, field: &str) -> bool {
        self.own & fields::bit(field) != 0
    }

    pub(super) fn imported(&mut self, imported: &CityImported, first: bool) -> Result<(), FoldError> {
        let row = imported.row.clone().unwrap_or_default();
        self.take(&row, first).map_err(|refusal| FoldError(refusal.message))?;
        if first {
            self.source.clone_from(&imported.source);
        }
        Ok(())
    }

    /// Writes the fields that the row contains, except those that were written by hand.
    fn take(&mut self, row: &CityRow, first: bool) -> Refused<()> {
        if self.own & fields::NAME == 0 {
            self.display_name.clone_from(&row.display_name);
        }
        let from = as_city(row);
        for field in TOLD {
            // Fields that are not written are checked too: a bad row is refused, whatever the state of the city.
            Self::blank(self.steward).apply(field, &from)?;
            if tells(field, row) && !self.is_own(field) {
                self.apply(field, &from)?;
            }
        }
        if first {
            self.registered = row.source_register() != SourceRegister::Ties;
            if row.source_register() == SourceRegister::Geonames {
                self.identifiers.push((IdentifierScheme::Geonames, row.source_key.clone()));
            }
        }
        Ok(())
    }
}

/// Returns whether the row has a value for the field. An empty field means unknown and must not erase a known value.
fn tells(field: &str, row: &CityRow) -> bool {
    match field {
        "subdivision_code" => !row.subdivision_code.is_empty(),
        "population" => row.population.is_some(),
        "location" => row.location.is_some(),
        "time_zone" => !row.time_zone.is_empty(),
        _ => true,
    }
}

fn as_city(row: &CityRow) -> proto::City {
    proto::City {
        country_code: row.country_code.clone(),
        subdivision_code: row.subdivision_code.clone(),
        tier: row.tier,
        population: row.population,
        location: row.location,
        time_zone: row.time_zone.clone(),
        ..Default::default()
    }
}

/// Checks the fields of a row that can be checked without the register: key, name, tier, location and country.
///
/// # Errors
/// Refused under PL-4 if a field is invalid.
pub fn check(row: &CityRow) -> Refused<()> {
    row_id(row)?;
    text::name("display_name", &row.display_name)?;
    fields::tier(row.tier)?;
    row.location.as_ref().map(fields::location).transpose()?;
    fields::country(&row.country_code).map(drop)
}
