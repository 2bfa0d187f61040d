//! What is kept of cities, countries and offices.

use super::{EVALUATE, EVALUATE_COUNTRY, EVALUATE_PARTNERS};
use crate::views;
use hansa_journal::{Journal, Mirror, subscription::Subscription};
use hansa_kernel::RecordId;
use hansa_register_domain::reference::{CityReference, CountryReference, OfficeReference};
use uuid::Uuid;

/// All cities. A change bears on the city where it has joined, and on its partners where they are judged by it.
#[derive(Debug)]
pub struct Cities;

/// Whether something changed that a city's partners are judged by. What a tie says of a city holds until the city's own
/// entry says otherwise, so an entry that is new bears on them by its facts alone: an import of a whole country does not
/// have to look for the partners of each village.
fn bears_on_partners(before: Option<&CityReference>, after: &CityReference) -> bool {
    match before {
        None => !after.facts.is_empty(),
        Some(before) => before.country != after.country || before.facts != after.facts,
    }
}

impl Mirror for Cities {
    type State = CityReference;

    fn touches(
        record: RecordId,
        before: Option<&CityReference>,
        after: Option<&CityReference>,
    ) -> Vec<(&'static str, Uuid)> {
        let own = after.and_then(|city| city.tenant).map(|_| (EVALUATE, record.0));
        let bears = after.is_none_or(|after| bears_on_partners(before, after));
        let partners = bears.then_some((EVALUATE_PARTNERS, record.0));
        own.into_iter().chain(partners).collect()
    }
}

/// All countries. A change bears on their cities and on the partners of these.
#[derive(Debug)]
pub struct Countries;

impl Mirror for Countries {
    type State = CountryReference;

    fn touches(
        record: RecordId,
        before: Option<&CountryReference>,
        after: Option<&CountryReference>,
    ) -> Vec<(&'static str, Uuid)> {
        if before == after { Vec::new() } else { vec![(EVALUATE_COUNTRY, record.0)] }
    }
}

/// All offices, for their owners' evaluations alone (PL-1).
#[derive(Debug)]
pub struct Offices;

impl Mirror for Offices {
    type State = OfficeReference;

    fn touches(
        _record: RecordId,
        before: Option<&OfficeReference>,
        after: Option<&OfficeReference>,
    ) -> Vec<(&'static str, Uuid)> {
        after.or(before).map(|office| (EVALUATE, office.city.0)).into_iter().collect()
    }
}

/// The subscription.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("strategy-from-register", journal)
        .viewed::<Cities, views::joined_city::JoinedCities>()
        .mirror::<Countries>()
        .mirror::<Offices>()
}
