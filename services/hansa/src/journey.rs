//! The journey of the demo: two cities conclude an agreement, and the platform evaluates both strategies again. The
//! journey uses only the gRPC API, like any client, and prints each step.

use crate::{
    api::{Api, request_id},
    output, session,
};
use anyhow::{Context, bail};
use chrono::{NaiveDate, Utc};
use hansa_journal::NodeKeys;
use hansa_kernel::{Role, TenantId, attachment, time};
use hansa_proto::{
    partnerships::{
        Agreement, AgreementState, AgreementTerms, ConfirmPlanRequest, ConfirmRationaleRequest, Guidelines,
        GuidelinesGround, GuidelinesNeed, OpenDialogueRequest, ProposeAgreementRequest, ProposePlanRequest,
        ProposeRationaleRequest, RecordCouncilVoteRequest, Sector, SignAgreementRequest, StateGuidelinesRequest,
    },
    register::{self, CreateTenantRequest, Office, OfficeExistence, OfficeSeat, TenantKind, UpdateOfficeRequest},
    strategy::{
        AdoptStrategyRequest, CreateStrategyRequest, Dimension, Evaluation, Goal, GoalAim, LinkToolRequest, Outcome,
        SetGoalRequest, Strategy, ToolLink, ToolPurpose, WatchEvaluationsRequest, WatchEvaluationsResponse,
    },
    types::{AgreementKind, Attachment, CouncilVote, LocalizedText, VoteResult, council_vote::Tally},
};
use std::time::Duration;
use tonic::Streaming;

/// Maximum wait for a new evaluation, or for a service to receive the changes of another.
const EVALUATION: Duration = Duration::from_secs(60);

/// A city that takes part, with the API clients of its people.
struct Side {
    name: String,
    city: String,
    office_name: String,
    office: Api,
    mayor: Api,
    clerk: Api,
    evaluations: Streaming<WatchEvaluationsResponse>,
    latest: Option<Evaluation>,
}

/// The outcome of the journey.
pub struct Played {
    /// The signed agreement.
    pub agreement: Agreement,
    /// The overall score of each city in basis points, before and after the agreement.
    pub scores: [(i32, i32); 2],
}

fn text(text: &str) -> Vec<LocalizedText> {
    vec![LocalizedText { language_code: "en".into(), text: text.into(), authentic: true, seal: Vec::new() }]
}

fn today() -> NaiveDate {
    Utc::now().date_naive()
}

/// Runs the journey between two cities of the register.
///
/// # Errors
/// If a call is refused or an evaluation does not arrive in time.
pub async fn play(steward: &Api, keys: &NodeKeys, cities: [&register::City; 2]) -> anyhow::Result<Played> {
    println!("\n1. Two cities join. Each gets its own tenant, its own key, and tokens for its people.");
    let mut a = join(steward, keys, cities[0]).await?;
    let mut b = join(steward, keys, cities[1]).await?;
    let first = [a.moved().await?, b.moved().await?];
    for (side, evaluation) in [(&a, &first[0]), (&b, &first[1])] {
        println!("   {} is evaluated for the first time: {}", side.name, score(evaluation));
    }

    println!("\n2. Each city registers its office, and adopts a strategy with a value and an interest.");
    let (ours, before) = open_and_adopt(&mut a).await?;
    let (_, theirs) = open_and_adopt(&mut b).await?;

    println!("\n3. {} proposes a cooperation agreement to {}.", a.name, b.name);
    let agreement = prepare(&a, &b).await?;
    let agreement = sign(&a, &b, agreement).await?;
    println!("   {} is {}", agreement.name, state(&agreement));

    println!("\n4. The agreement changes both evaluations: it serves no goal of either city yet.");
    let unserved = |e: &Evaluation| names(e).contains(&agreement.name);
    for (side, before) in [(&mut a, &before), (&mut b, &theirs)] {
        let moved = side.until(unserved).await?;
        println!("   {}: {} -> {}", side.name, score(before), score(&moved));
    }
    println!("   The office of {} links the agreement to the goal that it serves.", a.name);
    let link = ToolLink {
        tool: agreement.name.clone(),
        goal_ids: vec!["climate".into()],
        purpose: ToolPurpose::Create as i32,
        note: Vec::new(),
    };
    let request = LinkToolRequest { name: ours.name, link: Some(link), request_id: request_id(), ..Default::default() };
    a.office.strategies().link_tool(request).await?;
    let after = a.until(|e| !unserved(e)).await?;
    println!("   {}: {}", a.name, score(&after));
    findings(&after);
    let partner = b.latest.clone().unwrap_or_default();
    let points = |e: &Evaluation| e.overall.as_ref().map_or(0, |score| score.basis_points);
    Ok(Played { agreement, scores: [(points(&before), points(&after)), (points(&theirs), points(&partner))] })
}

/// Registers a city's office and adopts its strategy. Returns the strategy and its first evaluation.
async fn open_and_adopt(side: &mut Side) -> anyhow::Result<(Strategy, Evaluation)> {
    office(side).await?;
    let strategy = adopt(side).await?;
    let evaluation = side.until(|e| e.strategy == strategy.name).await?;
    println!("   {} is evaluated again: {}", side.name, score(&evaluation));
    findings(&evaluation);
    Ok((strategy, evaluation))
}

async fn join(steward: &Api, keys: &NodeKeys, city: &register::City) -> anyhow::Result<Side> {
    let tenant = register::Tenant { kind: TenantKind::City as i32, city: city.name.clone(), ..Default::default() };
    let request = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
    let tenant = steward.tenants().create_tenant(request).await?.into_inner();
    println!("   {} ({}) is {}", city.display_name, city.country_code, tenant.name);
    let id = TenantId::parse(&tenant.name, "tenant")?;
    let as_role = |role: Role| {
        let subject = hansa_chassis::role::role_name(role);
        session::token(keys, id, &subject, &[role]).and_then(|token| steward.with(&token))
    };
    let office = as_role(Role::IrOfficer)?;
    let watch = WatchEvaluationsRequest { city: city.name.clone(), ..Default::default() };
    // The strategy service may receive the new tenant a moment after the register created it.
    let evaluations = retry(async || office.evaluations().watch_evaluations(watch.clone()).await).await?.into_inner();
    Ok(Side {
        name: city.display_name.clone(),
        city: city.name.clone(),
        office_name: city.office.clone(),
        mayor: as_role(Role::Mayor)?,
        clerk: as_role(Role::CouncilClerk)?,
        office,
        evaluations,
        latest: None,
    })
}

/// Retries a call while it fails with NOT_FOUND or FAILED_PRECONDITION, because a service receives the changes of
/// another service with a delay.
async fn retry<T>(call: impl AsyncFn() -> Result<T, tonic::Status>) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + EVALUATION;
    loop {
        match call().await {
            Err(status)
                if matches!(status.code(), tonic::Code::NotFound | tonic::Code::FailedPrecondition)
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

impl Side {
    /// Waits for the next evaluation.
    async fn moved(&mut self) -> anyhow::Result<Evaluation> {
        let next = tokio::time::timeout(EVALUATION, next_evaluation(&mut self.evaluations)).await;
        let evaluation = next.with_context(|| format!("no new evaluation of {} arrived in time", self.name))??;
        self.latest = Some(evaluation.clone());
        Ok(evaluation)
    }

    /// Waits for the first evaluation that fulfils the condition, beginning with the latest one received.
    async fn until(&mut self, holds: impl Fn(&Evaluation) -> bool) -> anyhow::Result<Evaluation> {
        if let Some(latest) = self.latest.clone().filter(|latest| holds(latest)) {
            return Ok(latest);
        }
        loop {
            let evaluation = self.moved().await?;
            if holds(&evaluation) {
                return Ok(evaluation);
            }
        }
    }
}

/// Returns the next evaluation of a stream. Skips heartbeats.
async fn next_evaluation(stream: &mut Streaming<WatchEvaluationsResponse>) -> anyhow::Result<Evaluation> {
    loop {
        let next = stream.message().await?.context("the stream of evaluations ended")?;
        if let Some(evaluation) = next.evaluation {
            return Ok(evaluation);
        }
    }
}

async fn office(side: &Side) -> anyhow::Result<()> {
    let office = Office {
        name: side.office_name.clone(),
        city: side.city.clone(),
        existence: OfficeExistence::Exists as i32,
        seat: OfficeSeat::MayorsCabinet as i32,
        languages: vec!["de".into(), "en".into(), "fr".into()],
        ..Default::default()
    };
    let paths = ["existence", "seat", "languages"].map(str::to_owned).to_vec();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request =
        UpdateOfficeRequest { office: Some(office), update_mask, request_id: request_id(), ..Default::default() };
    side.office.offices().update_office(request).await?;
    Ok(())
}

async fn adopt(side: &Side) -> anyhow::Result<Strategy> {
    let strategy = Strategy {
        city: side.city.clone(),
        title: text("Open to the world"),
        assessment: text("The office reports on every goal each spring."),
        engagement: text("An annual assembly of associations and schools."),
        shock_response: text("The crisis staff decides within two days which partners are asked for help."),
        ..Default::default()
    };
    let request = CreateStrategyRequest { strategy: Some(strategy), request_id: request_id(), validate_only: false };
    // The strategy service may receive the new tenant a moment after the register created it.
    let made = retry(async || side.office.strategies().create_strategy(request.clone()).await).await?.into_inner();
    let goals = [
        (
            "climate",
            GoalAim::GlobalChallenges,
            Dimension::Environment,
            Outcome::Technical,
            "Cooler streets by shared practice",
        ),
        ("economy", GoalAim::EconomicAttractiveness, Dimension::Economy, Outcome::Economic, "Markets for local firms"),
    ];
    for (id, aim, dimension, outcome, title) in goals {
        let goal = Goal {
            goal_id: id.into(),
            aim: aim as i32,
            dimension: dimension as i32,
            outcomes: vec![outcome as i32],
            title: text(title),
            indicator: text("Projects completed"),
            baseline: "0".into(),
            target: "5".into(),
            target_date: Some(time::date(time::months_later(today(), 36))),
            ..Default::default()
        };
        let request = SetGoalRequest {
            name: made.name.clone(),
            goal: Some(goal),
            request_id: request_id(),
            ..Default::default()
        };
        side.office.strategies().set_goal(request).await?;
    }
    let tally = Some(Tally { for_count: 41, against_count: 9, abstention_count: 3 });
    let vote = CouncilVote { tally, ..approval("Council 12/7") };
    let request = AdoptStrategyRequest {
        name: made.name,
        council_vote: Some(vote),
        next_election_date: Some(time::date(time::months_later(today(), 30))),
        request_id: request_id(),
        ..Default::default()
    };
    Ok(side.mayor.strategies().adopt_strategy(request).await?.into_inner())
}

/// Returns the approval of a council today, with the title of its minutes.
fn approval(minutes: &str) -> CouncilVote {
    CouncilVote {
        result: VoteResult::Approved as i32,
        vote_date: Some(time::date(today())),
        minutes: Some(Attachment { display_name: minutes.into(), ..Default::default() }),
        tally: None,
    }
}

/// Takes an agreement from the proposal to both councils' votes.
async fn prepare(a: &Side, b: &Side) -> anyhow::Result<Agreement> {
    let terms = AgreementTerms {
        kind: AgreementKind::Cooperation as i32,
        title: text("Cooler streets, stronger neighbourhoods"),
        sectors: vec![Sector::Climate as i32, Sector::UrbanPlanning as i32],
        term_months: 60,
        renews_automatically: true,
        ..Default::default()
    };
    let request = ProposeAgreementRequest {
        initiator: a.city.clone(),
        partner: b.city.clone(),
        terms: Some(terms),
        request_id: request_id(),
        ..Default::default()
    };
    // If the partnerships service has not yet received that both cities joined, the partner must claim its side first.
    // A trial call shows whether it has.
    let tried = ProposeAgreementRequest { validate_only: true, request_id: String::new(), ..request.clone() };
    retry(async || {
        let made = a.office.agreements().propose_agreement(tried.clone()).await?.into_inner();
        let joined = made.partner.is_some_and(|partner| !partner.tenant.is_empty());
        if joined { Ok(()) } else { Err(tonic::Status::not_found("the partner has not joined yet")) }
    })
    .await?;
    let made = a.office.agreements().propose_agreement(request).await?.into_inner();
    let name = made.name;
    let request = OpenDialogueRequest { name: name.clone(), request_id: request_id(), ..Default::default() };
    b.office.agreements().open_dialogue(request).await?;
    let rationale = text("Both cities heat up faster than their countries, and each has tried what the other needs.");
    let request =
        ProposeRationaleRequest { name: name.clone(), rationale, request_id: request_id(), ..Default::default() };
    let put = a.office.agreements().propose_rationale(request).await?.into_inner();
    let revision = put.rationale.map(|wording| wording.revision).unwrap_or_default();
    let request =
        ConfirmRationaleRequest { name: name.clone(), revision, request_id: request_id(), ..Default::default() };
    b.office.agreements().confirm_rationale(request).await?;
    println!("   Both confirm the rationale.");
    let plan = text("Two exchanges of officers a year, a joint trial of shade and water, a report after each summer.");
    let request = ProposePlanRequest { name: name.clone(), plan, request_id: request_id(), ..Default::default() };
    let put = b.office.agreements().propose_plan(request).await?.into_inner();
    let revision = put.plan.map(|wording| wording.revision).unwrap_or_default();
    let request = ConfirmPlanRequest { name: name.clone(), revision, request_id: request_id(), ..Default::default() };
    let mut agreement = a.office.agreements().confirm_plan(request).await?.into_inner();
    println!("   Both confirm the plan.");
    for (side, votes) in [(a, "Council 12/8"), (b, "Conseil 24-113")] {
        let request = RecordCouncilVoteRequest {
            name: name.clone(),
            vote: Some(approval(votes)),
            request_id: request_id(),
            ..Default::default()
        };
        agreement = side.clerk.agreements().record_council_vote(request).await?.into_inner();
        println!("   The council of {} approves.", side.name);
    }
    Ok(agreement)
}

async fn sign(a: &Side, b: &Side, agreement: Agreement) -> anyhow::Result<Agreement> {
    let name = agreement.name;
    let request = || SignAgreementRequest { name: name.clone(), request_id: request_id(), ..Default::default() };
    let mut signed = None;
    for (side, party) in [(a, agreement.initiator), (b, agreement.partner)] {
        let need = party.map(|party| party.guidelines_need()).unwrap_or_default();
        if need == GuidelinesNeed::Required {
            match side.mayor.agreements().sign_agreement(request()).await {
                Ok(_) => bail!("{} could sign without guidelines, against AG-11", side.name),
                Err(status) => {
                    println!("   The mayor of {} tries to sign, and is refused:", side.name);
                    println!("     {}", output::explain(&status.into()).replace('\n', "\n     "));
                }
            }
            guidelines(side, &name).await?;
            println!("   The office of {} states guidelines that bind all actors.", side.name);
        }
        signed = Some(side.mayor.agreements().sign_agreement(request()).await?.into_inner());
        println!("   The mayor of {} signs.", side.name);
    }
    let signed = signed.context("the agreement has no parties")?;
    if signed.state() != AgreementState::Active {
        bail!("the agreement is {} after both signatures", state(&signed));
    }
    Ok(signed)
}

async fn guidelines(side: &Side, name: &str) -> anyhow::Result<()> {
    let guidelines = Guidelines {
        document: Some(attachment::link("https://example.org/guidelines.pdf")),
        grounds: vec![GuidelinesGround::Technical as i32, GuidelinesGround::Environmental as i32],
        influence_mitigation: text("Officers meet officers; no funds or staff are accepted from the other state."),
        endorsement_mitigation: text("No joint appearance with national leaders; results are published by the city."),
        bind_all_actors: true,
    };
    let request = StateGuidelinesRequest {
        name: name.to_owned(),
        guidelines: Some(guidelines),
        request_id: request_id(),
        ..Default::default()
    };
    side.office.agreements().state_guidelines(request).await?;
    Ok(())
}

fn state(agreement: &Agreement) -> String {
    agreement.state().as_str_name().trim_start_matches("AGREEMENT_STATE_").to_owned()
}

fn score(evaluation: &Evaluation) -> String {
    let points = evaluation.overall.as_ref().map_or(0, |score| score.basis_points);
    format!("{}.{:02} of 100, {} findings", points / 100, points % 100, evaluation.findings.len())
}

/// Returns the names of the tools that serve no goal, as the evaluation found them.
fn names(evaluation: &Evaluation) -> Vec<String> {
    let code = hansa_proto::strategy::FindingCode::ToolsWithoutGoal;
    evaluation.findings.iter().filter(|f| f.code() == code).flat_map(|f| f.evidence.clone()).collect()
}

fn findings(evaluation: &Evaluation) {
    for finding in &evaluation.findings {
        let code = finding.code().as_str_name().trim_start_matches("FINDING_CODE_").replace('_', " ").to_lowercase();
        println!("     - {code}: {}", finding.advice);
    }
}
