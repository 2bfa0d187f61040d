//! The rpc handlers of the service: they parse the request, name the record and the rule, and respond.

pub mod city;
pub mod country;
pub mod office;
pub mod tenant;

use hansa_journal::{Journal, JournalError};
use hansa_kernel::{RecordId, RecordName, Refusal, Refused};
use hansa_register_domain::{City, tier::KnownCities};
use std::collections::BTreeMap;

/// Reads the entries of some cities. Cities that do not exist are left out.
async fn cities(journal: &Journal, ids: &[RecordId]) -> Result<BTreeMap<RecordId, City>, JournalError> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let loaded = journal.load_each::<City>(&ids).await?;
    Ok(loaded.into_iter().map(|city| (city.name.id, (*city.state).clone())).collect())
}

/// Reads the entry of one city.
///
/// # Errors
/// `NOT_FOUND` if it does not exist; `UNAVAILABLE` if the database is unavailable.
async fn city(journal: &Journal, id: RecordId) -> Refused<City> {
    let city = cities(journal, &[id]).await?.remove(&id);
    city.ok_or_else(|| Refusal::not_found(RecordName::new("cities", id)))
}

/// Reads the tiers of the cities that an entry names.
async fn known(journal: &Journal, ids: &[RecordId]) -> Result<KnownCities, JournalError> {
    Ok(cities(journal, ids).await?.iter().map(|(id, city)| (*id, city.into())).collect())
}
