//! What a joined city has in use on a day, gathered from the mirrors in a few queries.

use crate::{
    subscriptions::{
        partnerships::Ties,
        register::{Cities, Countries, Offices},
    },
    views,
};
use chrono::NaiveDate;
use hansa_journal::{Journal, Mirrors};
use hansa_kernel::{Caller, RecordId, RecordName, Refusal, Refused, Relation, TenantId};
use hansa_partnerships_domain::ties::{Standing as TieStanding, Tie};
use hansa_proto::strategy::{StrategyState, TieKind};
use hansa_register_domain::{
    country, office,
    reference::{CityReference, CountryReference},
};
use hansa_strategy_domain::{
    CityFact, OfficeFact, PartnerFact, Portfolio, Strategy, TieFact, TieState, portfolio::guidelines_needed,
};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// How a joined city stands on a day.
#[derive(Debug)]
pub struct Standing {
    /// The city's tenant.
    pub tenant: TenantId,
    /// What it has in use.
    pub portfolio: Portfolio,
    /// The strategy by which it is judged.
    pub strategy: Option<Arc<Strategy>>,
}

impl Standing {
    /// How a caller stands to the city's own affairs: it is theirs, or it does not exist for them.
    #[must_use]
    pub fn relation(&self, caller: &Caller) -> Relation {
        if self.tenant == caller.tenant { Relation::Owner } else { Relation::Stranger }
    }
}

/// Cities of the register with their countries.
#[derive(Debug, Default)]
pub struct Places {
    cities: BTreeMap<Uuid, Arc<CityReference>>,
    countries: BTreeMap<Uuid, Arc<CountryReference>>,
}

impl Places {
    /// Reads cities and their countries, and countries that are named beside.
    async fn read(journal: &Journal, cities: &[Uuid], others: &[&str]) -> Refused<Self> {
        let cities: BTreeMap<_, _> = Mirrors::<Cities>::of(journal).get_each(cities).await?.into_iter().collect();
        let codes = cities.values().map(|city| city.country.as_str()).chain(others.iter().copied());
        let mut ids: Vec<Uuid> = codes.map(|code| country::id_of(code).0).collect();
        ids.sort_unstable();
        ids.dedup();
        let countries = Mirrors::<Countries>::of(journal).get_each(&ids).await?.into_iter().collect();
        Ok(Self { cities, countries })
    }

    fn country(&self, code: &str) -> Option<&CountryReference> {
        self.countries.get(&country::id_of(code).0).map(AsRef::as_ref)
    }

    /// A city as a partner; `country` is what its ties say, for a city whose entry has not come yet.
    fn partner(&self, city: RecordId, country: &str, day: NaiveDate) -> PartnerFact {
        let entry = self.cities.get(&city.0);
        let code = entry.map_or(country, |entry| entry.country.as_str());
        PartnerFact {
            city: city_name(city),
            name: entry.map(|entry| entry.name.clone()).unwrap_or_default(),
            country: code.to_owned(),
            democratic: self.country(code).and_then(|country| country.democratic_at(day)),
            languages: self.languages(entry.map(AsRef::as_ref), code, day),
        }
    }

    /// The city's own languages where they are known, else its country's.
    fn languages(&self, city: Option<&CityReference>, country: &str, day: NaiveDate) -> Vec<String> {
        match city.and_then(|city| city.languages(day)) {
            Some(own) => own.into_iter().map(str::to_owned).collect(),
            None => self.country(country).map(|country| country.languages.clone()).unwrap_or_default(),
        }
    }
}

fn city_name(city: RecordId) -> String {
    RecordName::new("cities", city).to_string()
}

/// How a city stands on a day; `None` where it is not known or has not joined.
///
/// # Errors
/// Where the database is away.
pub async fn of(journal: &Journal, city: RecordId, day: NaiveDate) -> Refused<Option<Standing>> {
    // Most cities that are marked have not joined: they cost one query.
    let Some(tenant) = tenant_of(journal, city).await? else { return Ok(None) };
    let ids = views::tie::of(journal.store(), city).await?;
    let ties = Mirrors::<Ties>::of(journal).get_each(&ids).await?;
    let ends: Vec<_> = ties.iter().filter_map(|(_, tie)| tie.partner_of(city)).collect();
    let mut cities: Vec<Uuid> = ends.iter().map(|end| end.city.0).chain([city.0]).collect();
    cities.sort_unstable();
    cities.dedup();
    let countries: Vec<&str> = ends.iter().map(|end| end.country.as_str()).collect();
    let places = Places::read(journal, &cities, &countries).await?;
    let own = places.partner(city, "", day);
    let facts = ties.iter().filter_map(|(id, tie)| tie_fact((*id, tie), city, &own, &places, day));
    let entry = places.cities.get(&city.0);
    let fact = CityFact {
        city: own.city.clone(),
        country: own.country.clone(),
        democratic: own.democratic,
        languages: own.languages.clone(),
        next_election: entry.and_then(|entry| entry.next_election),
    };
    let portfolio = Portfolio::new(fact, office_of(journal, city).await?, facts);
    Ok(Some(Standing { tenant, portfolio, strategy: strategy_of(journal, tenant, city).await? }))
}

/// The tenant that a city is; `None` where it is not known or has not joined.
///
/// # Errors
/// Where the database is away.
pub async fn tenant_of(journal: &Journal, city: RecordId) -> Refused<Option<TenantId>> {
    Ok(Mirrors::<Cities>::of(journal).get(city).await?.and_then(|city| city.tenant))
}

/// The next election of a city as its public entry has it.
///
/// # Errors
/// Where the database is away.
pub async fn next_election(journal: &Journal, city: RecordId) -> Refused<Option<NaiveDate>> {
    Ok(Mirrors::<Cities>::of(journal).get(city).await?.and_then(|city| city.next_election))
}

/// Cities that could become partners, by name. A name that is none, or of a city that is not known, is left out.
///
/// # Errors
/// Where the database is away.
pub async fn partners(
    journal: &Journal,
    names: impl IntoIterator<Item = &str>,
    day: NaiveDate,
) -> Refused<BTreeMap<String, PartnerFact>> {
    let named = names.into_iter().filter_map(|name| RecordName::parse(name, "cities", "partner").ok());
    let ids: Vec<Uuid> = named.map(|name| name.id.0).collect();
    let places = Places::read(journal, &ids, &[]).await?;
    let fact = |id: &Uuid| places.partner(RecordId(*id), "", day);
    Ok(places.cities.keys().map(fact).map(|fact| (fact.city.clone(), fact)).collect())
}

async fn office_of(journal: &Journal, city: RecordId) -> Refused<OfficeFact> {
    let office = Mirrors::<Offices>::of(journal).get(office::id_of(city)).await?;
    Ok(office.map_or_else(OfficeFact::default, |office| OfficeFact {
        exists: office.exists,
        // An office that has named no language has not said anything about them.
        languages: Some(office.languages.clone()).filter(|languages| !languages.is_empty()),
    }))
}

fn tie_fact(
    (id, tie): (Uuid, &Tie),
    city: RecordId,
    own: &PartnerFact,
    places: &Places,
    day: NaiveDate,
) -> Option<TieFact> {
    let which = tie.of(city)?;
    let (end, other) = (&tie.ends[which], &tie.ends[which.other()]);
    let partner = places.partner(other.city, &other.country, day);
    let state = state_of(tie);
    Some(TieFact {
        agreement: RecordName::new("agreements", RecordId(id)).to_string(),
        guidelines_needed: guidelines_needed(own.democratic, partner.democratic),
        partner: partner.city,
        partner_name: partner.name,
        country: partner.country,
        kind: TieKind::try_from(tie.kind as i32).unwrap_or_default(),
        state,
        active_since: tie.active_since,
        last_activity: tie.last_activity,
        dormant: tie.dormant && matches!(state, TieState::Active | TieState::Suspended),
        guidelines_stated: end.guidelines_stated,
        guidelines_overridden: end.guidelines_overridden,
        partner_languages: partner.languages,
    })
}

fn state_of(tie: &Tie) -> TieState {
    match tie.standing() {
        TieStanding::Preparing => TieState::Preparing,
        TieStanding::Active | TieStanding::Dormant => TieState::Active,
        TieStanding::Suspended => TieState::Suspended,
        TieStanding::Expired | TieStanding::Over => TieState::Ended,
    }
}

/// The strategy by which a city is judged: the one in force, else the last that lapsed, else its newest draft.
async fn strategy_of(journal: &Journal, tenant: TenantId, city: RecordId) -> Refused<Option<Arc<Strategy>>> {
    let standing = views::strategy::standing(journal.store(), tenant, city).await?;
    for state in [StrategyState::Adopted, StrategyState::Lapsed, StrategyState::Draft] {
        let ids: Vec<Uuid> = standing.iter().filter(|(_, is)| *is == state).map(|(id, _)| id.0).collect();
        let loaded = journal.load_each::<Strategy>(&ids).await?;
        if let Some(last) = loaded.into_iter().max_by_key(|one| (one.state.valid_until(), one.name.id)) {
            return Ok(Some(last.state));
        }
    }
    Ok(None)
}

/// Whether a tool that is to be linked is an agreement of the strategy's own city (ST-4). One of others is not told from one
/// that is not there (PL-1).
///
/// # Errors
/// NOT_FOUND under ST-4 where it is not.
pub fn must_be_own(tool: &str, tie: Option<&Tie>, strategy: &Strategy) -> Refused<()> {
    let city = RecordName::parse(strategy.city(), "cities", "city")?;
    if tie.is_some_and(|tie| tie.of(city.id).is_some()) {
        return Ok(());
    }
    Err(Refusal::not_found(tool)
        .under("ST-4")
        .missing("link.tool", "an agreement of the strategy's own city")
        .help("Name an agreement of this city. One that was just proposed can be linked a moment later."))
}
