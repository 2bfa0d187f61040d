//! A deleted record leaves a tombstone that reaches everyone who could see the record (PL-8).
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::{
    changes::{ListChangesRequest, ListFeedEntriesRequest},
    partnerships::{
        AgreementOrigin, AgreementRow, BatchImportAgreementsRequest, GetAgreementRequest, ImportAgreementRequest,
        ListAgreementsRequest, ProposeAgreementRequest, RetractAgreementRequest,
    },
    register::{
        BatchImportCitiesRequest, CityRow, GetCityRequest, ListCitiesRequest, RegimeClass, RetractCityRequest,
        SourceRegister,
    },
    strategy::{CreateStrategyRequest, DiscardStrategyRequest, GetEvaluationRequest, GetStrategyRequest, Strategy},
    types::{Change, RowOutcome, Tombstone},
};
use hansa_tests::{Caller, Platform, Shape, cities, eventually, refusals::row_status, request_id, rule, text};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const CITIES: [(&str, &str, &str); 4] =
    [("1", "Dresden", "DE"), ("2", "Bologna", "IT"), ("3", "Tunis", "TN"), ("4", "Quito", "EC")];
const WHY: &str = "It stood there twice.";

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    deleted(Platform::start(HANSA, Shape::Embedded).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_postgres_and_nats() {
    deleted(Platform::start(HANSA, Shape::OneProcess).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_a_service_on_postgres_and_nats() {
    deleted(Platform::start(HANSA, Shape::ProcessAService).await).await;
}

async fn deleted(mut platform: Platform) {
    let regimes = [("DE", RegimeClass::LiberalDemocracy), ("TN", RegimeClass::ElectoralAutocracy)];
    cities::enter(&platform, &CITIES, &regimes).await;
    let dresden = a_tie(&platform).await;
    a_city(&platform, &dresden).await;
    a_draft(&platform, &dresden.mayor).await;
    platform.stop();
}

/// Checks that the answer to a call names the deletion, not only a missing record.
fn is_told(status: &Status) {
    assert_eq!((status.code(), rule(status)), (Code::NotFound, "PL-8".to_owned()), "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "DELETED");
}

async fn last_change(caller: &Caller, service: &str, record: &str) -> Change {
    let request = ListChangesRequest { parent: record.into(), ..Default::default() };
    let answer = caller.changes(service).list_changes(request).await.unwrap().into_inner();
    answer.changes.last().unwrap().clone()
}

fn tombstone(change: &Change) -> Tombstone {
    assert_eq!(change.payload_type, "hansa.type.v1.Tombstone");
    Tombstone::decode(change.payload.as_ref().unwrap().value.as_slice()).unwrap()
}

/// Waits until the feed of a caller contains the tombstone of a record.
async fn is_fed(caller: &Caller, service: &str, record: &str) {
    eventually("the tombstone in the feed", async || {
        let request =
            ListFeedEntriesRequest { parent: format!("feeds/{service}"), page_size: 1_000, ..Default::default() };
        let feed = caller.changes(service).list_feed_entries(request).await.ok()?.into_inner();
        let mut changes = feed.entries.into_iter().rev().filter_map(|entry| entry.change);
        changes.find(|change| change.record == record).filter(|last| last.payload_type.ends_with("Tombstone"))
    })
    .await;
}

fn origin() -> AgreementOrigin {
    AgreementOrigin { source: "a test".into(), external_id: "t1".into(), claimed_by: String::new() }
}

/// Deletes a tie that the steward imported by mistake. The evaluation of its city no longer counts the tie.
async fn a_tie(platform: &Platform) -> cities::City {
    let (steward, dresden) = (platform.steward(), cities::join(platform, "1").await);
    let import = ImportAgreementRequest {
        row: Some(AgreementRow {
            initiator: dresden.city.clone(),
            partner: cities::name("3"),
            origin: Some(origin()),
            ..Default::default()
        }),
        request_id: request_id(),
        ..Default::default()
    };
    let tie = eventually("the partnerships service has the mirrors of both cities", async || {
        Some(steward.attestations().import_agreement(import.clone()).await.ok()?.into_inner().name)
    })
    .await;
    let counts = async || {
        let request = GetEvaluationRequest { city: dresden.city.clone(), ..Default::default() };
        let found = dresden.mayor.evaluations().get_evaluation(request).await.ok()?.into_inner();
        Some(format!("{found:?}").contains(&tie))
    };
    // A tie without guidelines causes a finding that names the tie.
    eventually("the evaluation knows the tie", async || counts().await?.then_some(())).await;

    let request = RetractAgreementRequest {
        name: tie.clone(),
        reason: text(WHY),
        request_id: request_id(),
        ..Default::default()
    };
    let strange = dresden.mayor.agreements().retract_agreement(request.clone()).await.unwrap_err();
    assert_eq!(strange.code(), Code::PermissionDenied, "only the steward may delete an imported tie");
    let without = RetractAgreementRequest { reason: Vec::new(), request_id: request_id(), ..request.clone() };
    let without = steward.agreements().retract_agreement(without).await.unwrap_err();
    assert_eq!((without.code(), rule(&without)), (Code::InvalidArgument, "PL-8".into()));
    let tried = RetractAgreementRequest { validate_only: true, request_id: request_id(), ..request.clone() };
    steward.agreements().retract_agreement(tried).await.unwrap();
    for _ in 0..2 {
        steward.agreements().retract_agreement(request.clone()).await.unwrap();
    }
    for caller in [&steward, &dresden.mayor] {
        let get = GetAgreementRequest { name: tie.clone() };
        is_told(&caller.agreements().get_agreement(get).await.unwrap_err());
        let listed = caller.agreements().list_agreements(ListAgreementsRequest::default()).await.unwrap().into_inner();
        assert!(listed.agreements.is_empty());
        is_fed(caller, "partnerships", &tie).await;
    }
    let seen = last_change(&steward, "partnerships", &tie).await;
    assert_eq!(tombstone(&seen).reason[0].text, WHY);
    let seen = last_change(&dresden.mayor, "partnerships", &tie).await;
    assert!(
        tombstone(&seen).reason.is_empty() && seen.actor.is_none(),
        "everyone sees the deletion, but not its reason and actor"
    );
    let again = BatchImportAgreementsRequest {
        rows: vec![AgreementRow { ..import.row.clone().unwrap() }],
        ..Default::default()
    };
    let rows = steward.attestations().batch_import_agreements(again).await.unwrap().into_inner().rows;
    assert!(rule(&row_status(&rows[0])) == "PL-8", "an import restores a deleted record: {rows:?}");
    eventually("the evaluation no longer counts the tie", async || (!counts().await?).then_some(())).await;

    let bologna = cities::join(platform, "2").await;
    let own = cities::propose(&dresden, &bologna).await.name;
    let request = RetractAgreementRequest { name: own, request_id: request_id(), ..request };
    assert_eq!(steward.agreements().retract_agreement(request).await.unwrap_err().code(), Code::NotFound);
    dresden
}

/// Deletes a city that was imported by mistake. Other services remove their mirrors of the city.
async fn a_city(platform: &Platform, partner: &cities::City) {
    let (steward, quito) = (platform.steward(), cities::name("4"));
    let proposed = cities::proposal(&partner.city, &quito);
    let first = partner.office.agreements().propose_agreement(proposed.clone()).await.unwrap().into_inner();
    let dresden = platform.caller(None, &[hansa_kernel::Role::Observer]);
    let delete = |name: &str| RetractCityRequest {
        name: name.into(),
        reason: text(WHY),
        request_id: request_id(),
        ..Default::default()
    };
    let joined = steward.cities().retract_city(delete(&cities::name("1"))).await.unwrap_err();
    assert_eq!(joined.code(), Code::PermissionDenied, "the steward may not delete a city that has joined");
    steward.cities().retract_city(delete(&quito)).await.unwrap();
    let get = GetCityRequest { name: quito.clone(), as_of_date: None };
    is_told(&dresden.cities().get_city(get).await.unwrap_err());
    let request = ListCitiesRequest { display_name_prefix: "Quito".into(), ..Default::default() };
    assert!(dresden.cities().list_cities(request).await.unwrap().into_inner().cities.is_empty());
    let seen = last_change(&dresden, "register", &quito).await;
    assert_eq!(tombstone(&seen).reason[0].text, WHY);
    is_fed(&dresden, "register", &quito).await;
    let row = CityRow {
        source_register: SourceRegister::Geonames as i32,
        source_key: "4".into(),
        display_name: "Quito".into(),
        country_code: "EC".into(),
        ..Default::default()
    };
    let again = BatchImportCitiesRequest { rows: vec![row], source: "a test".into(), ..Default::default() };
    let rows = steward.cities().batch_import_cities(again).await.unwrap().into_inner().rows;
    assert_eq!(rows[0].outcome(), RowOutcome::Failed);
    assert!(rule(&row_status(&rows[0])) == "PL-8", "an import restores a deleted record: {rows:?}");
    let proposal = ImportAgreementRequest {
        row: Some(AgreementRow {
            initiator: cities::name("3"),
            partner: quito.clone(),
            origin: Some(AgreementOrigin { external_id: "t2".into(), ..origin() }),
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    };
    eventually("the partnerships service no longer has the city", async || {
        let refused = steward.attestations().import_agreement(proposal.clone()).await.err()?;
        (refused.code() == Code::NotFound && rule(&refused) == "CT-1").then_some(())
    })
    .await;
    // A replayed request gets its first answer, even after the deletion of a record that it names (PL-4).
    let again = partner.office.agreements().propose_agreement(proposed.clone()).await.unwrap().into_inner();
    assert_eq!(again, first);
    let other = ProposeAgreementRequest { partner: cities::name("3"), ..proposed.clone() };
    let other = partner.office.agreements().propose_agreement(other).await.unwrap_err();
    assert_eq!((other.code(), rule(&other)), (Code::InvalidArgument, "PL-4".into()));
    let anew = ProposeAgreementRequest { request_id: request_id(), ..proposed };
    let anew = partner.office.agreements().propose_agreement(anew).await.unwrap_err();
    assert_eq!((anew.code(), rule(&anew)), (Code::NotFound, "CT-1".into()));
}

/// Deletes a draft. A stranger cannot tell that the draft existed.
async fn a_draft(platform: &Platform, stranger: &Caller) {
    let tunis = cities::join(platform, "3").await;
    let strategy = Strategy { city: tunis.city.clone(), title: text("A draft"), ..Default::default() };
    let create = CreateStrategyRequest { strategy: Some(strategy), request_id: request_id(), ..Default::default() };
    let draft = eventually("the strategy service has the mirror of the city", async || {
        Some(tunis.office.strategies().create_strategy(create.clone()).await.ok()?.into_inner().name)
    })
    .await;
    let delete = DiscardStrategyRequest {
        name: draft.clone(),
        reason: text(WHY),
        request_id: request_id(),
        ..Default::default()
    };
    assert_eq!(stranger.strategies().discard_strategy(delete.clone()).await.unwrap_err().code(), Code::NotFound);
    tunis.office.strategies().discard_strategy(delete).await.unwrap();
    let get = GetStrategyRequest { name: draft };
    is_told(&tunis.observer.strategies().get_strategy(get.clone()).await.unwrap_err());
    let absent = stranger.strategies().get_strategy(get).await.unwrap_err();
    assert_eq!(
        (absent.code(), rule(&absent)),
        (Code::NotFound, "PL-1".into()),
        "the answer reveals the deletion to a stranger"
    );
    let adopted = cities::adopt(&tunis).await.name;
    let delete = DiscardStrategyRequest { name: adopted, reason: text(WHY), ..Default::default() };
    let refused = tunis.office.strategies().discard_strategy(delete).await.unwrap_err();
    assert_eq!((refused.code(), rule(&refused)), (Code::FailedPrecondition, "ST-1".into()));
}
