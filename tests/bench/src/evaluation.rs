//! the rate of evaluations of one city.

use crate::{
    Options,
    table::{Must, Row},
};
use anyhow::Context;
use chrono::{DateTime, NaiveDate};
use hansa_kernel::{AssuranceLevel, Caller, Decision, Moment, PersonId, Record, RecordId, Role, Stamp, TenantId};
use hansa_proto::strategy::{
    AdoptStrategyRequest, CreateStrategyRequest, Dimension, Goal, GoalAim, LinkToolRequest, Outcome, SetGoalRequest,
    Strategy as Resource, ToolLink, ToolPurpose, strategy_change::Change,
};
use hansa_proto::types::{CouncilVote, VoteResult};
use hansa_strategy_domain::{
    CityFact, DraftFacts, OfficeFact, Portfolio, Rubric, Strategy, TieFact, TieState, evaluate,
    portfolio::AgreementKind, strategy,
};
use hansa_tests::text;
use std::hint::black_box;
use uuid::Uuid;

const TIES: u32 = 200;
const TENANT: TenantId = TenantId(Uuid::from_u128(1));

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default()
}

fn agreement(number: u32) -> String {
    format!("agreements/{}", RecordId::from_source("bench", &number.to_string()))
}

fn tie(number: u32) -> TieFact {
    TieFact {
        agreement: agreement(number),
        partner: format!("cities/{}", RecordId::from_source("geonames", &number.to_string())),
        partner_name: format!("City {number}"),
        country: "DE".into(),
        kind: AgreementKind::Twinning,
        state: if number.is_multiple_of(7) { TieState::Preparing } else { TieState::Active },
        active_since: Some(day(1990, 5, 1)),
        last_activity: Some(day(2020 + i32::try_from(number % 5).unwrap_or_default(), 5, 1)),
        dormant: number.is_multiple_of(5),
        guidelines_needed: Some(number.is_multiple_of(3)),
        guidelines_stated: number.is_multiple_of(2),
        guidelines_overridden: false,
        partner_languages: vec!["deu".into(), "en".into()],
    }
}

fn portfolio() -> Portfolio {
    let city = CityFact {
        city: format!("cities/{}", RecordId::from_source("bench", "home")),
        country: "FR".into(),
        democratic: Some(true),
        languages: vec!["fra".into()],
        next_election: Some(day(2026, 3, 15)),
    };
    let office = OfficeFact { exists: Some(true), languages: Some(vec!["en".into()]) };
    Portfolio::new(city, office, (0..TIES).map(tie))
}

/// Folds the changes of a decision into the state.
fn fold(state: Option<Strategy>, decision: Decision<Change>, at: Moment) -> anyhow::Result<Strategy> {
    let mut state = state;
    for emitted in decision? {
        let stamp =
            Stamp { version: 1, at: at.now, actor: Default::default(), party: None, level: AssuranceLevel::Host };
        state = Some(Strategy::fold(state, &emitted.change, &stamp)?);
    }
    state.context("the decision contains no change")
}

/// Builds an adopted strategy with 20 goals; every second tie is linked to a goal.
fn adopted(at: Moment) -> anyhow::Result<Strategy> {
    let caller = |role| Caller {
        tenant: TENANT,
        person: PersonId(Uuid::from_u128(2)),
        roles: vec![role],
        scopes: vec!["*".into()],
    };
    let (office, mayor) = (caller(Role::IrOfficer), caller(Role::Mayor));
    let city = format!("cities/{}", RecordId::from_source("bench", "home"));
    let asked =
        Resource { city, title: text("Out into the world"), assessment: text("Each year"), ..Default::default() };
    let asked = CreateStrategyRequest { strategy: Some(asked), ..Default::default() };
    let ground = DraftFacts { city_tenant: Some(TENANT), grace_months: strategy::GRACE_MONTHS };
    let created = strategy::create(&asked, RecordId::from_source("bench", "strategy"), ground, &office);
    let mut state = fold(None, created, at)?;
    for number in 0..20 {
        let aim = if number % 2 == 0 { GoalAim::GlobalChallenges } else { GoalAim::EconomicAttractiveness };
        let goal = Goal {
            goal_id: format!("goal-{number}"),
            aim: aim as i32,
            dimension: Dimension::Environment as i32,
            outcomes: vec![Outcome::Technical as i32],
            title: text("A goal"),
            indicator: text("Projects"),
            baseline: "0".into(),
            target: "5".into(),
            target_date: Some(hansa_kernel::time::date(day(2030, 1, 1))),
            ..Default::default()
        };
        let decided = strategy::set_goal(&state, &SetGoalRequest { goal: Some(goal), ..Default::default() }, &office);
        state = fold(Some(state.clone()), decided, at)?;
    }
    for number in (0..TIES).step_by(2) {
        let link = ToolLink {
            tool: agreement(number),
            goal_ids: vec![format!("goal-{}", number % 20)],
            purpose: ToolPurpose::Rationalize as i32,
            note: Vec::new(),
        };
        let asked = LinkToolRequest { link: Some(link), ..Default::default() };
        state = fold(Some(state.clone()), strategy::link_tool(&state, &asked, &office), at)?;
    }
    let vote = CouncilVote {
        result: VoteResult::Approved as i32,
        vote_date: Some(hansa_kernel::time::date(day(2025, 5, 20))),
        minutes: Some("2025-117".into()),
        tally: None,
    };
    let asked = AdoptStrategyRequest { council_vote: Some(vote), ..Default::default() };
    let decided = strategy::adopt(&state, &asked, Some(day(2026, 3, 15)), &mayor, at);
    fold(Some(state), decided, at)
}

/// Returns the CPU time of this thread, in seconds.
fn on_core() -> anyhow::Result<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = told.split_whitespace().next().context("/proc/thread-self/schedstat is empty")?.parse()?;
    Ok(nanos / 1e9)
}

///
pub fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let at = Moment::at(DateTime::from_timestamp(1_748_768_400, 0).context("the timestamp is out of range")?);
    let (rubric, portfolio, strategy) = (Rubric::embedded(), portfolio(), adopted(at)?);
    let today = at.today();
    let mut runs = Vec::new();
    for _ in 0..options.runs {
        let began = on_core()?;
        let mut done = 0.0;
        while on_core()? - began < 1.0 {
            for _ in 0..20 {
                black_box(evaluate(&rubric, black_box(&portfolio), Some(&strategy), today));
                done += 1.0;
            }
        }
        runs.push(done / (on_core()? - began));
    }
    let what = "evaluations of a city with 200 ties and 20 goals, one core";
    Ok(vec![Row::alone("Q-6", what, "/s", &runs).must(Must::Least(2_000.0)).note(
        "per second of the thread's CPU time; in process, without reading the portfolio from the database; the first \
         rubric does not cover memberships",
    )])
}
