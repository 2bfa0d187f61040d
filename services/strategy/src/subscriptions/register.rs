//! The mirrors of the register's cities, countries and offices.

use super::{EVALUATE, EVALUATE_COUNTRY, EVALUATE_PARTNERS};
use crate::views;
use hansa_journal::{Journal, QueueKey, Subscription};
use hansa_kernel::RecordId;
use hansa_register_domain::reference::{CityReference, CountryReference, OfficeReference};

/// Returns whether a change affects the evaluations of the city's partners.
///
/// A tie names the country of both cities, which is used until a city's own entry is mirrored. So a new entry affects
/// partners only if it has facts, and the import of a whole country does not look for the partners of each city.
fn affects_partners(before: Option<&CityReference>, after: &CityReference) -> bool {
    match before {
        None => !after.facts.is_empty(),
        Some(before) => before.country != after.country || before.facts != after.facts,
    }
}

/// Enqueues the city if it has joined, and its partners if the change affects them.
fn invalidates_city(record: RecordId, before: Option<&CityReference>, after: Option<&CityReference>) -> Vec<QueueKey> {
    let own = after.and_then(|city| city.tenant).map(|_| (EVALUATE, record.0));
    let affects_partners = after.is_none_or(|after| affects_partners(before, after));
    let partners = affects_partners.then_some((EVALUATE_PARTNERS, record.0));
    own.into_iter().chain(partners).collect()
}

/// Enqueues the country. The worker of that queue enqueues the affected cities.
fn invalidates_country(
    record: RecordId,
    before: Option<&CountryReference>,
    after: Option<&CountryReference>,
) -> Vec<QueueKey> {
    if before == after { Vec::new() } else { vec![(EVALUATE_COUNTRY, record.0)] }
}

/// Enqueues the city of the office. Offices are private, so only the evaluation of their own city uses them (PL-1).
fn invalidates_office(
    _record: RecordId,
    before: Option<&OfficeReference>,
    after: Option<&OfficeReference>,
) -> Vec<QueueKey> {
    after.or(before).map(|office| (EVALUATE, office.city.0)).into_iter().collect()
}

/// Creates the subscription.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("strategy-from-register", journal)
        .mirror_invalidating::<CityReference>(invalidates_city)
        .view::<views::joined_city::Entity>()
        .mirror_invalidating::<CountryReference>(invalidates_country)
        .mirror_invalidating::<OfficeReference>(invalidates_office)
}
