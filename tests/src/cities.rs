//! Cities with their callers, and the steps that lead to an agreement between two of them.

use crate::{Caller, Platform, eventually, request_id, text, today};
use hansa_kernel::{RecordId, Role, time};
use hansa_proto::{
    partnerships::{
        Agreement, AgreementTerms, ConfirmPlanRequest, ConfirmRationaleRequest, Guidelines, GuidelinesGround,
        OpenDialogueRequest, ProposeAgreementRequest, ProposePlanRequest, ProposeRationaleRequest,
        RecordCouncilVoteRequest, Sector, SignAgreementRequest, StateGuidelinesRequest,
    },
    register::{
        BatchImportCitiesRequest, BatchImportCountryFactsRequest, CityRow, CityTier, CountryRow, CreateTenantRequest,
        RegimeClass, RegimeFact, RegimeScheme, SourceRegister, Tenant, TenantKind, country_row,
    },
    strategy::{
        AdoptStrategyRequest, CreateStrategyRequest, Dimension, Goal, GoalAim, Outcome, SetGoalRequest, Strategy,
    },
    types::{AgreementKind, CouncilVote, RowOutcome, VoteResult},
};
use tonic::Code;

/// Returns a council's approval of today, with its minutes.
#[must_use]
pub fn approval(minutes: &str) -> CouncilVote {
    CouncilVote {
        result: VoteResult::Approved as i32,
        vote_date: Some(today()),
        minutes: Some(minutes.into()),
        tally: None,
    }
}

/// A city that has joined, with its callers.
#[derive(Clone)]
pub struct City {
    /// `cities/{city}`.
    pub city: String,
    /// `tenants/{tenant}`.
    pub tenant: String,
    /// The mayor.
    pub mayor: Caller,
    /// The international relations officer.
    pub office: Caller,
    /// The clerk of the council.
    pub clerk: Caller,
    /// An observer, who can only read.
    pub observer: Caller,
}

/// Returns the resource name of the city with this source key.
#[must_use]
pub fn name(key: &str) -> String {
    format!("cities/{}", RecordId::from_source("geonames", key))
}

/// Imports cities (key, name, country) and their countries' regimes into the register.
pub async fn enter(platform: &Platform, cities: &[(&str, &str, &str)], regimes: &[(&str, RegimeClass)]) {
    let steward = platform.steward();
    let rows = cities
        .iter()
        .map(|(key, called, country)| CityRow {
            source_register: SourceRegister::Geonames as i32,
            source_key: (*key).into(),
            display_name: (*called).into(),
            country_code: (*country).into(),
            tier: CityTier::Municipality as i32,
            population: Some(500_000),
            ..Default::default()
        })
        .collect();
    let request = BatchImportCitiesRequest { rows, source: "a test".into(), ..Default::default() };
    let answer = steward.cities().batch_import_cities(request).await.unwrap().into_inner();
    assert!(answer.rows.iter().all(|row| row.outcome() == RowOutcome::Created), "{answer:?}");
    let rows = regimes
        .iter()
        .map(|(country, class)| {
            let fact = RegimeFact {
                scheme: RegimeScheme::Row as i32,
                year: 2024,
                regime_class: *class as i32,
                source: "a test".into(),
                ..Default::default()
            };
            CountryRow { country_code: (*country).into(), fact: Some(country_row::Fact::Regime(fact)) }
        })
        .collect();
    let request = BatchImportCountryFactsRequest { rows, ..Default::default() };
    steward.countries().batch_import_country_facts(request).await.unwrap();
}

/// Makes a city a tenant and returns its callers.
pub async fn join(platform: &Platform, key: &str) -> City {
    let tenant = Tenant { kind: TenantKind::City as i32, city: name(key), ..Default::default() };
    let request = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
    let tenant = platform.steward().tenants().create_tenant(request).await.unwrap().into_inner().name;
    let of = |role| platform.caller(Some(&tenant), &[role]);
    City {
        city: name(key),
        mayor: of(Role::Mayor),
        office: of(Role::IrOfficer),
        clerk: of(Role::CouncilClerk),
        observer: of(Role::Observer),
        tenant,
    }
}

/// Returns the request that proposes a cooperation agreement between two cities.
pub fn proposal(initiator: &str, partner: &str) -> ProposeAgreementRequest {
    let terms = AgreementTerms {
        kind: AgreementKind::Cooperation as i32,
        title: text("Cooler streets"),
        sectors: vec![Sector::Climate as i32],
        term_months: 60,
        ..Default::default()
    };
    ProposeAgreementRequest {
        initiator: initiator.into(),
        partner: partner.into(),
        terms: Some(terms),
        request_id: request_id(),
        ..Default::default()
    }
}

/// Retries a request until the partnerships service has mirrored the cities and their tenants.
async fn heard(a: &City, request: ProposeAgreementRequest, as_it_should: impl Fn(&Agreement) -> bool) -> Agreement {
    eventually("the partnerships service mirrors the cities", async || {
        match a.office.agreements().propose_agreement(request.clone()).await {
            Ok(made) => Some(made.into_inner()).filter(&as_it_should),
            Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => None,
            Err(status) => panic!("{status:?}"),
        }
    })
    .await
}

/// Proposes a cooperation agreement to a city, whether it has joined or not.
pub async fn propose_to(a: &City, partner: &str) -> Agreement {
    heard(a, proposal(&a.city, partner), |_| true).await
}

/// Proposes an agreement after the partnerships service knows that the partner has joined. Before that, the partner
/// would have to claim its side.
pub async fn propose(a: &City, b: &City) -> Agreement {
    let tried = ProposeAgreementRequest { validate_only: true, ..proposal(&a.city, &b.city) };
    heard(a, tried, |made| made.partner.as_ref().is_some_and(|partner| partner.tenant == b.tenant)).await;
    propose_to(a, &b.city).await
}

/// Takes a proposal through the steps up to the point at which both cities can sign.
pub async fn prepare(a: &City, b: &City, name: &str) -> Agreement {
    let name = name.to_owned();
    let request = OpenDialogueRequest { name: name.clone(), request_id: request_id(), ..Default::default() };
    b.office.agreements().open_dialogue(request).await.unwrap();
    let request = ProposeRationaleRequest {
        name: name.clone(),
        rationale: text("Both heat up."),
        request_id: request_id(),
        ..Default::default()
    };
    let put = a.office.agreements().propose_rationale(request).await.unwrap().into_inner();
    let revision = put.rationale.unwrap().revision;
    let request =
        ConfirmRationaleRequest { name: name.clone(), revision, request_id: request_id(), ..Default::default() };
    b.office.agreements().confirm_rationale(request).await.unwrap();
    let request = ProposePlanRequest {
        name: name.clone(),
        plan: text("Two exchanges a year."),
        request_id: request_id(),
        ..Default::default()
    };
    let put = b.office.agreements().propose_plan(request).await.unwrap().into_inner();
    let revision = put.plan.unwrap().revision;
    let request = ConfirmPlanRequest { name: name.clone(), revision, request_id: request_id(), ..Default::default() };
    let mut agreement = a.office.agreements().confirm_plan(request).await.unwrap().into_inner();
    for side in [a, b] {
        let request = RecordCouncilVoteRequest {
            name: name.clone(),
            vote: Some(approval("Council 12/8")),
            request_id: request_id(),
            ..Default::default()
        };
        agreement = side.clerk.agreements().record_council_vote(request).await.unwrap().into_inner();
    }
    agreement
}

/// States guidelines for a city's part (AG-11).
pub async fn guidelines(side: &City, name: &str) {
    let guidelines = Guidelines {
        document: Some("https://example.org/guidelines.pdf".into()),
        grounds: vec![GuidelinesGround::Technical as i32],
        influence_mitigation: text("Officers meet officers."),
        endorsement_mitigation: text("No joint appearance."),
        bind_all_actors: true,
    };
    let request = StateGuidelinesRequest {
        name: name.into(),
        guidelines: Some(guidelines),
        request_id: request_id(),
        ..Default::default()
    };
    side.office.agreements().state_guidelines(request).await.unwrap();
}

/// Returns the request that signs an agreement on the platform.
#[must_use]
pub fn signature(name: &str) -> SignAgreementRequest {
    SignAgreementRequest { name: name.into(), request_id: request_id(), ..Default::default() }
}

/// Returns the date some months from today.
#[must_use]
pub fn in_months(months: u32) -> hansa_proto::google::r#type::Date {
    time::date(time::months_later(chrono::Utc::now().date_naive(), months))
}

/// Adopts a strategy with two goals: one for a value, one for an interest.
pub async fn adopt(side: &City) -> Strategy {
    let strategy = Strategy { city: side.city.clone(), title: text("Open"), ..Default::default() };
    let request = CreateStrategyRequest { strategy: Some(strategy), request_id: request_id(), validate_only: false };
    let name = eventually("the strategy service mirrors the city and its tenant", async || {
        match side.office.strategies().create_strategy(request.clone()).await {
            Ok(made) => Some(made.into_inner().name),
            // First the city is missing, then its tenant.
            Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => None,
            Err(status) => panic!("{status:?}"),
        }
    })
    .await;
    for (id, aim) in [("climate", GoalAim::GlobalChallenges), ("economy", GoalAim::EconomicAttractiveness)] {
        let goal = Goal {
            goal_id: id.into(),
            aim: aim as i32,
            dimension: Dimension::Environment as i32,
            outcomes: vec![Outcome::Technical as i32],
            title: text(id),
            indicator: text("Projects"),
            baseline: "0".into(),
            target: "5".into(),
            target_date: Some(in_months(36)),
            ..Default::default()
        };
        let request =
            SetGoalRequest { name: name.clone(), goal: Some(goal), request_id: request_id(), ..Default::default() };
        side.office.strategies().set_goal(request).await.unwrap();
    }
    let vote = approval("Council 1/2");
    let request = AdoptStrategyRequest {
        name,
        council_vote: Some(vote),
        next_election_date: Some(in_months(30)),
        request_id: request_id(),
        ..Default::default()
    };
    side.mayor.strategies().adopt_strategy(request).await.unwrap().into_inner()
}
