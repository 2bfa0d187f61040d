//! The test fixture: a register, agreements, and the strategy service, each with its own journal in a temporary folder.
//! No worker runs in the background; a test runs them by calling [`World::settle`].
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of the fixture")]

use chrono::{DateTime, NaiveDate, Utc};
use hansa_chassis::{Module, auth_layer::Rpc};
use hansa_journal::{Author, Clock, Command, Journal, JournalSource, ManualClock, NodeKeys, Store, Worker};
use hansa_kernel::{Caller, Decision, Moment, PersonId, Record, RecordId, RecordName, Role, TenantId, time};
use hansa_partnerships_domain::agreement::{self, Agreement, Both, CityFacts, Facts, Settings, Tier};
use hansa_proto::{
    partnerships::{AgreementOrigin, AgreementRow},
    register::{
        self as proto_register, CountryRow, OfficeExistence, RegimeClass, SetFactRequest, UpdateOfficeRequest,
        country_row::Fact,
    },
    strategy::{
        self as proto, AdoptStrategyRequest, CreateStrategyRequest, Dimension, Evaluation, FindingCode, GoalAim,
        Outcome, SetGoalRequest,
    },
    types::{CouncilVote, LocalizedText, VoteResult},
};
use hansa_register_domain::{City, Country, Office, city, country, fact, office, sample};
use hansa_strategy::evaluator::Evaluator;
use hansa_strategy_domain::{DraftFacts, Evaluations, Rubric, Strategy, evaluation, strategy};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    service::{Routes, RoutesBuilder},
};
use uuid::Uuid;

pub const NODE: TenantId = TenantId(Uuid::from_u128(1));
pub const PARIS: TenantId = TenantId(Uuid::from_u128(2));
pub const ROME: TenantId = TenantId(Uuid::from_u128(3));

pub fn caller(tenant: TenantId, role: Role) -> Caller {
    Caller { tenant, person: PersonId(Uuid::from_u128(9)), roles: vec![role], scopes: vec!["*".into()] }
}

pub fn paris() -> RecordId {
    RecordId::from_source("geonames", "2988507")
}

pub fn rome() -> RecordId {
    RecordId::from_source("geonames", "3169070")
}

pub fn cairo() -> RecordId {
    RecordId::from_source("geonames", "360630")
}

pub fn city_name(city: RecordId) -> RecordName {
    RecordName::new("cities", city)
}

pub fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

pub fn noon(of: NaiveDate) -> DateTime<Utc> {
    of.and_hms_opt(12, 0, 0).unwrap().and_utc()
}

pub fn words(text: &str) -> Vec<LocalizedText> {
    vec![LocalizedText { language_code: "en".into(), text: text.into(), ..LocalizedText::default() }]
}

pub fn goal(id: &str, aim: GoalAim) -> proto::Goal {
    proto::Goal {
        goal_id: id.into(),
        aim: aim as i32,
        dimension: Dimension::Culture as i32,
        outcomes: vec![Outcome::Social as i32],
        title: words("Bring schools together"),
        indicator: words("Pupils a year"),
        baseline: "0".into(),
        target: "1200".into(),
        target_date: Some(time::date(day(2030, 1, 1))),
        ..proto::Goal::default()
    }
}

pub fn adoption(name: &str) -> AdoptStrategyRequest {
    AdoptStrategyRequest {
        name: name.into(),
        council_vote: Some(CouncilVote {
            result: VoteResult::Approved as i32,
            vote_date: Some(time::date(day(2025, 5, 1))),
            minutes: Some("2025-17".into()),
            ..CouncilVote::default()
        }),
        next_election_date: Some(time::date(day(2026, 3, 15))),
        ..AdoptStrategyRequest::default()
    }
}

/// The migrations of a journal without the tables of a service.
struct Bare;

impl MigratorTrait for Bare {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        hansa_journal::migrations()
    }
}

pub struct World {
    pub clock: ManualClock,
    pub register: Journal,
    pub partnerships: Journal,
    pub module: Module,
    queues: Mutex<Vec<Box<dyn Worker>>>,
    _folder: tempfile::TempDir,
}

impl World {
    /// Creates three cities with their countries. None of the cities has joined.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(noon(day(2025, 6, 1)));
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let keys = NodeKeys::from_secret(&[7; 32]);
        let file = |name: &str| folder.path().join(name);
        let store = Store::sqlite::<Bare>(&file("register.db")).await.unwrap();
        let register = Journal::builder("register").record::<City>().record::<Country>().record::<Office>();
        let register = register.open(store, keys.clone(), shared.clone()).await.unwrap();
        let store = Store::sqlite::<Bare>(&file("partnerships.db")).await.unwrap();
        let partnerships = Journal::builder("partnerships").record::<Agreement>();
        let partnerships = partnerships.open(store, keys.clone(), shared.clone()).await.unwrap();
        let store = Store::sqlite::<hansa_strategy::Migrator>(&file("strategy.db")).await.unwrap();
        let module = hansa_strategy::service().open(store, keys, shared).await.unwrap();
        let evaluator = Arc::new(Evaluator::new(&module.journal, Arc::new(Rubric::embedded())));
        let queues = Mutex::new(evaluator.queues());
        let world = Self { clock, register, partnerships, module, queues, _folder: folder };
        world.fill().await;
        world
    }

    async fn fill(&self) {
        let mut rows = sample::country_rows();
        rows.retain(|row| ["FR", "IT", "EG"].contains(&row.country_code.as_str()));
        self.import_countries(rows).await;
        for city in sample::CITIES.iter().filter(|city| [paris(), rome(), cairo()].contains(&city.id())) {
            let (name, row) = (city_name(city.id()), city.row());
            let steward = caller(NODE, Role::Steward);
            self.act(&self.register, &steward.clone(), name, move |before: Option<&City>, at| {
                city::import(before, &row, "GeoNames", &steward, at)
            })
            .await;
        }
    }

    pub async fn import_countries(&self, rows: Vec<CountryRow>) {
        for (code, rows) in country::by_country(rows) {
            let (name, steward) = (RecordName::new("countries", country::id_of(&code)), caller(NODE, Role::Steward));
            self.act(&self.register, &steward.clone(), name, move |before: Option<&Country>, _| {
                country::import(before, &code, &rows, &steward)
            })
            .await;
        }
    }

    pub async fn act<R: Record>(
        &self,
        journal: &Journal,
        by: &Caller,
        name: RecordName,
        rule: impl Fn(Option<&R>, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    ) {
        let author = Author { actor: by.actor(None), tenant: Some(by.tenant), trace: None };
        journal.submit(Command::new(name, author, rule), false).await.unwrap();
    }

    /// Imports a new regime of a country.
    pub async fn regime(&self, code: &str, class: RegimeClass) {
        let mut rows = sample::country_rows();
        rows.retain(|row| row.country_code == code);
        for row in &mut rows {
            if let Some(Fact::Regime(regime)) = &mut row.fact {
                regime.regime_class = class as i32;
                regime.value = (class as i32 - RegimeClass::ClosedAutocracy as i32).to_string();
            }
        }
        self.import_countries(rows).await;
    }

    pub async fn join(&self, city: RecordId, tenant: TenantId) {
        let steward = caller(NODE, Role::Steward);
        self.act(&self.register, &steward.clone(), city_name(city), move |state: Option<&City>, at| {
            city::join(state.unwrap(), tenant, &steward, at)
        })
        .await;
    }

    /// Records the languages of a city.
    pub async fn languages(&self, city: RecordId, by: &Caller, languages: &str) {
        let fact = proto_register::Fact {
            key: "languages".into(),
            value: languages.into(),
            source: "statute".into(),
            as_of_date: Some(time::date(day(2020, 1, 1))),
        };
        let (set, as_who) = (SetFactRequest { fact: Some(fact), ..SetFactRequest::default() }, by.clone());
        self.act(&self.register, by, city_name(city), move |state: Option<&City>, at| {
            fact::set(state.unwrap(), &set, &as_who, at)
        })
        .await;
    }

    /// Records that a city has no office.
    pub async fn no_office(&self, city: RecordId, by: &Caller) {
        let name = RecordName::new("offices", office::id_of(city));
        let office = proto_register::Office {
            name: name.to_string(),
            city: city_name(city).to_string(),
            existence: OfficeExistence::None as i32,
            ..proto_register::Office::default()
        };
        let update = UpdateOfficeRequest {
            office: Some(office),
            update_mask: Some(prost_types::FieldMask { paths: vec!["existence".into()] }),
            ..UpdateOfficeRequest::default()
        };
        let entry = self.register.load::<City>(&city_name(city)).await.unwrap().unwrap().state;
        let as_who = by.clone();
        self.act(&self.register, by, name, move |before: Option<&Office>, _| {
            office::update(before, (city, &entry), &update, &as_who)
        })
        .await;
    }

    /// Imports a tie in force between two cities.
    pub async fn tie(&self, cities: [(RecordId, &str); 2]) -> RecordName {
        let fact = |(city, country): (RecordId, &str)| CityFacts {
            city,
            display_name: country.into(),
            tier: Tier::Municipality,
            country: country.into(),
            tenant: None,
            democratic: None,
            unregistered: false,
            successor: None,
            council_vote: None,
            ceremony: None,
        };
        let facts = Facts {
            cities: Both { initiator: fact(cities[0]), partner: fact(cities[1]) },
            settings: Settings::default(),
        };
        let origin = AgreementOrigin {
            source: "wikidata".into(),
            external_id: format!("{}-{}", cities[0].0, cities[1].0),
            claimed_by: String::new(),
        };
        let name = RecordName::new("agreements", agreement::import_id(&origin));
        let command = AgreementRow {
            initiator: city_name(cities[0].0).to_string(),
            partner: city_name(cities[1].0).to_string(),
            origin: Some(origin),
            ..AgreementRow::default()
        };
        let steward = caller(NODE, Role::Steward);
        self.act(&self.partnerships, &steward.clone(), name.clone(), move |_: Option<&Agreement>, at| {
            agreement::import(&command, &steward, &facts, at)
        })
        .await;
        name
    }

    /// Creates and adopts a strategy of Paris.
    pub async fn adopt(&self) {
        let (journal, mayor) = (&self.module.journal, caller(PARIS, Role::Mayor));
        let id = RecordId(Uuid::now_v7());
        let name = RecordName::new("strategies", id);
        let draft =
            proto::Strategy { city: city_name(paris()).to_string(), title: words("Paris"), ..Default::default() };
        let create = CreateStrategyRequest { strategy: Some(draft), ..CreateStrategyRequest::default() };
        let ground = DraftFacts { city_tenant: Some(PARIS), grace_months: strategy::GRACE_MONTHS };
        let by = mayor.clone();
        let begin = move |_: Option<&Strategy>, _| strategy::create(&create, id, ground, &by);
        self.act(journal, &mayor, name.clone(), begin).await;
        for (id, aim) in [("peace", GoalAim::ConflictPrevention), ("trade", GoalAim::EconomicAttractiveness)] {
            let put = SetGoalRequest { goal: Some(goal(id, aim)), ..SetGoalRequest::default() };
            let by = mayor.clone();
            let rule = move |state: Option<&Strategy>, _| strategy::set_goal(state.unwrap(), &put, &by);
            self.act(journal, &mayor, name.clone(), rule).await;
        }
        let (by, adopt) = (mayor.clone(), adoption(name.as_str()));
        let rule = move |state: Option<&Strategy>, at| strategy::adopt(state.unwrap(), &adopt, None, &by, at);
        self.act(journal, &mayor, name, rule).await;
    }

    /// Runs subscriptions and work queues until none has work left.
    pub async fn settle(&self) {
        loop {
            let mut moved = 0;
            for (from, subscription) in &self.module.subscriptions {
                let journal = match *from {
                    "register" => &self.register,
                    "partnerships" => &self.partnerships,
                    _ => &self.module.journal,
                };
                moved += subscription.step(&mut JournalSource::new(journal)).await.unwrap();
            }
            for queue in self.queues.lock().await.iter_mut() {
                moved += queue.step().await.unwrap();
            }
            if moved == 0 {
                return;
            }
        }
    }

    /// Returns the routes of the service with its authorisation policy.
    pub fn routes(&mut self, drain: &CancellationToken) -> Routes {
        let policy = Module::policy(std::slice::from_ref(&self.module)).unwrap();
        let mut routes = RoutesBuilder::default();
        self.module.mount(&mut routes, &Arc::new(policy), drain);
        routes.routes()
    }

    /// Returns a city's latest evaluation and the number of recorded evaluations.
    pub async fn evaluation(&self, city: RecordId) -> Option<(Evaluation, u64)> {
        let name = evaluation::name_of(&city_name(city));
        let found = self.module.journal.load::<Evaluations>(&name).await.unwrap();
        found.map(|found| (found.state.latest(), found.version))
    }

    /// Returns the latest evaluation of Paris and its number. Panics if there is none.
    pub async fn judged(&self) -> (Evaluation, u64) {
        self.evaluation(paris()).await.unwrap()
    }
}

/// Creates a request as the auth layer passes it on.
pub fn call<Q>(by: &Caller, method: &str, message: Q) -> Request<Q> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(by.clone());
    request.extensions_mut().insert(Rpc(format!("/hansa.strategy.v1.{method}").into()));
    request
}

pub fn finds(evaluation: &Evaluation, code: FindingCode) -> bool {
    evaluation.findings.iter().any(|finding| finding.code() == code)
}
