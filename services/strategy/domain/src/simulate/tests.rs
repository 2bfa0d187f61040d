//! Tests of simulations (ST-9).
#![allow(clippy::unwrap_used)]
use super::*;
use crate::{
    goal::tests::goal,
    portfolio::{
        TieFact,
        tests::{city, day, office, tie},
    },
    strategy::tests::{adopted, draft},
};
use hansa_proto::strategy::{FindingCode, GoalAim, simulation_step};

fn today() -> NaiveDate {
    day(2025, 6, 1)
}

fn partner(n: u32, democratic: bool) -> PartnerFact {
    PartnerFact {
        city: format!("cities/{}", hansa_kernel::RecordId::from_source("city", &n.to_string())),
        name: format!("City {n}"),
        country: "XX".into(),
        democratic: Some(democratic),
        languages: vec!["en".into()],
    }
}

fn step(step: Step) -> SimulationStep {
    SimulationStep { step: Some(step) }
}

fn sign(partner: &PartnerFact, goals: &[&str]) -> SimulationStep {
    step(Step::SignAgreement(simulation_step::SignAgreement {
        partner: partner.city.clone(),
        kind: AgreementKind::Memorandum as i32,
        guidelines_stated: false,
        goal_ids: goals.iter().map(|goal| (*goal).to_owned()).collect(),
    }))
}

fn serve(tool: &str, goals: &[&str]) -> SimulationStep {
    let goal_ids = goals.iter().map(|goal| (*goal).to_owned()).collect();
    let link = proto::ToolLink { tool: tool.into(), goal_ids, purpose: ToolPurpose::Revamp as i32, note: vec![] };
    step(Step::LinkTool(simulation_step::LinkTool { link: Some(link) }))
}

fn add(id: &str, aim: GoalAim) -> SimulationStep {
    step(Step::SetGoal(simulation_step::SetGoal { goal: Some(goal(id, aim)) }))
}

fn run(
    strategy: Option<&Strategy>,
    ties: Vec<TieFact>,
    steps: &[SimulationStep],
) -> Refused<SimulatePortfolioResponse> {
    let partners = [partner(1, false), partner(2, true)].map(|p| (p.city.clone(), p)).into();
    let portfolio = Portfolio::new(city(), office(), ties);
    simulate(&Rubric::embedded(), &portfolio, strategy, steps, &partners, today())
}

fn codes(findings: &[Finding]) -> Vec<FindingCode> {
    findings.iter().map(Finding::code).collect()
}

#[test]
fn st_9_no_steps_change_nothing() {
    let answer = run(Some(&adopted()), vec![tie(1)], &[]).unwrap();
    assert_eq!(answer.before, answer.after);
    assert_eq!((answer.overall_difference_basis_points, answer.differences.len()), (0, 0));
}

#[test]
fn st_9_signing_is_weighed_before_it_is_done() {
    let steps = [sign(&partner(1, false), &["peace"])];
    let answer = run(Some(&adopted()), vec![], &steps).unwrap();
    assert_eq!(codes(&answer.added), [FindingCode::PartnersWithoutGuidelines]);
    assert_eq!(answer.added[0].evidence, ["agreements/what-if-1"]);
    let stated =
        step(Step::StateGuidelines(simulation_step::StateGuidelines { agreement: "agreements/what-if-1".into() }));
    let answer = run(Some(&adopted()), vec![], &[steps[0].clone(), stated]).unwrap();
    assert_eq!(codes(&answer.added), []);
}

#[test]
fn st_9_ending_and_reviving_dormant_ties_resolves_the_finding() {
    let dormant = TieFact { dormant: true, ..tie(1) };
    for cure in [
        Step::EndAgreement(simulation_step::EndAgreement { agreement: tie(1).agreement }),
        Step::RevitalizeAgreement(simulation_step::RevitalizeAgreement { agreement: tie(1).agreement }),
    ] {
        let answer = run(Some(&adopted()), vec![dormant.clone(), tie(2)], &[step(cure)]).unwrap();
        assert!(codes(&answer.resolved).contains(&FindingCode::DormantTies));
        assert!(answer.overall_difference_basis_points > 0 && !answer.differences.is_empty());
    }
}

#[test]
fn st_9_goals_in_a_city_without_strategy_adopt_one() {
    let steps = [
        add("peace", GoalAim::ConflictPrevention),
        add("schools", GoalAim::BetterServices),
        serve(&tie(1).agreement, &["peace", "schools"]),
    ];
    for strategy in [None, Some(draft())] {
        let answer = run(strategy.as_ref(), vec![tie(1)], &steps).unwrap();
        assert!(codes(&answer.resolved).contains(&FindingCode::NoStrategy));
        assert!(!codes(&answer.added).contains(&FindingCode::GoalsWithoutTool));
        assert!(answer.overall_difference_basis_points > 0);
    }
}

#[test]
fn st_9_an_office_is_set_with_its_languages() {
    let office = |exists, language: &str| {
        step(Step::SetOffice(simulation_step::SetOffice { exists, languages: vec![language.into()] }))
    };
    let answer = run(None, vec![tie(1)], &[office(false, "fr")]).unwrap();
    let mut added = codes(&answer.added);
    added.sort_unstable();
    assert_eq!(added, [FindingCode::LanguagesMissing, FindingCode::NoOffice]);
    assert!(run(None, vec![], &[office(true, "not a tag")]).is_err());
}

#[test]
fn st_9_a_step_that_names_nothing_is_refused_with_its_place() {
    let stranger = partner(9, true);
    for bad in [
        SimulationStep::default(),
        sign(&stranger, &[]),
        sign(&partner(2, true), &["nothing"]),
        step(Step::EndAgreement(simulation_step::EndAgreement { agreement: tie(7).agreement })),
        step(Step::RevitalizeAgreement(simulation_step::RevitalizeAgreement::default())),
        step(Step::SetGoal(simulation_step::SetGoal::default())),
        serve(&tie(7).agreement, &["peace"]),
        serve("agreements/what-if-9", &["peace"]),
        serve(&tie(1).agreement, &["war"]),
        serve(&tie(1).agreement, &[]),
    ] {
        let refusal = run(Some(&adopted()), vec![tie(1)], &[sign(&partner(2, true), &[]), bad]).unwrap_err();
        assert_eq!(refusal.rule, "ST-9");
        assert!(refusal.missing[0].subject.starts_with("steps[1]"), "{refusal}");
    }
    let refusal = run(None, vec![tie(1)], &[serve(&tie(1).agreement, &["peace"])]).unwrap_err();
    assert!(refusal.help.contains("Add goals"));
    let many = vec![sign(&partner(2, true), &[]); STEPS + 1];
    assert_eq!(run(None, vec![], &many).unwrap_err().class, ReasonClass::Limit);
    assert!(run(None, vec![], &many[1..]).is_ok());
}

#[test]
fn st_9_the_service_learns_which_cities_it_needs() {
    let steps = [sign(&partner(1, false), &[]), add("x", GoalAim::BetterServices)];
    assert_eq!(partners_of(&steps).collect::<Vec<_>>(), [partner(1, false).city]);
}
