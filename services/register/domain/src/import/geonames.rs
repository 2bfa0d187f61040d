//! Reader of the GeoNames dump: 19 columns separated by tabs, without a header. The dump contains populated places
//! and many other features; the reader accepts only populated places.

use super::{Unusable, location, population, tier};
use hansa_proto::register::{CityRow, SourceRegister};

/// The number of columns of a line.
pub const COLUMNS: usize = 19;

/// Parses one line of the dump, which the caller has split at the tabs.
///
/// # Errors
/// Returns the line and the reason if the row cannot be used.
pub fn parse(line: usize, fields: &[&str]) -> Result<CityRow, Unusable> {
    let no = |reason: String| Unusable { line, reason };
    let fields: &[&str; COLUMNS] =
        fields.try_into().map_err(|_| no(format!("the line has {} columns, not {COLUMNS}", fields.len())))?;
    let [id, name, _, _, latitude, longitude, class, code, country, _, admin1, _, _, _, count, _, _, zone, _] = fields;
    if *class != "P" {
        return Err(no("the feature is not a populated place".into()));
    }
    let city = CityRow {
        source_register: SourceRegister::Geonames as i32,
        source_key: (*id).into(),
        display_name: (*name).into(),
        country_code: (*country).into(),
        subdivision_code: (*admin1).into(),
        tier: tier(code).map_err(no)? as i32,
        population: population(count).map_err(no)?,
        location: location(latitude, longitude).map_err(no)?,
        time_zone: (*zone).into(),
    };
    crate::city::check(&city).map_err(|refusal| no(refusal.message))?;
    Ok(city)
}
