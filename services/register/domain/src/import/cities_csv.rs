//! Reader of a CSV file of cities with a header. The columns may be in any order: geonameid, name, country, admin1,
//! population, lat, lon, timezone, feature_code.

use super::{Columns, Row, Unusable, location, population, tier};
use hansa_proto::register::{CityRow, SourceRegister};

/// The columns that the reader uses.
pub const COLUMNS: [&str; 9] =
    ["geonameid", "name", "country", "admin1", "population", "lat", "lon", "timezone", "feature_code"];

/// Parses one row, whose columns were found by [`columns`].
///
/// # Errors
/// Returns the line and the reason if the row cannot be used.
pub fn parse(row: Row) -> Result<CityRow, Unusable> {
    let key = row.get("geonameid");
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_digit()) {
        return Err(row.no("geonameid is not a number"));
    }
    let city = CityRow {
        source_register: SourceRegister::Geonames as i32,
        source_key: key.into(),
        display_name: row.get("name").into(),
        country_code: row.get("country").into(),
        subdivision_code: row.get("admin1").into(),
        tier: tier(row.get("feature_code")).map_err(|reason| row.no(reason))? as i32,
        population: population(row.get("population")).map_err(|reason| row.no(reason))?,
        location: location(row.get("lat"), row.get("lon")).map_err(|reason| row.no(reason))?,
        time_zone: row.get("timezone").into(),
    };
    crate::city::check(&city).map_err(|refusal| row.no(refusal.message))?;
    Ok(city)
}

/// Finds the columns in the file's header.
///
/// # Errors
/// Returns line 1 and the name of the column if a column is missing.
pub fn columns(header: &[&str]) -> Result<Columns, Unusable> {
    Columns::find(header, &COLUMNS)
}
