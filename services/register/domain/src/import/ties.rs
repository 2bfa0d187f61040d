//! Reader of the cities in a list of twin towns. The register enters a city that no published register contains as
//! unlinked, so that both ends of every tie are cities of the register.

use super::{Columns, Row, Unusable, location};
use hansa_proto::register::{CityRow, CityTier, SourceRegister};

/// The columns that the reader uses, for both ends of a tie.
pub const COLUMNS: [&str; 12] = [
    "a_id",
    "a_name",
    "a_country",
    "a_tier",
    "a_lat",
    "a_lon",
    "b_id",
    "b_name",
    "b_country",
    "b_tier",
    "b_lat",
    "b_lon",
];

/// Finds the columns in the file's header.
///
/// # Errors
/// [`Unusable`] with line 1 if a column is missing.
pub fn columns(header: &[&str]) -> Result<Columns, Unusable> {
    Columns::find(header, &COLUMNS)
}

/// Parses both ends of one tie as rows of unlinked cities, for the case that no published register contains them.
pub fn parse(row: Row) -> [Result<CityRow, Unusable>; 2] {
    let a = ["a_id", "a_name", "a_country", "a_tier", "a_lat", "a_lon"];
    let b = ["b_id", "b_name", "b_country", "b_tier", "b_lat", "b_lon"];
    [a, b].map(|columns| end(row, columns))
}

fn end(row: Row, columns: [&str; 6]) -> Result<CityRow, Unusable> {
    let [id, name, country, tier, latitude, longitude] = columns.map(|column| row.get(column));
    let tier = match tier {
        "MUNICIPALITY" => CityTier::Municipality,
        "SUB_MUNICIPAL" => CityTier::SubMunicipal,
        "REGION" => CityTier::Region,
        other => return Err(row.no(format!("tier `{other}` is not known"))),
    };
    let city = CityRow {
        source_register: SourceRegister::Ties as i32,
        source_key: id.into(),
        display_name: name.into(),
        country_code: country.into(),
        tier: tier as i32,
        location: location(latitude, longitude).map_err(|reason| row.no(reason))?,
        ..Default::default()
    };
    crate::city::check(&city).map_err(|refusal| row.no(refusal.message))?;
    Ok(city)
}
