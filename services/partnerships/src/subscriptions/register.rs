//! The register's cities and countries: who the parties are, and where they lie.

use super::inheritance;
use hansa_journal::Mirror;
use hansa_kernel::{Misfit, RecordId, Stamp};
use hansa_proto::register::{city_change, country_change};
use hansa_register_domain::reference::{CityReference, CountryReference};
use uuid::Uuid;

/// Cities.
#[derive(Debug)]
pub struct Cities;

impl Mirror for Cities {
    const COLLECTION: &'static str = "cities";
    const REVISION: u32 = 2;
    type State = CityReference;
    type Change = city_change::Change;

    fn fold(before: Option<CityReference>, change: &Self::Change, stamp: &Stamp) -> Result<CityReference, Misfit> {
        CityReference::fold(before, change, stamp)
    }

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
    const COLLECTION: &'static str = "countries";
    const REVISION: u32 = 2;
    type State = CountryReference;
    type Change = country_change::Change;

    fn fold(
        before: Option<CountryReference>,
        change: &Self::Change,
        stamp: &Stamp,
    ) -> Result<CountryReference, Misfit> {
        CountryReference::fold(before, change, stamp)
    }
}
