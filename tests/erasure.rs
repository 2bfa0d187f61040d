//! A tenant can erase its texts permanently, and the remaining history still verifies (PL-7, PL-8).
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::{
    changes::{EraseTextsRequest, EraseTextsResponse, ListChangesRequest, ListFeedEntriesRequest, TextsErased},
    partnerships::{Agreement, ExportAgreementRequest, GetAgreementRequest},
    types::Change,
};
use hansa_tests::{Caller, Platform, Shape, cities, eventually, request_id};
use prost::Message;
use std::path::Path;
use tonic::Code;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const CITIES: [(&str, &str, &str); 3] = [("1", "Dresden", "DE"), ("2", "Bologna", "IT"), ("3", "Lyon", "FR")];
/// Texts of the first side. The plan is a text of the second side.
const TITLE: &str = "Cooler streets";
const RATIONALE: &str = "Both heat up.";
const PLAN: &str = "Two exchanges a year.";

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    let (mut platform, name, partner) = erased(Platform::start(HANSA, Shape::Embedded).await).await;
    platform.stop();
    for gone in [TITLE, RATIONALE] {
        assert!(!holds(platform.data(), gone), "{gone} is still in a file after the erasure");
    }
    assert!(holds(platform.data(), PLAN), "the erasure removed a text of the other side");
    by_command_line(&platform, &name, &partner);
    assert!(!holds(platform.data(), PLAN));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_postgres_and_nats() {
    erased(Platform::start(HANSA, Shape::OneProcess).await).await.0.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_a_service_on_postgres_and_nats() {
    erased(Platform::start(HANSA, Shape::ProcessAService).await).await.0.stop();
}

fn asks(record: &str) -> EraseTextsRequest {
    EraseTextsRequest { name: record.into(), request_id: request_id(), ..Default::default() }
}

async fn erase(caller: &Caller, request: &EraseTextsRequest) -> Result<EraseTextsResponse, Code> {
    let answer = caller.changes("partnerships").erase_texts(request.clone()).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

async fn agreement(caller: &Caller, name: &str) -> Agreement {
    caller.agreements().get_agreement(GetAgreementRequest { name: name.into() }).await.unwrap().into_inner()
}

/// Returns title, rationale and plan of an agreement.
fn texts(agreement: &Agreement) -> [String; 3] {
    let [rationale, plan] = [&agreement.rationale, &agreement.plan].map(|joint| joint.as_ref().unwrap().text.clone());
    [agreement.terms.as_ref().unwrap().title.clone(), rationale, plan].map(|texts| texts[0].text.clone())
}

/// Lets two cities prepare an agreement and the first one erase its texts. Returns the agreement and a token of the
/// second.
async fn erased(platform: Platform) -> (Platform, String, String) {
    cities::enter(&platform, &CITIES, &[]).await;
    let (dresden, bologna) = (cities::join(&platform, "1").await, cities::join(&platform, "2").await);
    let lyon = cities::join(&platform, "3").await;
    let name = cities::propose(&dresden, &bologna).await.name;
    let before = cities::prepare(&dresden, &bologna, &name).await;
    assert_eq!(texts(&before), [TITLE, RATIONALE, PLAN]);
    let seal = |texts: &[hansa_proto::types::LocalizedText]| texts[0].seal.clone();
    let plan = seal(&before.plan.as_ref().unwrap().text);

    assert_eq!(erase(&lyon.mayor, &asks(&name)).await, Err(Code::NotFound), "a stranger may not erase texts");
    assert_eq!(erase(&dresden.observer, &asks(&name)).await, Err(Code::PermissionDenied));
    let auditor = platform.caller(None, &[hansa_kernel::Role::Auditor]);
    assert_eq!(erase(&auditor, &asks(&name)).await, Err(Code::PermissionDenied));
    let theirs = EraseTextsRequest { seals: vec![plan], ..asks(&name) };
    assert_eq!(
        erase(&dresden.mayor, &theirs).await,
        Err(Code::NotFound),
        "a tenant may not erase a text of the other side"
    );
    let tried = EraseTextsRequest { validate_only: true, ..asks(&name) };
    assert_eq!(erase(&dresden.mayor, &tried).await.unwrap().erased_count, 2);
    assert_eq!(
        texts(&agreement(&dresden.mayor, &name).await),
        [TITLE, RATIONALE, PLAN],
        "`validate_only` has no effect"
    );

    for side in [&dresden, &bologna] {
        side.mayor.agreements().sign_agreement(cities::signature(&name)).await.unwrap();
    }
    let title = EraseTextsRequest { seals: vec![seal(&before.terms.as_ref().unwrap().title)], ..asks(&name) };
    let title = erase(&dresden.clerk, &title).await.unwrap();
    assert_eq!(title.erased_count, 1);
    let rest = asks(&name);
    let first = erase(&dresden.office, &rest).await.unwrap();
    assert_eq!((first.erased_count, erase(&dresden.office, &rest).await.unwrap()), (1, first.clone()), "PL-4");
    assert_eq!(erase(&dresden.office, &asks(&name)).await.unwrap(), EraseTextsResponse::default());

    for reader in [&dresden.observer, &bologna.observer] {
        assert_eq!(texts(&agreement(reader, &name).await), ["", "", PLAN]);
    }
    in_feed(&bologna.observer, &title.erasure, |told| told.seals.len() == 1 && told.record == name).await;
    hidden_from(&lyon.observer, &title.erasure).await;
    history_and_export(&bologna.observer, &lyon.observer, &name, &first.erasure).await;
    let token = platform.token(Some(&bologna.tenant), &[hansa_kernel::Role::Mayor]);
    (platform, name, token)
}

async fn feed(caller: &Caller) -> Vec<Change> {
    let request =
        ListFeedEntriesRequest { parent: "feeds/partnerships".into(), page_size: 1_000, ..Default::default() };
    let feed = caller.changes("partnerships").list_feed_entries(request).await.unwrap().into_inner().entries;
    feed.into_iter().filter_map(|one| one.change).collect()
}

/// Waits for an erasure in the feed and checks its content.
async fn in_feed(caller: &Caller, erasure: &str, holds: impl Fn(&TextsErased) -> bool) {
    let told = eventually("the feed contains the erasure", async || {
        let change = feed(caller).await.into_iter().find(|change| change.record == erasure)?;
        Some(TextsErased::decode(change.payload.unwrap().value.as_slice()).unwrap())
    })
    .await;
    assert!(holds(&told), "{told:?}");
}

async fn history_and_export(party: &Caller, stranger: &Caller, name: &str, erasure: &str) {
    let request = ListChangesRequest { parent: name.into(), ..Default::default() };
    let history = party.changes("partnerships").list_changes(request).await.unwrap().into_inner().changes;
    for change in &history {
        let payload = String::from_utf8_lossy(&change.payload.as_ref().unwrap().value).into_owned();
        assert!(!payload.contains(TITLE) && !payload.contains(RATIONALE));
    }
    let request = ExportAgreementRequest { name: name.into() };
    let document = party.agreements().export_agreement(request).await.unwrap().into_inner();
    let opened: Vec<&str> = document.openings.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(opened, [PLAN], "the export contains no opening of an erased text");

    in_feed(party, erasure, |told| told.seals.len() == 1 && told.public_seals.is_empty()).await;
    hidden_from(stranger, erasure).await;
}

/// Checks that a stranger does not see the erasure: the agreement is public, but none of its texts is.
async fn hidden_from(stranger: &Caller, erasure: &str) {
    assert!(feed(stranger).await.iter().all(|change| change.record != erasure));
    let request = ListChangesRequest { parent: erasure.into(), ..Default::default() };
    let hidden = stranger.changes("partnerships").list_changes(request).await.unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound);
}

/// Erases the texts of the second side by the command line, and verifies the exported document.
fn by_command_line(platform: &Platform, name: &str, token: &str) {
    let run = |arguments: &[&str]| {
        let output = platform.hansa(arguments).env("HANSA_TOKEN", token).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["erase", name, "--dry-run"]).contains("1 texts"));
    assert!(run(&["erase", name]).contains("erasures/"));
    assert!(run(&["erase", name]).contains("no such texts"));
    let file = platform.data().join("agreement.json");
    run(&["export", name, "--output", file.to_str().unwrap()]);
    assert!(run(&["verify", file.to_str().unwrap()]).contains("holds together"));
}

/// Returns whether any file in a folder contains the text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => holds(&path, text),
        false => std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes()),
    })
}
