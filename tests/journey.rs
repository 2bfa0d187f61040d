//! The first user journey, end to end, in each of the three deployment shapes: two cities make an agreement, and the
//! platform evaluates the strategy of each city again because of the agreement.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::{
    changes::{ListChangesRequest, ListFeedEntriesRequest},
    partnerships::{AgreementState, GetAgreementRequest, ListAgreementsRequest},
    register::RegimeClass,
    strategy::{Evaluation, FindingCode, GetEvaluationRequest},
};
use hansa_tests::{
    Caller, Platform, Shape, cities, collector::Collector, eventually, platform::SERVICES, rule,
    servers::ComposeServers,
};
use std::collections::BTreeSet;
use tonic::Code;
use tonic_types::StatusExt;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const CITIES: [(&str, &str, &str); 3] = [("1", "Dresden", "DE"), ("2", "Tunis", "TN"), ("3", "Lyon", "FR")];

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    journey(Platform::start(HANSA, Shape::Embedded).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_postgres_and_nats() {
    journey(Platform::start(HANSA, Shape::OneProcess).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_a_service_on_postgres_and_nats() {
    journey(Platform::start(HANSA, Shape::ProcessAService).await).await;
}

/// Runs the services of `deploy/compose/compose.yaml` as plain processes with the arguments, variables and files of
/// that file: one PostgreSQL user per service, and a nats-server with a password. The test also receives the
/// telemetry.
#[tokio::test(flavor = "multi_thread")]
async fn as_the_compose_file_starts_it() {
    let (collector, address) = Collector::start().await;
    let servers = ComposeServers::start(&address);
    let mut platform = Platform::composed(HANSA, &servers).await;
    play(&mut platform).await;
    let looked = platform.caretaker().output().unwrap();
    let (said, why) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    assert!(looked.status.success(), "the caretaker reports a problem: {said}{why}");
    platform.stop();
    let exported = collector.instances();
    for service in SERVICES {
        let own = |(name, instance): &&(String, String)| *name == format!("hansa-{service}") && !instance.is_empty();
        // The journey kills and restarts each service; a killed process exports nothing.
        assert!(exported.iter().any(|one| own(&one)), "{service} exports no metrics: {exported:?}");
    }
    assert!(collector.metrics().contains_key("hansa.commands"));
}

async fn evaluation(caller: &Caller, city: &str, holds: impl Fn(&Evaluation) -> bool) -> Evaluation {
    let request = GetEvaluationRequest { city: city.into(), ..Default::default() };
    eventually("the evaluation", async || {
        let found = caller.evaluations().get_evaluation(request.clone()).await.ok()?.into_inner();
        holds(&found).then_some(found)
    })
    .await
}

fn has(evaluation: &Evaluation, code: FindingCode, evidence: &str) -> bool {
    evaluation.findings.iter().any(|f| f.code() == code && f.evidence.iter().any(|e| e == evidence))
}

async fn journey(mut platform: Platform) {
    play(&mut platform).await;
    platform.stop();
}

async fn play(platform: &mut Platform) {
    let regimes = [("DE", RegimeClass::LiberalDemocracy), ("TN", RegimeClass::ElectoralAutocracy)];
    cities::enter(platform, &CITIES, &regimes).await;
    let dresden = cities::join(platform, "1").await;
    let tunis = cities::join(platform, "2").await;
    let lyon = cities::join(platform, "3").await;

    let before = evaluation(&dresden.observer, &dresden.city, |e| !e.name.is_empty()).await;
    assert!(before.findings.iter().any(|f| f.code() == FindingCode::NoStrategy), "ST-7");
    for side in [&dresden, &tunis] {
        let strategy = cities::adopt(side).await;
        let adopted = evaluation(&side.observer, &side.city, |e| e.strategy == strategy.name).await;
        assert!(adopted.findings.iter().all(|f| f.code() != FindingCode::NoStrategy), "ST-7");
    }

    let proposed = cities::propose(&dresden, &tunis).await;
    let name = proposed.name.clone();
    assert_eq!(proposed.state(), AgreementState::Proposed);
    strangers_learn_nothing(&lyon.mayor, &platform.with_token(""), &name).await;

    let early = dresden.mayor.agreements().sign_agreement(cities::signature(&name)).await.unwrap_err();
    assert_eq!((early.code(), rule(&early).as_str()), (Code::FailedPrecondition, "AG-3"));
    let approved = cities::prepare(&dresden, &tunis, &name).await;
    assert_eq!(approved.state(), AgreementState::Approved);

    // AG-11: the partner's regime is not democratic, so Dresden needs guidelines before it signs.
    let unguided = dresden.mayor.agreements().sign_agreement(cities::signature(&name)).await.unwrap_err();
    assert_eq!(rule(&unguided), "AG-11");
    assert!(unguided.get_details_error_info().unwrap().metadata.contains_key("help"));
    cities::guidelines(&dresden, &name).await;

    // PL-2: an observer may only read; an officer prepares but may not sign.
    for reader in [&dresden.observer, &dresden.office] {
        let refused = reader.agreements().sign_agreement(cities::signature(&name)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    }
    let request = cities::signature(&name);
    let signed = dresden.mayor.agreements().sign_agreement(request.clone()).await.unwrap().into_inner();
    let again = dresden.mayor.agreements().sign_agreement(request).await.unwrap().into_inner();
    assert_eq!(signed, again, "PL-4: a repeated request gets the first answer");

    platform.crash_and_restart().await;
    let tunis_mayor = platform.caller(Some(&tunis.tenant), &[hansa_kernel::Role::Mayor]);
    let dresden_observer = platform.caller(Some(&dresden.tenant), &[hansa_kernel::Role::Observer]);
    let tunis_observer = platform.caller(Some(&tunis.tenant), &[hansa_kernel::Role::Observer]);
    let lyon_observer = platform.caller(Some(&lyon.tenant), &[hansa_kernel::Role::Observer]);

    let stale = hansa_proto::partnerships::SignAgreementRequest { etag: approved.etag, ..cities::signature(&name) };
    let stale = tunis_mayor.agreements().sign_agreement(stale).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "PL-4: a stale etag");
    let tried = hansa_proto::partnerships::SignAgreementRequest { validate_only: true, ..cities::signature(&name) };
    let tried = tunis_mayor.agreements().sign_agreement(tried).await.unwrap().into_inner();
    assert_eq!(tried.state(), AgreementState::Active, "PL-4: `validate_only` returns the result");
    let active = tunis_mayor.agreements().sign_agreement(cities::signature(&name)).await.unwrap().into_inner();
    assert_eq!(active.state(), AgreementState::Active);
    assert!(active.partner.unwrap().signature.is_some() && active.initiator.unwrap().signature.is_some());

    // ST-6: the evaluations of both cities change because of the agreement.
    for (reader, city) in [(&dresden_observer, &dresden.city), (&tunis_observer, &tunis.city)] {
        let moved = evaluation(reader, city, |e| has(e, FindingCode::ToolsWithoutGoal, &name)).await;
        assert!(moved.findings.iter().all(|f| !f.advice.is_empty() && !f.risk.is_empty()), "ST-6: with advice");
    }
    let foreign = GetEvaluationRequest { city: dresden.city.clone(), ..Default::default() };
    let foreign = lyon_observer.evaluations().get_evaluation(foreign).await.unwrap_err();
    assert_eq!(foreign.code(), Code::NotFound, "PL-1: only the city may see its evaluation");

    now_it_is_public(&lyon_observer, &name).await;
    history_and_feed(&dresden_observer, &lyon_observer, &name).await;
}

/// Checks that a stranger gets the same answer for a hidden and for an absent agreement (PL-1).
async fn strangers_learn_nothing(stranger: &Caller, anonymous: &Caller, name: &str) {
    let absent = "agreements/01890000-0000-7000-8000-000000000000";
    let ask = async |caller: &Caller, name: &str| {
        let request = GetAgreementRequest { name: name.into() };
        caller.agreements().get_agreement(request).await.unwrap_err()
    };
    let (hidden, missing) = (ask(stranger, name).await, ask(stranger, absent).await);
    assert_eq!((hidden.code(), missing.code()), (Code::NotFound, Code::NotFound));
    assert_eq!(hidden.message().replace(name, "x"), missing.message().replace(absent, "x"));
    let write = stranger.agreements().sign_agreement(cities::signature(name)).await.unwrap_err();
    assert_eq!(write.code(), Code::NotFound);
    let listed = stranger.agreements().list_agreements(ListAgreementsRequest::default()).await.unwrap().into_inner();
    assert!(listed.agreements.iter().all(|agreement| agreement.name != name));
    let nobody = ask(anonymous, name).await;
    assert_eq!(nobody.code(), Code::Unauthenticated);
    assert_eq!(nobody.get_details_error_info().unwrap().reason, "TOKEN_INVALID");
}

/// Checks that everyone may see an agreement in force, but not the texts of its parties (PL-1).
async fn now_it_is_public(reader: &Caller, name: &str) {
    let request = GetAgreementRequest { name: name.into() };
    let shown = reader.agreements().get_agreement(request).await.unwrap().into_inner();
    assert_eq!(shown.state(), AgreementState::Active);
    assert!(shown.terms.unwrap().sectors.len() == 1);
    assert!(shown.rationale.is_none() && shown.plan.is_none(), "PL-1: only parties may read the texts");
}

async fn history_and_feed(party: &Caller, reader: &Caller, name: &str) {
    let parent = || "feeds/partnerships".to_owned();
    let feed = async || {
        let request = ListFeedEntriesRequest { parent: parent(), page_size: 1_000, ..Default::default() };
        let feed = party.changes("partnerships").list_feed_entries(request).await.unwrap().into_inner().entries;
        let own = feed.iter().filter_map(|f| f.change.as_ref()).filter(|c| c.record == name);
        own.map(|c| c.version).collect::<BTreeSet<i32>>()
    };
    // A timer may add a change meanwhile, so the test reads both until they agree.
    let history = eventually("PL-1: the feed of a party contains the whole history", async || {
        let request = ListChangesRequest { parent: name.into(), ..Default::default() };
        let history = party.changes("partnerships").list_changes(request).await.unwrap().into_inner().changes;
        let versions: BTreeSet<i32> = history.iter().map(|change| change.version).collect();
        (feed().await == versions).then_some(history)
    })
    .await;
    let versions: Vec<i32> = history.iter().map(|change| change.version).collect();
    assert_eq!(versions, (1..=versions.len() as i32).collect::<Vec<_>>(), "PL-3: in order, without gaps");
    assert!(history.iter().any(|change| change.payload_type.ends_with("AgreementSigned")));

    let request = ListFeedEntriesRequest { parent: parent(), page_size: 1_000, ..Default::default() };
    let public = reader.changes("partnerships").list_feed_entries(request).await.unwrap().into_inner().entries;
    for change in public.iter().filter_map(|f| f.change.as_ref()).filter(|c| c.record == name) {
        assert!(change.signed_change.is_none(), "PL-1: only a party gets the signed envelope");
    }
}
