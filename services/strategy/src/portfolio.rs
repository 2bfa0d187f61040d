//! What a joined city has in use on a day, gathered from the mirrors in a few queries.

use crate::views;
use chrono::NaiveDate;
use hansa_journal::{Journal, JournalError, Loaded, Mirrors};
use hansa_kernel::{Caller, RecordId, RecordName, Refusal, Refused, Relation, TenantId};
use hansa_partnerships_domain::{
    agreement::Which,
    ties::{Standing as TieStanding, Tie},
};
use hansa_proto::strategy::{StrategyState, TieKind};
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
pub struct CityIndex {
    cities: BTreeMap<Uuid, Arc<CityReference>>,
    countries: BTreeMap<Uuid, Arc<CountryReference>>,
}

impl CityIndex {
    /// Reads cities and their countries.
    async fn read(journal: &Journal, cities: &[Uuid]) -> Refused<Self> {
        let cities = Mirrors::<CityReference>::new(journal).get_each(cities).await?.into_iter().collect();
        Self::with(journal, cities, &[]).await
    }

    /// Cities that were read, with their countries and those that are named beside.
    async fn with(journal: &Journal, cities: BTreeMap<Uuid, Arc<CityReference>>, others: &[&str]) -> Refused<Self> {
        let codes = cities.values().map(|city| city.country.as_str()).chain(others.iter().copied());
        let ids = distinct(codes.map(|code| country::id_of(code).0));
        let countries = Mirrors::<CountryReference>::new(journal).get_each(&ids).await?.into_iter().collect();
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
    Ok(of_each(journal, &[city.0], day).await?.remove(&city.0))
}

/// How cities stand on a day, read together: the number of queries does not depend on theirs. Those that are not known or
/// have not joined are left out.
///
/// # Errors
/// Where the database is away.
pub async fn of_each(journal: &Journal, cities: &[Uuid], day: NaiveDate) -> Refused<HashMap<Uuid, Standing>> {
    let read = Read::of(journal, cities).await?;
    Ok(read.joined.iter().map(|(id, tenant)| (*id, read.standing(RecordId(*id), *tenant, day))).collect())
}

/// What is read of some cities.
#[derive(Default)]
struct Read {
    joined: BTreeMap<Uuid, TenantId>,
    places: CityIndex,
    offices: HashMap<Uuid, Arc<OfficeReference>>,
    /// The agreements of each city.
    tied: HashMap<Uuid, Vec<Uuid>>,
    ties: HashMap<Uuid, Arc<Tie>>,
    /// The strategies of each city that were not superseded.
    strategies: HashMap<Uuid, Vec<Loaded<Strategy>>>,
}

impl Read {
    /// Whatever can be asked for at the same moment is.
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

/// The tenant that a city is; `None` where it is not known or has not joined.
///
/// # Errors
/// Where the database is away.
pub async fn tenant_of(journal: &Journal, city: RecordId) -> Refused<Option<TenantId>> {
    Ok(Mirrors::<CityReference>::new(journal).get(city).await?.and_then(|city| city.tenant))
}

/// The next election of a city as its public entry has it.
///
/// # Errors
/// Where the database is away.
pub async fn next_election(journal: &Journal, city: RecordId) -> Refused<Option<NaiveDate>> {
    Ok(Mirrors::<CityReference>::new(journal).get(city).await?.and_then(|city| city.next_election))
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
    let places = CityIndex::read(journal, &ids).await?;
    let fact = |id: &Uuid| places.partner(RecordId(*id), "", day);
    Ok(places.cities.keys().map(fact).map(|fact| (fact.city.clone(), fact)).collect())
}

fn office_fact(office: Option<&OfficeReference>) -> OfficeFact {
    office.map_or_else(OfficeFact::default, |office| OfficeFact {
        exists: office.exists,
        // An office that has named no language has not said anything about them.
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
fn by_which(strategies: &[Loaded<Strategy>]) -> Option<Arc<Strategy>> {
    let order = [StrategyState::Adopted, StrategyState::Lapsed, StrategyState::Draft];
    let of = |state| strategies.iter().filter(move |one| one.state.state() == state);
    let last = |state| of(state).max_by_key(|one| (one.state.valid_until(), one.name.id));
    order.into_iter().find_map(last).map(|one| one.state.clone())
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
