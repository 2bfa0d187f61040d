//! Tests of the evaluator: every change that affects a city evaluates it again, and only new results are recorded
//! (ST-6).
#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use hansa_kernel::Role;
use hansa_proto::{register::RegimeClass, strategy::FindingCode};
use hansa_strategy::evaluator::sweep;
use world::{NODE, PARIS, World, cairo, caller, day, finds, noon, paris, rome};

#[tokio::test]
async fn st_6_a_city_that_has_not_joined_is_never_evaluated() {
    let world = World::new().await;
    world.tie([(paris(), "FR"), (rome(), "IT")]).await;
    world.settle().await;
    assert_eq!(sweep(&world.module.journal).step().await.unwrap(), 0);
    world.settle().await;
    assert!(world.evaluation(paris()).await.is_none() && world.evaluation(rome()).await.is_none());
    assert!(world.module.journal.dirty("evaluate", 10).await.unwrap().is_empty());

    world.join(paris(), PARIS).await;
    world.settle().await;
    let (evaluation, number) = world.judged().await;
    assert_eq!(number, 1);
    assert!(finds(&evaluation, FindingCode::NoStrategy));
    assert!(world.evaluation(rome()).await.is_none());
}

#[tokio::test]
async fn st_6_an_agreement_a_strategy_and_a_far_country_bear_on_the_evaluation() {
    let world = World::new().await;
    world.join(paris(), PARIS).await;
    world.settle().await;
    let (_, first) = world.judged().await;

    let tie = world.tie([(paris(), "FR"), (cairo(), "EG")]).await;
    world.settle().await;
    let (evaluation, second) = world.judged().await;
    assert!(second > first);
    let found = evaluation.findings.iter().find(|f| f.code() == FindingCode::PartnersWithoutGuidelines).unwrap();
    assert_eq!(found.evidence, [tie.to_string()]);

    world.adopt().await;
    world.settle().await;
    let (evaluation, third) = world.judged().await;
    assert!(third > second && !evaluation.strategy.is_empty());
    assert!(!finds(&evaluation, FindingCode::NoStrategy) && finds(&evaluation, FindingCode::GoalsWithoutTool));

    world.regime("EG", RegimeClass::LiberalDemocracy).await;
    world.settle().await;
    let (evaluation, fourth) = world.judged().await;
    assert!(fourth > third && !finds(&evaluation, FindingCode::PartnersWithoutGuidelines));
}

#[tokio::test]
async fn st_6_the_same_result_is_not_recorded_again_and_a_new_day_is_looked_at() {
    let world = World::new().await;
    world.join(paris(), PARIS).await;
    world.tie([(paris(), "FR"), (rome(), "IT")]).await;
    world.adopt().await;
    world.settle().await;
    let (before, number) = world.judged().await;

    world.module.journal.mark("evaluate", [paris().0]).await.unwrap();
    world.regime("IT", RegimeClass::ElectoralDemocracy).await;
    world.settle().await;
    assert_eq!(world.judged().await, (before.clone(), number));

    let mut sweep = sweep(&world.module.journal);
    assert_eq!((sweep.step().await.unwrap(), sweep.step().await.unwrap()), (1, 0));
    world.settle().await;
    assert_eq!(world.judged().await, (before, number));

    world.clock.set(noon(day(2026, 4, 1)));
    assert_eq!(sweep.step().await.unwrap(), 1);
    world.settle().await;
    let (after, next) = world.judged().await;
    assert!(next > number && finds(&after, FindingCode::StrategyPastElection));
}

#[tokio::test]
async fn st_6_the_office_and_what_is_learnt_of_a_partner_bear_on_the_evaluation() {
    let world = World::new().await;
    let mayor = caller(PARIS, Role::Mayor);
    world.join(paris(), PARIS).await;
    let tie = world.tie([(rome(), "IT"), (paris(), "FR")]).await;
    world.languages(paris(), &mayor, "fra").await;
    world.settle().await;
    let (evaluation, first) = world.judged().await;
    assert!(!finds(&evaluation, FindingCode::NoOffice));

    world.no_office(paris(), &mayor).await;
    world.settle().await;
    let (evaluation, second) = world.judged().await;
    assert!(second > first && finds(&evaluation, FindingCode::NoOffice));
    assert!(!finds(&evaluation, FindingCode::LanguagesMissing));

    world.languages(rome(), &caller(NODE, Role::Steward), "ita, lat").await;
    world.settle().await;
    let (evaluation, third) = world.judged().await;
    let found = evaluation.findings.iter().find(|f| f.code() == FindingCode::LanguagesMissing).unwrap();
    assert_eq!((third > second, &found.evidence), (true, &vec![tie.to_string()]));
}
