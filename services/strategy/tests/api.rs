//! Tests of the service through its API: ownership, supersession, and refusals.
#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use hansa_journal::run_worker;
use hansa_kernel::{Caller, Role};
use hansa_proto::strategy::{
    self as proto, CreateStrategyRequest, Evaluation, FindingCode, GetEvaluationRequest, GetRubricRequest,
    GetStrategyRequest, LinkToolRequest, ListFindingsRequest, ListStrategiesRequest, SetGoalRequest,
    SimulatePortfolioRequest, SimulationStep, StrategyState, ToolPurpose, WatchEvaluationsRequest,
    evaluation_service_client::EvaluationServiceClient,
    simulation_step::{SignAgreement, Step},
    strategy_service_client::StrategyServiceClient,
};
use hansa_proto::types::AgreementKind;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Code, service::Routes};
use world::{PARIS, ROME, World, adoption, cairo, call, caller, city_name, finds, goal, paris, rome, words};

type Strategies = StrategyServiceClient<Routes>;

fn mayor() -> Caller {
    caller(PARIS, Role::Mayor)
}

async fn draft(client: &mut Strategies) -> proto::Strategy {
    let strategy =
        proto::Strategy { city: city_name(paris()).to_string(), title: words("Paris"), ..Default::default() };
    let create = CreateStrategyRequest { strategy: Some(strategy), ..Default::default() };
    let made = client.create_strategy(call(&mayor(), "StrategyService/CreateStrategy", create)).await.unwrap();
    let name = made.into_inner().name;
    let mut last = None;
    for (id, aim) in [("peace", proto::GoalAim::ConflictPrevention), ("trade", proto::GoalAim::BetterServices)] {
        let put = SetGoalRequest { name: name.clone(), goal: Some(goal(id, aim)), ..Default::default() };
        last = Some(client.set_goal(call(&mayor(), "StrategyService/SetGoal", put)).await.unwrap().into_inner());
    }
    last.unwrap()
}

async fn adopt(client: &mut Strategies, name: &str) -> proto::Strategy {
    client.adopt_strategy(call(&mayor(), "StrategyService/AdoptStrategy", adoption(name))).await.unwrap().into_inner()
}

async fn get(client: &mut Strategies, by: &Caller, name: &str) -> Result<proto::Strategy, Code> {
    let get = GetStrategyRequest { name: name.into() };
    let answer = client.get_strategy(call(by, "StrategyService/GetStrategy", get)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

// ST-1.
#[tokio::test]
async fn st_1_the_newer_strategy_takes_the_place_of_the_older_and_nobody_else_sees_either() {
    let mut world = World::new().await;
    world.join(paris(), PARIS).await;
    world.settle().await;
    let mut client = StrategyServiceClient::new(world.routes(&CancellationToken::new()));
    let (old, new) = (draft(&mut client).await, draft(&mut client).await);
    assert_eq!(adopt(&mut client, &old.name).await.state(), StrategyState::Adopted);
    assert_eq!(get(&mut client, &mayor(), &new.name).await.unwrap().state(), StrategyState::Draft);
    adopt(&mut client, &new.name).await;
    let old = get(&mut client, &mayor(), &old.name).await.unwrap();
    assert_eq!((old.state(), &old.superseding_strategy), (StrategyState::Superseded, &new.name));

    let list = |by: &Caller| call(by, "StrategyService/ListStrategies", ListStrategiesRequest::default());
    let mine = client.list_strategies(list(&mayor())).await.unwrap().into_inner().strategies;
    assert_eq!(mine.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), [new.name.as_str(), old.name.as_str()]);
    let stranger = caller(ROME, Role::Mayor);
    assert!(client.list_strategies(list(&stranger)).await.unwrap().into_inner().strategies.is_empty());
    assert_eq!(get(&mut client, &stranger, &new.name).await, Err(Code::NotFound));
    assert_eq!(get(&mut client, &caller(PARIS, Role::Operator), &new.name).await, Err(Code::PermissionDenied));
    let theirs = call(&stranger, "StrategyService/AdoptStrategy", adoption(&new.name));
    assert_eq!(client.adopt_strategy(theirs).await.unwrap_err().code(), Code::NotFound);
}

// ST-4.
#[tokio::test]
async fn st_4_a_tool_is_an_agreement_of_the_city_itself() {
    let mut world = World::new().await;
    world.join(paris(), PARIS).await;
    let own = world.tie([(paris(), "FR"), (rome(), "IT")]).await;
    let foreign = world.tie([(rome(), "IT"), (cairo(), "EG")]).await;
    world.settle().await;
    let mut client = StrategyServiceClient::new(world.routes(&CancellationToken::new()));
    let strategy = draft(&mut client).await;
    let link = |tool: String| {
        let purpose = ToolPurpose::Revamp as i32;
        let link = proto::ToolLink { tool, goal_ids: vec!["peace".into()], purpose, ..Default::default() };
        let request = LinkToolRequest { name: strategy.name.clone(), link: Some(link), ..Default::default() };
        call(&mayor(), "StrategyService/LinkTool", request)
    };
    for unknown in [foreign.to_string(), format!("agreements/{}", paris())] {
        assert_eq!(client.link_tool(link(unknown)).await.unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(client.link_tool(link("projects/x".into())).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.link_tool(link(own.to_string())).await.unwrap().into_inner().tools.len(), 1);
}

/// Checks that an evaluation has an etag and both times, and returns it without them, as it was recorded.
fn content(shown: Evaluation) -> Evaluation {
    assert!(!shown.etag.is_empty() && shown.create_time.is_some() && shown.update_time.is_some());
    Evaluation { etag: String::new(), create_time: None, update_time: None, ..shown }
}

// ST-9.
#[tokio::test]
async fn st_9_a_city_reads_and_simulates_its_own_evaluation_alone() {
    let mut world = World::new().await;
    world.join(paris(), PARIS).await;
    world.settle().await;
    let (recorded, _) = world.judged().await;
    let mut client = EvaluationServiceClient::new(world.routes(&CancellationToken::new()));
    let get = GetEvaluationRequest { city: city_name(paris()).to_string(), ..Default::default() };
    let get = |by: &Caller| call(by, "EvaluationService/GetEvaluation", get.clone());
    assert_eq!(content(client.get_evaluation(get(&mayor())).await.unwrap().into_inner()), recorded);
    let stranger = caller(ROME, Role::Mayor);
    assert_eq!(client.get_evaluation(get(&stranger)).await.unwrap_err().code(), Code::NotFound);

    let step = SignAgreement {
        partner: city_name(cairo()).to_string(),
        kind: AgreementKind::Twinning as i32,
        guidelines_stated: false,
        goal_ids: Vec::new(),
    };
    let steps = vec![SimulationStep { step: Some(Step::SignAgreement(step)) }];
    let what_if = SimulatePortfolioRequest { city: city_name(paris()).to_string(), steps, ..Default::default() };
    let what_if = |by: &Caller| call(by, "EvaluationService/SimulatePortfolio", what_if.clone());
    let answer = client.simulate_portfolio(what_if(&mayor())).await.unwrap().into_inner();
    assert!(finds(&answer.after.unwrap(), FindingCode::PartnersWithoutGuidelines));
    assert_eq!(client.simulate_portfolio(what_if(&stranger)).await.unwrap_err().code(), Code::NotFound);

    let list = |token: String| {
        let asked = ListFindingsRequest {
            parent: recorded.name.clone(),
            page_size: 1,
            page_token: token,
            ..Default::default()
        };
        call(&mayor(), "EvaluationService/ListFindings", asked)
    };
    let (mut token, mut found) = (String::new(), Vec::new());
    loop {
        let page = client.list_findings(list(token)).await.unwrap().into_inner();
        found.extend(page.findings);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, recorded.findings);

    let rubric = GetRubricRequest { name: recorded.rubric.clone() };
    let rubric = client.get_rubric(call(&stranger, "EvaluationService/GetRubric", rubric)).await.unwrap().into_inner();
    assert_eq!(rubric.digest, recorded.rubric_digest);
}

// ST-6.
#[tokio::test]
async fn st_6_a_watcher_gets_the_latest_then_each_new_one_until_the_service_drains() {
    let mut world = World::new().await;
    world.join(paris(), PARIS).await;
    world.settle().await;
    let stop = CancellationToken::new();
    let mut client = EvaluationServiceClient::new(world.routes(&stop));
    let watch = call(&mayor(), "EvaluationService/WatchEvaluations", WatchEvaluationsRequest::default());
    let mut stream = client.watch_evaluations(watch).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().evaluation.unwrap();
    assert_eq!(content(first.clone()), world.judged().await.0);
    world.adopt().await;
    world.settle().await;
    let second = stream.message().await.unwrap().unwrap().evaluation.unwrap();
    assert_eq!(content(second.clone()), world.judged().await.0);
    assert_ne!(first, second);

    let workers: Vec<_> = std::mem::take(&mut world.module.workers);
    let running: Vec<_> = workers.into_iter().map(|one| tokio::spawn(run_worker(one, stop.clone()))).collect();
    stop.cancel();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.message()).await.unwrap();
    assert_eq!(end.unwrap(), None);
    for task in running {
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }
}
