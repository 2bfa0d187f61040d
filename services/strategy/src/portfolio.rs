//! Reads the portfolio and the strategy of joined cities from the mirrors and views, in a fixed number of queries.

use crate::views;
use chrono::NaiveDate;
use hansa_journal::{Journal, JournalError, Loaded, Mirrors};
use hansa_kernel::{Caller, RecordId, RecordName, Refusal, Refused, Relation, TenantId};
use hansa_partnerships_domain::{
    agreement::Which,
    ties::{Standing as TieStanding, Tie},
};
use hansa_proto::strategy::StrategyState;
use hansa_register_domain::{
    country, office,
    reference::{CityReference, CountryReference, OfficeReference},
};
use hansa_strategy_domain::{
    CityFact, OfficeFact, PartnerFact, Portfolio, Strategy, TieFact, TieState, portfolio::guidelines_needed,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// The inputs of a joined city's evaluation on a day.
#[derive(Debug)]
pub struct Standing {
    /// The city's tenant.
    pub tenant: TenantId,
    /// The city's portfolio.
    pub portfolio: Portfolio,
    /// The strategy that the evaluation uses.
    pub strategy: Option<Arc<Strategy>>,
}

impl Standing {
    /// Returns the caller's relation to the city's private records: owner, or stranger.
    #[must_use]
    pub fn relation(&self, caller: &Caller) -> Relation {
        if self.tenant == caller.tenant { Relation::Owner } else { Relation::Stranger }
    }
}

/// An index of cities of the register and their countries.
#[derive(Debug, Default)]
pub struct CityIndex {
    cities: BTreeMap<Uuid, Arc<CityReference>>,
    countries: BTreeMap<Uuid, Arc<CountryReference>>,
}

impl CityIndex {
    /// Reads the cities and their countries.
    async fn read(journal: &Journal, cities: &[Uuid]) -> Refused<Self> {
        let cities = Mirrors::<CityReference>::new(journal).get_each(cities).await?.into_iter().collect();
        Self::with(journal, cities, &[]).await
    }

    /// Creates an index of these cities. Reads their countries and the other countries, given by code.
    async fn with(journal: &Journal, cities: BTreeMap<Uuid, Arc<CityReference>>, others: &[&str]) -> Refused<Self> {
        let codes = cities.values().map(|city| city.country.as_str()).chain(others.iter().copied());
        let ids = distinct(codes.map(|code| country::id_of(code).0));
        let countries = Mirrors::<CountryReference>::new(journal).get_each(&ids).await?.into_iter().collect();
        Ok(Self { cities, countries })
    }

    fn country(&self, code: &str) -> Option<&CountryReference> {
        self.countries.get(&country::id_of(code).0).map(AsRef::as_ref)
    }

    /// Returns a city as a partner. `country` is the country named by the tie; it is used if the city's entry is not
    /// mirrored.
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

    /// Returns the city's own languages if they are known, otherwise those of its country.
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

/// Reads the inputs of a city's evaluation; `None` if the city is unknown or has not joined.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn of(journal: &Journal, city: RecordId, day: NaiveDate) -> Refused<Option<Standing>> {
    Ok(of_each(journal, &[city.0], day).await?.remove(&city.0))
}

/// Reads the inputs of several cities' evaluations. The number of queries does not depend on the number of cities. The
/// result omits cities that are unknown or have not joined.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn of_each(journal: &Journal, cities: &[Uuid], day: NaiveDate) -> Refused<HashMap<Uuid, Standing>> {
    let read = Read::of(journal, cities).await?;
    Ok(read.joined.iter().map(|(id, tenant)| (*id, read.standing(RecordId(*id), *tenant, day))).collect())
}

/// The records read for some cities.
#[derive(Default)]
struct Read {
    joined: BTreeMap<Uuid, TenantId>,
    places: CityIndex,
    offices: HashMap<Uuid, Arc<OfficeReference>>,
    /// The agreements of each city.
    tied: HashMap<Uuid, Vec<Uuid>>,
    ties: HashMap<Uuid, Arc<Tie>>,
    /// The strategies of each city that are not superseded.
    strategies: HashMap<Uuid, Vec<Loaded<Strategy>>>,
}

impl Read {
    /// Reads the records. Independent queries run concurrently.
    async fn of(journal: &Journal, cities: &[Uuid]) -> Refused<Self> {
        let (mirrored, offices) = (Mirrors::<CityReference>::new(journal), Mirrors::<OfficeReference>::new(journal));
        let office_ids = Vec::from_iter(cities.iter().map(|city| office::id_of(RecordId(*city)).0));
        let (mut own, offices, mut ends, standing) = tokio::try_join!(
            mirrored.get_each(cities),
            offices.get_each(&office_ids),
            views::tie::of_each(journal.store(), cities),
            views::strategy::standing_each(journal.store(), cities),
        )?;
        let joined: BTreeMap<Uuid, TenantId> = own.iter().filter_map(|(id, city)| Some((*id, city.tenant?))).collect();
        if joined.is_empty() {
            return Ok(Self::default());
        }
        own.retain(|(id, _)| joined.contains_key(id));
        ends.retain(|end| joined.contains_key(&end.city));
        let partners = distinct(ends.iter().map(|end| end.partner).filter(|partner| !joined.contains_key(partner)));
        let tied = distinct(ends.iter().map(|end| end.record));
        let (ties, partners, strategies) = tokio::try_join!(
            async { Mirrors::<Tie>::new(journal).get_each(&tied).await },
            mirrored.get_each(&partners),
            strategies_of(journal, &joined, &standing),
        )?;
        let countries = ties.iter().flat_map(|(_, tie)| Which::ALL.map(|which| tie.ends[which].country.as_str()));
        let countries: Vec<&str> = countries.collect();
        let places = CityIndex::with(journal, own.into_iter().chain(partners).collect(), &countries).await?;
        let mut tied: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
        for end in ends {
            tied.entry(end.city).or_default().push(end.record);
        }
        let (offices, ties) = (offices.into_iter().collect(), ties.into_iter().collect());
        Ok(Self { joined, places, offices, tied, ties, strategies })
    }

    fn standing(&self, city: RecordId, tenant: TenantId, day: NaiveDate) -> Standing {
        let own = self.places.partner(city, "", day);
        let ties =
            self.tied.get(&city.0).into_iter().flatten().filter_map(|id| Some((*id, self.ties.get(id)?.as_ref())));
        let ties = ties.filter_map(|tie| tie_fact(tie, city, &own, &self.places, day));
        let fact = CityFact {
            city: own.city.clone(),
            country: own.country.clone(),
            democratic: own.democratic,
            languages: own.languages.clone(),
            next_election: self.places.cities.get(&city.0).and_then(|entry| entry.next_election),
        };
        let office = office_fact(self.offices.get(&office::id_of(city).0).map(AsRef::as_ref));
        let strategy = self.strategies.get(&city.0).and_then(|strategies| by_which(strategies));
        Standing { tenant, portfolio: Portfolio::new(fact, office, ties), strategy }
    }
}

async fn strategies_of(
    journal: &Journal,
    joined: &BTreeMap<Uuid, TenantId>,
    standing: &[views::strategy::Model],
) -> Result<HashMap<Uuid, Vec<Loaded<Strategy>>>, JournalError> {
    let own = |one: &&views::strategy::Model| joined.get(&one.city).is_some_and(|tenant| tenant.0 == one.tenant);
    let city_of: HashMap<Uuid, Uuid> = standing.iter().filter(own).map(|one| (one.record, one.city)).collect();
    let mut out: HashMap<Uuid, Vec<Loaded<Strategy>>> = HashMap::new();
    for loaded in journal.load_each::<Strategy>(&distinct(city_of.keys().copied())).await? {
        if let Some(city) = city_of.get(&loaded.name.id.0) {
            out.entry(*city).or_default().push(loaded);
        }
    }
    Ok(out)
}

fn distinct(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    ids.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the tenant of a city; `None` if the city is unknown or has not joined.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn tenant_of(journal: &Journal, city: RecordId) -> Refused<Option<TenantId>> {
    Ok(Mirrors::<CityReference>::new(journal).get(city).await?.and_then(|city| city.tenant))
}

/// Returns the next election of a city, as recorded in its public entry.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn next_election(journal: &Journal, city: RecordId) -> Refused<Option<NaiveDate>> {
    Ok(Mirrors::<CityReference>::new(journal).get(city).await?.and_then(|city| city.next_election))
}

/// Reads possible partner cities by resource name. The result omits malformed names and unknown cities.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn partners(
    journal: &Journal,
    names: impl IntoIterator<Item = &str>,
    day: NaiveDate,
) -> Refused<BTreeMap<String, PartnerFact>> {
    let named = names.into_iter().filter_map(|name| RecordName::parse(name, "cities", "partner").ok());
    let ids: Vec<Uuid> = named.map(|name| name.id.0).collect();
    let places = CityIndex::read(journal, &ids).await?;
    let fact = |id: &Uuid| places.partner(RecordId(*id), "", day);
    Ok(places.cities.keys().map(fact).map(|fact| (fact.city.clone(), fact)).collect())
}

fn office_fact(office: Option<&OfficeReference>) -> OfficeFact {
    office.map_or_else(OfficeFact::default, |office| OfficeFact {
        exists: office.exists,
        // If an office has named no languages, its languages are unknown.
        languages: Some(office.languages.clone()).filter(|languages| !languages.is_empty()),
    })
}

fn tie_fact(
    (id, tie): (Uuid, &Tie),
    city: RecordId,
    own: &PartnerFact,
    places: &CityIndex,
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
        kind: tie.kind,
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

/// Returns the strategy that the evaluation uses: the one in force, else the last one that lapsed, else the newest
/// draft.
fn by_which(strategies: &[Loaded<Strategy>]) -> Option<Arc<Strategy>> {
    let order = [StrategyState::Adopted, StrategyState::Lapsed, StrategyState::Draft];
    let of = |state| strategies.iter().filter(move |one| one.state.state() == state);
    let last = |state| of(state).max_by_key(|one| (one.state.last_valid_date(), one.name.id));
    order.into_iter().find_map(last).map(|one| one.state.clone())
}

/// Checks that a tool to link is an agreement of the strategy's own city (ST-4). The refusal is the same for an
/// agreement of other cities and for one that does not exist (PL-1).
///
/// # Errors
/// `NOT_FOUND` under ST-4 if the tool is not an agreement of the city.
pub fn must_be_own(tool: &str, tie: Option<&Tie>, strategy: &Strategy) -> Refused<()> {
    let city = RecordName::parse(strategy.city(), "cities", "city")?;
    if tie.is_some_and(|tie| tie.of(city.id).is_some()) {
        return Ok(());
    }
    Err(Refusal::not_found(tool)
        .under("ST-4")
        .missing("link.tool", "an agreement of the strategy's own city")
        .help("Name an agreement of this city. Retry a moment later if the agreement was just proposed."))
}
