//! The mirrors of the register's cities and countries, whose facts membership criteria need.

use hansa_journal::{Journal, Subscription};
use hansa_register_domain::reference::{CityReference, CountryReference};

/// Creates the subscription to the register.
#[must_use]
pub fn register(journal: &Journal) -> Subscription {
    Subscription::new("networks-from-register", journal).mirror::<CityReference>().mirror::<CountryReference>()
}
