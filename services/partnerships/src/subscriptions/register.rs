//! The register's cities and countries: who the parties are, and where they lie.

use super::inheritance;
use hansa_journal::Mirror;
use hansa_kernel::RecordId;
use hansa_register_domain::reference::{CityReference, CountryReference};
use uuid::Uuid;

/// Cities.
#[derive(Debug)]
pub struct Cities;

impl Mirror for Cities {
    type State = CityReference;

    fn touches(
        record: RecordId,
        before: Option<&CityReference>,
        after: Option<&CityReference>,
    ) -> Vec<(&'static str, Uuid)> {
        let successor = |city: Option<&CityReference>| city.and_then(|city| city.successor);
        let new = successor(after).is_some() && successor(after) != successor(before);
        if new { vec![(inheritance::QUEUE, record.0)] } else { Vec::new() }
    }
}

/// Countries.
#[derive(Debug)]
pub struct Countries;

impl Mirror for Countries {
    type State = CountryReference;
}
