//! GeoNames' own dump: 19 columns by tabs, without a header, populated places among many other features.

use super::{Unusable, location, population, tier};
use hansa_proto::register::CityRow;

/// How many columns a line has.
pub const COLUMNS: usize = 19;

/// One line of the dump, split at its tabs.
///
/// # Errors
/// The line and the reason where the row cannot be used.
pub fn parse(line: usize, fields: &[&str]) -> Result<CityRow, Unusable> {
    let no = |reason: String| Unusable { line, reason };
    let fields: &[&str; COLUMNS] =
        fields.try_into().map_err(|_| no(format!("has {} columns, not {COLUMNS}", fields.len())))?;
    let [id, name, _, _, latitude, longitude, class, code, country, _, admin1, _, _, _, count, _, _, zone, _] = fields;
    if *class != "P" {
        return Err(no("is no populated place".into()));
    }
    let city = CityRow {
        source_scheme: "geonames".into(),
        source_key: (*id).into(),
        display_name: (*name).into(),
        country_code: (*country).into(),
        admin1: (*admin1).into(),
        tier: tier(code).map_err(no)? as i32,
        population: population(count).map_err(no)?,
        location: location(latitude, longitude).map_err(no)?,
        time_zone: (*zone).into(),
    };
    crate::city::check(&city).map_err(|refusal| no(refusal.message))?;
    Ok(city)
}
