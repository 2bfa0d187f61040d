//! The service over a real store: the effects of commands, events and timers, also across restarts.
#![allow(clippy::unwrap_used)]

mod inheritance;
mod requirements;
mod timers;

use crate::{
    Migrator,
    api::Agreements,
    facts,
    subscriptions::{queues, register, succession},
};
use async_trait::async_trait;
use chrono::{DateTime, TimeZone, Utc};
use hansa_chassis::{
    Handlers,
    auth_layer::Rpc,
    changes::Changes,
    policy::{CONTRACT, Policy},
    row_failure,
};
use hansa_journal::{Delivery, Journal, JournalError, JournalSource, ManualClock, NodeKeys, Source, Store};
use hansa_kernel::{Caller, PersonId, RecordId, RecordName, Role, TenantId, envelope, time};
use hansa_partnerships_domain::agreement::{Agreement, Both};
use hansa_proto::{
    ChangeSet,
    changes::{EraseTextsRequest, ListChangesRequest, ListFeedEntriesRequest},
    google::r#type::Date,
    handlers::{AgreementServiceHandler, AttestationServiceHandler, ChangeServiceHandler, PartnershipServiceHandler},
    partnerships::{self as p, AgreementState},
    register::{CityImported, CityJoined, CityRow, CityTier, city_change},
    types::{
        AgreementKind, ChangeEnvelope, CouncilVote, LocalizedText, ResourceView, RowOutcome, RowResult, VoteResult,
    },
};
use std::{collections::HashMap, path::Path, sync::Arc};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};
use uuid::Uuid;

const A: TenantId = TenantId(Uuid::from_u128(0xa));
const B: TenantId = TenantId(Uuid::from_u128(0xb));
const STRANGER: TenantId = TenantId(Uuid::from_u128(0xc));
const NODE: TenantId = TenantId(Uuid::from_u128(0xd));

/// Cities 1 and 2 have joined the platform, city 3 has not.
fn city(n: u128) -> RecordId {
    RecordId(Uuid::from_u128(0x100 + n))
}

fn city_name(n: u128) -> String {
    RecordName::new("cities", city(n)).to_string()
}

fn words(text: &str) -> Vec<LocalizedText> {
    vec![LocalizedText { language_code: "en".into(), text: text.into(), ..LocalizedText::default() }]
}

/// A fake register that delivers the changes it is given.
struct Register(Vec<Delivery>);

impl Register {
    fn of_three() -> Self {
        let mut out = Self(Vec::new());
        for (n, country, tenant) in [(1, "FR", Some(A)), (2, "PT", Some(B)), (3, "PT", None)] {
            let row = CityRow {
                display_name: format!("City {n}"),
                country_code: country.into(),
                tier: CityTier::Municipality as i32,
                ..CityRow::default()
            };
            out.say(n, 1, &CityImported { row: Some(row), source: "test".into() }.into());
            if let Some(tenant) = tenant {
                out.say(n, 2, &CityJoined { tenant: tenant.name() }.into());
            }
        }
        out
    }

    fn say(&mut self, n: u128, version: u64, change: &city_change::Change) {
        self.say_of(city_name(n), version, change);
    }

    fn say_of(&mut self, record: String, version: u64, change: &impl ChangeSet) {
        self.tell(record, version, change.type_name(), change.payload());
    }

    fn tell(&mut self, record: String, version: u64, kind: &str, payload: Vec<u8>) {
        let envelope = ChangeEnvelope {
            format: envelope::FORMAT,
            payload_type: kind.into(),
            record,
            version: envelope::wire_version(version),
            payload,
            claim_time: Some(time::timestamp(day(2024, 1, 1))),
            ..ChangeEnvelope::default()
        };
        self.0.push(Delivery { position: self.0.len() as i64 + 1, envelope, trace: None });
    }
}

#[async_trait]
impl Source for Register {
    async fn next(&mut self, after: i64) -> Result<Vec<Delivery>, JournalError> {
        Ok(self.0.iter().filter(|one| one.position > after).cloned().collect())
    }

    async fn history(&self, _record: &RecordName, _after: u64) -> Result<Vec<ChangeEnvelope>, JournalError> {
        Ok(Vec::new())
    }

    async fn acknowledge(&mut self) -> Result<(), JournalError> {
        Ok(())
    }
}

fn day(year: i32, month: u32, of_month: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(year, month, of_month, 9, 0, 0).unwrap()
}

/// The service over a store, with its handlers and a manual clock.
struct House {
    journal: Journal,
    rpcs: Agreements,
    clock: ManualClock,
}

impl House {
    async fn open(folder: &Path, now: DateTime<Utc>) -> Self {
        Self::on(Store::sqlite::<Migrator>(&folder.join("partnerships.db")).await.unwrap(), now).await
    }

    async fn on(store: Store, now: DateTime<Utc>) -> Self {
        let clock = ManualClock::at(now);
        let node = NodeKeys::from_secret(&[7; 32]);
        let journal = crate::service().into_journal().open(store, node, Arc::new(clock.clone())).await.unwrap();
        let mut policy = Policy::default();
        policy.add("hansa.partnerships.v1", include_str!("../policy.cedar")).unwrap();
        let drain = CancellationToken::new();
        let rpcs = Agreements::from(Handlers::new(journal.clone(), Arc::new(policy), drain));
        register::subscription(&journal).step(&mut Register::of_three()).await.unwrap();
        Self { journal, rpcs, clock }
    }

    /// Delivers the service's own changes and runs the supersession queue.
    async fn settle(&self) -> usize {
        succession::subscription(&self.journal).step(&mut JournalSource::new(&self.journal)).await.unwrap();
        crate::supersede(&self.journal).step().await.unwrap()
    }

    async fn load(&self, name: &str) -> Arc<Agreement> {
        let name = RecordName::parse_any(name, "name").unwrap();
        self.journal.load::<Agreement>(&name).await.unwrap().unwrap().state
    }

    async fn types(&self, name: &str) -> Vec<String> {
        let id = RecordName::parse_any(name, "name").unwrap().id;
        let past = self.journal.history(id, 0, 1_000).await.unwrap();
        let last = |change: &str| change.rsplit('.').next().unwrap_or_default().to_owned();
        past.iter().map(|change| last(&change.envelope.payload_type)).collect()
    }

    /// Fires timers until none is due.
    async fn fire(&self) {
        while self.journal.fire_due().await.unwrap() > 0 {}
    }

    async fn rebuilt(&self) {
        let rebuilt = self.journal.rebuild(|_| {}).await.unwrap();
        assert!(rebuilt.records > 0 && rebuilt.differing.is_empty() && rebuilt.broken.is_empty(), "{rebuilt:?}");
    }
}

fn by<Q>(tenant: TenantId, role: Role, rpc: &str, asked: Q) -> Request<Q> {
    let mut request = Request::new(asked);
    let person = PersonId(Uuid::from_u128(9));
    request.extensions_mut().insert(Caller { tenant, person, roles: vec![role], scopes: vec!["*".into()] });
    let service = CONTRACT.services().find(|service| service.methods().any(|method| method.name() == rpc)).unwrap();
    request.extensions_mut().insert(Rpc(format!("/{}/{rpc}", service.full_name()).into()));
    request
}

fn proposal(kind: AgreementKind, supersedes: &str) -> p::ProposeAgreementRequest {
    p::ProposeAgreementRequest {
        initiator: city_name(1),
        partner: city_name(2),
        terms: Some(p::AgreementTerms {
            kind: kind as i32,
            title: words("Together"),
            sectors: vec![p::Sector::Culture as i32],
            term_months: 24,
            ..p::AgreementTerms::default()
        }),
        superseded_agreement: supersedes.into(),
        ..p::ProposeAgreementRequest::default()
    }
}

/// Runs an agreement from the proposal to both signatures.
async fn concluded(house: &House, kind: AgreementKind, supersedes: &str) -> String {
    conclude(house, kind, proposal(kind, supersedes)).await
}

async fn conclude(house: &House, kind: AgreementKind, asked: p::ProposeAgreementRequest) -> String {
    let rpcs = &house.rpcs;
    let made = rpcs.propose_agreement(by(A, Role::Mayor, "ProposeAgreement", asked)).await;
    let name = made.unwrap().into_inner().name;
    let asked = p::OpenDialogueRequest { name: name.clone(), ..Default::default() };
    rpcs.open_dialogue(by(B, Role::IrOfficer, "OpenDialogue", asked)).await.unwrap();
    let asked = p::ProposeRationaleRequest { name: name.clone(), rationale: words("Why"), ..Default::default() };
    rpcs.propose_rationale(by(A, Role::IrOfficer, "ProposeRationale", asked)).await.unwrap();
    let asked = p::ConfirmRationaleRequest { name: name.clone(), revision: 1, ..Default::default() };
    rpcs.confirm_rationale(by(B, Role::IrOfficer, "ConfirmRationale", asked)).await.unwrap();
    let asked = p::ProposePlanRequest { name: name.clone(), plan: words("What"), ..Default::default() };
    rpcs.propose_plan(by(B, Role::IrOfficer, "ProposePlan", asked)).await.unwrap();
    let asked = p::ConfirmPlanRequest { name: name.clone(), revision: 2, ..Default::default() };
    rpcs.confirm_plan(by(A, Role::IrOfficer, "ConfirmPlan", asked)).await.unwrap();
    for tenant in [A, B] {
        if kind != AgreementKind::Memorandum {
            let asked = p::RecordCouncilVoteRequest {
                name: name.clone(),
                vote: Some(CouncilVote {
                    result: VoteResult::Approved as i32,
                    vote_date: Some(Date { year: 2024, month: 1, day: 9 }),
                    minutes: Some("doc:minutes".into()),
                    tally: None,
                }),
                ..Default::default()
            };
            rpcs.record_council_vote(by(tenant, Role::CouncilClerk, "RecordCouncilVote", asked)).await.unwrap();
        }
    }
    for tenant in [A, B] {
        let asked = p::SignAgreementRequest { name: name.clone(), ..Default::default() };
        rpcs.sign_agreement(by(tenant, Role::Mayor, "SignAgreement", asked)).await.unwrap();
    }
    name
}

async fn listed(house: &House, tenant: TenantId, asked: p::ListAgreementsRequest) -> Vec<p::Agreement> {
    let answer = house.rpcs.list_agreements(by(tenant, Role::Observer, "ListAgreements", asked)).await;
    answer.unwrap().into_inner().agreements
}

fn importing(tie: &str, partner: u128) -> p::AgreementRow {
    p::AgreementRow {
        initiator: city_name(1),
        partner: city_name(partner),
        origin: Some(p::AgreementOrigin { source: "wikidata".into(), external_id: tie.into(), ..Default::default() }),
        terms: Some(p::AgreementTerms { title: words("An old tie"), ..Default::default() }),
        signed_date: Some(Date { year: 1990, month: 6, day: 1 }),
    }
}

async fn import(house: &House, rows: Vec<p::AgreementRow>) -> Vec<RowResult> {
    let asked = p::BatchImportAgreementsRequest { rows, ..Default::default() };
    let asked = by(NODE, Role::Steward, "BatchImportAgreements", asked);
    house.rpcs.batch_import_agreements(asked).await.unwrap().into_inner().rows
}

// AG-3.
#[tokio::test]
async fn ag_3_a_stronger_agreement_takes_the_place_of_a_weaker_one_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let weak = concluded(&house, AgreementKind::Memorandum, "").await;
    assert_eq!(house.settle().await, 0);
    let strong = concluded(&house, AgreementKind::Cooperation, &weak).await;
    assert_eq!(house.settle().await, 1);
    assert_eq!(house.load(&weak).await.state(), AgreementState::Superseded);
    assert_eq!(house.load(&strong).await.state(), AgreementState::Active);
    let before = house.types(&weak).await;
    house.journal.mark(queues::SUPERSEDE, [RecordName::parse_any(&strong, "name").unwrap().id.0]).await.unwrap();
    assert_eq!(house.settle().await, 1);
    assert_eq!(house.types(&weak).await, before);
    house.rebuilt().await;
}

// PL-1.
#[tokio::test]
async fn pl_1_strangers_find_an_agreement_once_it_is_in_force_and_see_no_more_than_is_public() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let asked = proposal(AgreementKind::Memorandum, "");
    let made = house.rpcs.propose_agreement(by(A, Role::Mayor, "ProposeAgreement", asked)).await.unwrap().into_inner();
    assert_eq!(made.terms.unwrap().title[0].text, "Together");
    assert_eq!(listed(&house, STRANGER, Default::default()).await.len(), 0);
    assert_eq!(listed(&house, B, Default::default()).await.len(), 1);
    let get = |tenant| by(tenant, Role::Observer, "GetAgreement", p::GetAgreementRequest { name: made.name.clone() });
    assert_eq!(house.rpcs.get_agreement(get(STRANGER)).await.unwrap_err().code(), Code::NotFound);

    let name = concluded(&house, AgreementKind::Memorandum, "").await;
    let asked = p::ListAgreementsRequest { city: city_name(2), country_code: "FR".into(), ..Default::default() };
    let seen = listed(&house, STRANGER, asked.clone()).await;
    assert_eq!(seen.iter().map(|one| &one.name).collect::<Vec<_>>(), [&name]);
    assert!(seen[0].rationale.is_none() && seen[0].terms.as_ref().unwrap().title.is_empty());
    assert_eq!(listed(&house, A, asked).await.len(), 2);
    let other = p::ListAgreementsRequest { city: city_name(2), country_code: "PT".into(), ..Default::default() };
    assert_eq!(listed(&house, A, other).await.len(), 0);
    let mut active = p::ListAgreementsRequest { state: AgreementState::Active as i32, ..Default::default() };
    active.set_view(ResourceView::Full);
    assert_eq!(listed(&house, A, active).await[0].rationale.as_ref().unwrap().text[0].text, "Why");

    let asked = p::ListActivitiesRequest { parent: name.clone(), ..Default::default() };
    let refused = house.rpcs.list_activities(by(STRANGER, Role::Mayor, "ListActivities", asked)).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    let export =
        |tenant| by(tenant, Role::Observer, "ExportAgreement", p::ExportAgreementRequest { name: name.clone() });
    assert_eq!(house.rpcs.export_agreement(export(STRANGER)).await.unwrap_err().code(), Code::NotFound);
    let document = house.rpcs.export_agreement(export(B)).await.unwrap().into_inner();
    let key = house.journal.node().verifying();
    let history = envelope::verify_chain(&document.changes, |name| (*name == document.keys[0].name).then_some(key));
    assert_eq!(history.unwrap().len(), 9);
    let mut texts: Vec<&str> = document.openings.iter().map(|opening| opening.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["Together", "What", "Why"]);
    for opening in &document.openings {
        let salt = opening.salt.as_slice().try_into().unwrap();
        assert!(hansa_kernel::seal::opens(&opening.seal, salt, opening.text.as_bytes()));
    }
}

// PL-6.
#[tokio::test]
async fn pl_6_a_text_keeps_its_languages_and_which_of_them_are_authentic() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let said = [("fr", "Ensemble", true), ("pt-PT", "Juntos", true), ("en", "Together", false)];
    let title = said.map(|(language, text, authentic)| LocalizedText {
        language_code: language.into(),
        text: text.into(),
        authentic,
        ..LocalizedText::default()
    });
    let mut asked = proposal(AgreementKind::Memorandum, "");
    asked.terms.as_mut().unwrap().title = title.to_vec();
    let made = house.rpcs.propose_agreement(by(A, Role::Mayor, "ProposeAgreement", asked.clone())).await.unwrap();
    let get = p::GetAgreementRequest { name: made.into_inner().name };
    let read = house.rpcs.get_agreement(by(B, Role::Observer, "GetAgreement", get)).await.unwrap().into_inner();
    let title = read.terms.unwrap().title;
    let read: Vec<_> = title.iter().map(|t| (t.language_code.as_str(), t.text.as_str(), t.authentic)).collect();
    assert_eq!(read, said);
    asked.terms.as_mut().unwrap().title[1].language_code = "fr".into();
    let twice = house.rpcs.propose_agreement(by(A, Role::Mayor, "ProposeAgreement", asked)).await.unwrap_err();
    assert_eq!(twice.code(), Code::InvalidArgument, "a language may occur only once");
}

#[tokio::test]
async fn pl_1_a_public_history_shows_strangers_neither_texts_nor_actors_nor_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let name = concluded(&house, AgreementKind::Memorandum, "").await;
    let journals = HashMap::from([(crate::NAME, house.journal.clone())]);
    let changes = Changes::new(journals, &Arc::new(Policy::default()), &CancellationToken::new());
    let history = async |tenant, page_size, page_token| {
        let asked = ListChangesRequest { parent: name.clone(), page_size, page_token };
        changes.list_changes(by(tenant, Role::Observer, "ListChanges", asked)).await.unwrap().into_inner()
    };
    let own = history(B, 0, String::new()).await.changes;
    assert_eq!(own.len(), 9);
    assert!(own.iter().all(|change| change.signed_change.is_some() && change.actor.is_some()));
    let seen = history(STRANGER, 0, String::new()).await.changes;
    assert_eq!(seen.iter().map(|change| change.version).collect::<Vec<_>>(), [1, 7, 8, 9]);
    assert!(seen.iter().all(|change| change.signed_change.is_none() && change.actor.is_none()));
    let payloads: Vec<_> = seen.iter().map(|change| change.payload.clone().unwrap().value).collect();
    let holds = |text: &str| payloads.iter().any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()));
    assert!(holds("City 2") && !holds("Together"));
    // A page without visible changes still has a next page token.
    let first = history(STRANGER, 3, String::new()).await;
    let second = history(STRANGER, 3, first.next_page_token).await;
    assert_eq!((first.changes.len(), second.changes.len()), (1, 0));
    assert_eq!(history(STRANGER, 3, second.next_page_token).await.changes.len(), 3);

    let mut page_token = String::new();
    let mut versions = Vec::new();
    loop {
        let parent = "feeds/partnerships".to_owned();
        let asked = ListFeedEntriesRequest { parent, page_token, page_size: 2, after_position: 0 };
        let page = changes
            .list_feed_entries(by(STRANGER, Role::Observer, "ListFeedEntries", asked))
            .await
            .unwrap()
            .into_inner();
        versions.extend(page.entries.iter().map(|one| one.change.as_ref().unwrap().version));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 7, 8, 9]);
}

#[tokio::test]
async fn ag_13_a_batch_of_ties_enters_once_and_bad_rows_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let rows = vec![importing("1", 2), importing("2", 9), importing("", 3), importing("3", 3)];
    let outcomes = |rows: &[RowResult]| rows.iter().map(RowResult::outcome).collect::<Vec<_>>();
    use hansa_proto::types::RowOutcome::{Created, Failed, Unchanged};
    let done = import(&house, rows.clone()).await;
    assert_eq!(outcomes(&done), [Created, Failed, Failed, Created], "{done:?}");
    assert!(row_failure(&done[1]).contains("a moment ago") && row_failure(&done[2]).contains("AG-13"), "{done:?}");
    assert_eq!(outcomes(&import(&house, rows).await), [Unchanged, Failed, Failed, Unchanged]);
    assert_eq!(outcomes(&import(&house, vec![importing("1", 3)]).await), [Failed]);
    let asked = p::ImportAgreementRequest { row: Some(importing("1", 2)), ..Default::default() };
    let again = house.rpcs.import_agreement(by(NODE, Role::Steward, "ImportAgreement", asked)).await;
    assert_eq!(again.unwrap_err().code(), Code::AlreadyExists);

    let asked = p::ClaimAgreementRequest { name: done[0].resource.clone(), ..Default::default() };
    let refused = house.rpcs.claim_agreement(by(STRANGER, Role::Mayor, "ClaimAgreement", asked.clone())).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    house.rpcs.claim_agreement(by(B, Role::Mayor, "ClaimAgreement", asked)).await.unwrap();
    assert_eq!(house.load(&done[0].resource).await.tenants(), Both { initiator: None, partner: Some(B) });
    assert_eq!(listed(&house, STRANGER, Default::default()).await.len(), 2);
    house.rebuilt().await;
}

// AG-10.
#[tokio::test]
async fn ag_10_one_decision_ends_all_agreements_with_a_country_and_a_repetition_answers_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let mut names = Vec::new();
    for row in import(&house, vec![importing("1", 2), importing("2", 3)]).await {
        let asked = p::ClaimAgreementRequest { name: row.resource.clone(), ..Default::default() };
        house.rpcs.claim_agreement(by(A, Role::Mayor, "ClaimAgreement", asked)).await.unwrap();
        names.push(row.resource);
    }
    let asked = p::EndAgreementsRequest {
        country_code: "PT".into(),
        reason: words("A decision of the council"),
        request_id: Uuid::from_u128(77).to_string(),
        ..Default::default()
    };
    let call = |asked: &p::EndAgreementsRequest| by(A, Role::Mayor, "EndAgreements", asked.clone());
    let tried = p::EndAgreementsRequest { validate_only: true, ..asked.clone() };
    assert_eq!(house.rpcs.end_agreements(call(&tried)).await.unwrap().into_inner().rows.len(), 2);
    let first = house.rpcs.end_agreements(call(&asked)).await.unwrap().into_inner();
    assert_eq!(first.rows.len(), 2);
    assert!(
        first.rows.iter().all(|one| one.outcome() == RowOutcome::Updated && names.contains(&one.resource)),
        "{first:?}"
    );
    assert_eq!(house.rpcs.end_agreements(call(&asked)).await.unwrap().into_inner(), first);
    let fresh = p::EndAgreementsRequest { request_id: String::new(), ..asked.clone() };
    assert!(house.rpcs.end_agreements(call(&fresh)).await.unwrap().into_inner().rows.is_empty());
    // Each record has its own seal of the reason, so that erasing one record leaves the other unchanged.
    let [one, other] = [0, 1].map(|at| RecordName::parse_any(&names[at], "name").unwrap());
    let erase = EraseTextsRequest { name: names[0].clone(), ..Default::default() };
    let erase = by(A, Role::Mayor, "EraseTexts", erase);
    let mut policy = Policy::default();
    let [(package, text)] = hansa_chassis::changes::POLICIES else { panic!("the changes have one package") };
    policy.add(package, text).unwrap();
    let journals = HashMap::from([(crate::NAME, house.journal.clone())]);
    let changes = Changes::new(journals, &Arc::new(policy), &CancellationToken::new());
    assert_eq!(changes.erase_texts(erase).await.unwrap().into_inner().erased_count, 1);
    let texts = |openings: Vec<hansa_kernel::seal::Sealed>| openings.iter().map(|o| o.value.len()).collect::<Vec<_>>();
    assert_eq!(texts(house.journal.openings(one.id).await.unwrap()).len(), 1, "the steward's title remains");
    assert_eq!(texts(house.journal.openings(other.id).await.unwrap()).len(), 2);
    assert_eq!(house.load(&names[1]).await.state(), AgreementState::Ended);
}

// AG-8.
#[tokio::test]
async fn ag_8_after_ten_years_down_each_timer_fires_once() {
    let folder = tempfile::tempdir().unwrap();
    let (agreed, tie) = {
        let house = House::open(folder.path(), day(2024, 1, 10)).await;
        let tie = import(&house, vec![importing("1", 3)]).await.swap_remove(0).resource;
        (concluded(&house, AgreementKind::Cooperation, "").await, tie)
    };
    let house = House::open(folder.path(), day(2034, 1, 11)).await;
    house.fire().await;
    let (of_agreed, of_tie) = (house.types(&agreed).await, house.types(&tie).await);
    let count = |types: &[String], what: &str| types.iter().filter(|one| *one == what).count();
    assert_eq!(count(&of_agreed, "AgreementExpired"), 1, "{of_agreed:?}");
    assert_eq!(count(&of_tie, "AgreementBecameDormant"), 1, "{of_tie:?}");
    // Signed in 1990: 35 and 40 years, each announced a year ahead.
    assert_eq!(count(&of_tie, "AnniversaryApproached"), 2, "{of_tie:?}");
    house.fire().await;
    assert_eq!((house.types(&agreed).await, house.types(&tie).await), (of_agreed, of_tie));
    house.clock.set(day(2034, 1, 12));
    house.rebuilt().await;
    assert_eq!(house.load(&tie).await.state(), AgreementState::Dormant);
}

#[tokio::test]
async fn facts_come_from_the_register_and_an_unknown_city_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 1, 10)).await;
    let both = |partner| Both { initiator: city(1), partner: city(partner) };
    let known = facts::of(&house.journal, &both(3)).await.unwrap();
    assert_eq!((known.cities.initiator.tenant, known.cities.partner.tenant), (Some(A), None));
    assert_eq!(known.cities.partner.country, "PT");
    assert_eq!(known.cities.initiator.democratic, None);
    let refusal = facts::of(&house.journal, &both(9)).await.unwrap_err();
    assert!(refusal.help.contains("a moment ago"), "{refusal}");
}
