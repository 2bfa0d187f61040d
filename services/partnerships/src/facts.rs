//! The facts of cities that rules need, from the mirrors of the register.

use hansa_journal::{Journal, Mirrors};
use hansa_kernel::{RecordId, RecordName, Refusal, Refused};
use hansa_partnerships_domain::agreement::{Agreement, Both, CityFacts, Facts, Settings, Tier};
use hansa_proto::{register::CityTier, types::AgreementKind};
use hansa_register_domain::{
    country::{self, Formalities},
    reference::{self, CityReference, CountryReference},
};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Parses the names of the two cities in a request.
pub fn named(initiator: &str, partner: &str) -> Refused<Both<RecordId>> {
    Ok(Both {
        initiator: RecordName::parse(initiator, "cities", "initiator")?.id,
        partner: RecordName::parse(partner, "cities", "partner")?.id,
    })
}

/// Reads the facts of two cities.
///
/// # Errors
/// `NOT_FOUND` if a city is not mirrored; `UNAVAILABLE` if the database is unavailable.
pub async fn of(journal: &Journal, cities: &Both<RecordId>) -> Refused<Facts> {
    CityFactsReader::read(journal, &[cities.initiator, cities.partner]).await?.facts(cities)
}

/// Reads the facts of an agreement's cities.
///
/// # Errors
/// `NOT_FOUND` if the agreement does not exist or a city is not mirrored; `UNAVAILABLE` if the database is unavailable.
pub async fn of_record(journal: &Journal, name: &RecordName) -> Refused<Facts> {
    let agreement = journal.load::<Agreement>(name).await?.ok_or_else(|| Refusal::not_found(name))?;
    of(journal, &agreement.state.cities()).await
}

/// The mirrors of some cities and of their countries.
pub struct CityFactsReader {
    cities: HashMap<Uuid, Arc<CityReference>>,
    countries: HashMap<Uuid, Arc<CountryReference>>,
    today: chrono::NaiveDate,
}

impl CityFactsReader {
    /// Reads the mirrors.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn read(journal: &Journal, ids: &[RecordId]) -> Refused<Self> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let cities: HashMap<_, _> = Mirrors::<CityReference>::new(journal).get_each(&ids).await?.into_iter().collect();
        let mut codes: Vec<&str> = cities.values().map(|city| city.country.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        let of: Vec<Uuid> = codes.into_iter().map(|code| country::id_of(code).0).collect();
        let countries = Mirrors::<CountryReference>::new(journal).get_each(&of).await?.into_iter().collect();
        Ok(Self { cities, countries, today: journal.clock().moment().today() })
    }

    /// Returns the facts of two cities.
    ///
    /// # Errors
    /// `NOT_FOUND` if one is not mirrored.
    pub fn facts(&self, cities: &Both<RecordId>) -> Refused<Facts> {
        let cities = Both { initiator: self.city(cities.initiator)?, partner: self.city(cities.partner)? };
        Ok(Facts { cities, settings: Settings::default() })
    }

    /// Returns the facts of one city.
    ///
    /// # Errors
    /// `NOT_FOUND` if it is not mirrored.
    pub fn city(&self, id: RecordId) -> Refused<CityFacts> {
        let city = self.cities.get(&id.0).ok_or_else(|| reference::unknown(id))?;
        let country = self.countries.get(&country::id_of(&city.country).0).map(Arc::as_ref);
        Ok(CityFacts {
            city: id,
            display_name: city.name.clone(),
            tier: tier(city.tier),
            country: city.country.clone(),
            tenant: city.tenant,
            democratic: country.and_then(|country| country.democratic_at(self.today)),
            unregistered: city.unregistered,
            successor: city.successor_on(self.today),
            council_vote: self.kinds(city, country, "council_vote_kinds", |law| &law.council_vote),
            ceremony: self.kinds(city, country, "ceremony_kinds", |law| &law.ceremony),
        })
    }
}

impl CityFactsReader {
    /// Returns the kinds of agreement that require a formality. The city's own fact overrides its country's law (AG-1).
    fn kinds(
        &self,
        city: &CityReference,
        country: Option<&CountryReference>,
        fact: &str,
        law: fn(&Formalities) -> &Vec<AgreementKind>,
    ) -> Option<Vec<AgreementKind>> {
        let by_law = || country.and_then(|country| country.formalities_on(self.today)).map(|of| law(of).clone());
        city.kinds(fact, self.today).or_else(by_law)
    }
}

fn tier(tier: CityTier) -> Tier {
    match tier {
        CityTier::Unspecified | CityTier::Municipality => Tier::Municipality,
        CityTier::Metropolis => Tier::Metropolis,
        CityTier::SubMunicipal => Tier::SubMunicipal,
        CityTier::Region => Tier::Region,
    }
}
