//! Cities from published registers. An import fills in what is known there; it never erases, and never touches what a
//! city or its steward wrote.

use super::{City, fields};
use crate::rights;
use hansa_kernel::{Caller, Decision, FoldError, Moment, RecordId, Refusal, Refused, record::emit, text};
use hansa_proto::register::{
    self as proto, CityImported, CityRow, IdentifierScheme, ImportOutcome, city_change::Change,
};

/// Most rows of one import.
pub const IMPORT_ROWS: usize = 500;
/// The fields that a row can tell.
const TOLD: [&str; 6] = ["country_code", "admin1", "tier", "population", "location", "time_zone"];

/// The id of a row's city: two nodes that import the same register agree on it.
///
/// # Errors
/// INVALID_FIELD where the row names no source that is known, or no key.
pub fn row_id(row: &CityRow) -> Refused<RecordId> {
    let (scheme, key) = (row.source_scheme.as_str(), row.source_key.as_str());
    if !["geonames", "ties"].contains(&scheme) {
        return Err(Refusal::field("source_scheme", format!("`{}` is not known", text::excerpt(scheme))));
    }
    if key.is_empty() || key.len() > 64 || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(Refusal::field("source_key", "must be 1 to 64 letters and digits"));
    }
    Ok(RecordId::from_source(scheme, key))
}

/// Takes one row in. `before` is what the register holds under the row's id. Nothing changes where the row tells nothing
/// new, and where the city has joined (CT-10) or is no more (CT-11).
///
/// # Errors
/// CT-10 where the caller is not the steward of the entry; PL-4 where the row cannot be used.
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

/// Returns the outcome of an accepted row. `before` is the city before the import; `is_changed` says whether the import changed it.
#[must_use]
pub fn outcome(before: Option<&City>, is_changed: bool, at: Moment) -> ImportOutcome {
    match before {
        Some(city) if kept(city) || city.ended(at.today()).is_some() => ImportOutcome::Kept,
        _ if !is_changed => ImportOutcome::Unchanged,
        None => ImportOutcome::Created,
        Some(_) => ImportOutcome::Updated,
    }
}

fn kept(city: &City) -> bool {
    city.tenant().is_some()
}

impl City {
    /// Whether the field was written by hand.
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

    /// Fills in what the row tells.
    fn take(&mut self, row: &CityRow, first: bool) -> Refused<()> {
        if self.own & fields::NAME == 0 {
            self.display_name.clone_from(&row.display_name);
        }
        let from = as_city(row);
        for field in TOLD {
            // Each is checked even where it is not taken, so that a bad row is refused whatever the city holds.
            Self::blank(self.steward).apply(field, &from)?;
            if tells(field, row) && !self.is_own(field) {
                self.apply(field, &from)?;
            }
        }
        if first {
            self.linked = row.source_scheme != "ties";
            if row.source_scheme == "geonames" {
                self.identifiers.push((IdentifierScheme::Geonames, row.source_key.clone()));
            }
        }
        Ok(())
    }
}

/// Empty is unknown, and unknown does not erase.
fn tells(field: &str, row: &CityRow) -> bool {
    match field {
        "admin1" => !row.admin1.is_empty(),
        "population" => row.population != 0,
        "location" => row.location.is_some(),
        "time_zone" => !row.time_zone.is_empty(),
        _ => true,
    }
}

fn as_city(row: &CityRow) -> proto::City {
    proto::City {
        country_code: row.country_code.clone(),
        admin1: row.admin1.clone(),
        tier: row.tier,
        population: row.population,
        location: row.location,
        time_zone: row.time_zone.clone(),
        ..Default::default()
    }
}

/// What a row itself tells, without a register: its country and tier.
///
/// # Errors
/// PL-4 where the row cannot be used.
pub fn check(row: &CityRow) -> Refused<()> {
    row_id(row)?;
    text::name("display_name", &row.display_name)?;
    fields::tier(row.tier)?;
    row.location.as_ref().map(fields::location).transpose()?;
    fields::country(&row.country_code).map(drop)
}
