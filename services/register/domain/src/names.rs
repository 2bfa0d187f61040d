//! The names of cities, as other records and changes contain them.

use hansa_kernel::{RecordId, RecordName, Refused};

/// The collection of cities.
pub(crate) const CITIES: &str = "cities";
/// The collection of offices.
pub(crate) const OFFICES: &str = "offices";

/// Parses the name of a city in a field.
///
/// # Errors
/// `INVALID_FIELD` if `name` is not the name of a city.
pub fn city_id(field: &str, name: &str) -> Refused<RecordId> {
    RecordName::parse(name, CITIES, field).map(|name| name.id)
}

/// Returns the name of a city.
pub fn city_name(id: RecordId) -> String {
    RecordName::new(CITIES, id).to_string()
}

/// Returns the id of a city's office. A city has at most one.
pub fn office_id(city: RecordId) -> RecordId {
    city.of("office")
}

/// Returns the name of a city's office.
pub fn office_name(city: RecordId) -> String {
    RecordName::new(OFFICES, office_id(city)).to_string()
}
