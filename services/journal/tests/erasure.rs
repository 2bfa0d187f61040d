//! Texts are stored outside the changes and can be erased permanently, on SQLite and on PostgreSQL (PL-7, PL-8).
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, author, enter, name, request, steward, tenant};
use hansa_journal::{Author, Command, Erasing, Erasure, IdempotencyKey, Journal, Receipt, seal_texts};
use hansa_kernel::{
    Disclosed, ReasonClass, RecordId, RecordName, Refusal, TenantId, envelope, record::emit, seal::Sealed,
};
use hansa_proto::{
    changes::TextsErased,
    register::{MayorTerm, MayorTermRecorded, Office as OfficeResource, OfficeUpdated},
    types::LocalizedText,
};
use hansa_register_domain::{City, Office};
use prost::Message;
use prost_types::FieldMask;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

on_both!(
    pl_7_texts_are_sealed_and_can_be_erased,
    pl_7_an_erasure_is_on_record,
    pl_7_everyone_hears_of_what_everyone_could_see,
    pl_7_a_text_of_two_records_is_kept_once,
    pl_8_what_a_restore_brings_back_is_erased_again,
);

fn office(key: &str) -> RecordName {
    RecordName::new("offices", name(key).id.of("office"))
}

fn contact(text: &str) -> LocalizedText {
    LocalizedText { text: text.into(), seal: vec![1; 32], ..Default::default() }
}

/// Returns the command that writes an office's contacts for a tenant, the resulting office, and its seals.
fn write(key: &str, tenant: TenantId, texts: &[&str]) -> (Command<Office>, OfficeResource, Vec<Sealed>) {
    let contact = texts.iter().map(|text| contact(text)).collect();
    let mut shown = OfficeResource { city: name(key).to_string(), contact, ..Default::default() };
    let seals = seal_texts(&mut shown).unwrap();
    assert_eq!(seals.len(), texts.len());
    let author = Author { tenant: Some(tenant), ..author(&steward()) };
    let updated =
        OfficeUpdated { office: Some(shown.clone()), update_mask: Some(FieldMask { paths: vec!["contact".into()] }) };
    let command = Command::new(office(key), author, move |_: Option<&Office>, _| emit(updated.clone()));
    (command.sealed(seals.clone(), [0; 32]), shown, seals)
}

async fn put(journal: &Journal, key: &str, tenant: TenantId, texts: &[&str]) -> OfficeResource {
    let (command, shown, _) = write(key, tenant, texts);
    journal.submit(command, false).await.unwrap();
    shown
}

/// Returns the office's contacts as readers see them.
async fn contacts(journal: &Journal, shown: &OfficeResource) -> Vec<String> {
    let mut shown = [shown.clone()];
    journal.resolve_texts(&mut shown, &[]).await.unwrap();
    shown[0].contact.iter().map(|text| text.text.clone()).collect()
}

async fn what(journal: &Journal, key: &str, tenant: TenantId, named: &[Vec<u8>]) -> Result<TextsErased, ReasonClass> {
    journal.erasable(&office(key), tenant, named).await.map_err(|error| Refusal::from(error).class)
}

async fn erase(journal: &Journal, what: TextsErased, once: Option<IdempotencyKey>) -> Option<Receipt<Erasure>> {
    let record = RecordName::parse_any(&what.record, "record").unwrap().id;
    let tenant = TenantId::parse(&what.tenant, "tenant").unwrap();
    let erasing = Erasing { record, tenant, seals: what.seals.clone() };
    let name = RecordName::new("erasures", RecordId(Uuid::now_v7()));
    let author = Author { tenant: Some(tenant), ..author(&steward()) };
    let command = Command::new(
        name,
        author,
        move |_: Option<&Erasure>, _| {
            if what.seals.is_empty() { Ok(Vec::new()) } else { emit(what.clone()) }
        },
    );
    journal.submit_if_any(command.erasing(erasing).idempotent(once), false).await.unwrap()
}

async fn pl_7_texts_are_sealed_and_can_be_erased(f: Fixture) {
    let (journal, mine) = (&f.journal, steward().tenant);
    let shown = put(journal, "a", mine, &["Ana Müller, +33 1 23", "Bo"]).await;
    assert!(shown.contact.iter().all(|text| text.text.is_empty()));
    assert!(shown.contact.iter().all(|text| text.seal != [1; 32]), "a seal that the caller sent is dropped");
    let theirs = put(journal, "a", tenant(9), &["Cy"]).await;
    assert_eq!(contacts(journal, &shown).await, ["Ana Müller, +33 1 23", "Bo"]);

    let nothing = what(journal, "a", tenant(99), &[]).await.unwrap();
    assert!(nothing.seals.is_empty() && erase(journal, nothing, None).await.is_none(), "a tenant erases only its own");
    let foreign = vec![theirs.contact[0].seal.clone()];
    assert_eq!(what(journal, "a", mine, &foreign).await, Err(ReasonClass::NotFound));
    assert_eq!(what(journal, "a", mine, &[vec![1; 31]]).await, Err(ReasonClass::InvalidField));
    assert_eq!(what(journal, "b", mine, &[]).await, Err(ReasonClass::NotFound));

    let one = what(journal, "a", mine, &[shown.contact[1].seal.clone()]).await.unwrap();
    assert_eq!(erase(journal, one, None).await.unwrap().state.count(), 1);
    assert_eq!(contacts(journal, &shown).await, ["Ana Müller, +33 1 23", ""]);
    let rest = what(journal, "a", mine, &[]).await.unwrap();
    assert_eq!(erase(journal, rest, None).await.unwrap().state.count(), 1);
    assert_eq!(contacts(journal, &shown).await, ["", ""]);
    assert_eq!(contacts(journal, &theirs).await, ["Cy"]);

    let openings = journal.openings(office("a").id).await.unwrap();
    assert_eq!(openings.iter().map(|one| one.value.as_slice()).collect::<Vec<_>>(), [b"Cy"]);
    let history = journal.history(office("a").id, 0, 10).await.unwrap();
    let signed: Vec<_> = history.iter().map(|change| change.signed.clone()).collect();
    assert!(envelope::verify_chain(&signed, |_| Some(f.node.verifying())).is_ok(), "the history still verifies");
    let mut long = OfficeResource { contact: vec![contact(&"x".repeat(10_001))], ..Default::default() };
    assert!(seal_texts(&mut long).is_err());
}

async fn pl_7_an_erasure_is_on_record(f: Fixture) {
    let (journal, mine) = (&f.journal, steward().tenant);
    let shown = put(journal, "a", mine, &["Ana Müller"]).await;
    let once = |n| request(n, 1);
    let all = what(journal, "a", mine, &[]).await.unwrap();
    assert!(all.public_seals.is_empty(), "an office is not public");
    let first = erase(journal, all.clone(), once(1)).await.unwrap();
    let none = what(journal, "a", mine, &[]).await.unwrap();
    let again = erase(journal, none.clone(), once(1)).await.unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!((&again.name, again.state.count()), (&first.name, 1), "a retry receives the first answer");
    assert!(erase(journal, none.clone(), once(2)).await.is_none());
    put(journal, "a", mine, &["Bo"]).await;
    let later = what(journal, "a", mine, &[]).await.unwrap();
    assert!(erase(journal, later, once(2)).await.is_none(), "a retry also repeats an answer that erased nothing");

    journal.number_feed().await.unwrap();
    let feed = journal.feed(mine, 0, 100).await.unwrap();
    let erasures: Vec<_> = feed.iter().filter(|entry| entry.change.envelope.record.starts_with("erasures/")).collect();
    assert_eq!(erasures.len(), 1);
    let told = TextsErased::decode(erasures[0].change.envelope.payload.as_slice()).unwrap();
    assert_eq!((&told.record, &told.seals), (&office("a").to_string(), &vec![shown.contact[0].seal.clone()]));
    assert!(!String::from_utf8_lossy(&erasures[0].change.signed.envelope).contains("Ana"));
    assert!(journal.feed(tenant(9), 0, 100).await.unwrap().is_empty(), "tenants outside the audience learn nothing");
    let clean = journal.rebuild(|_| ()).await.unwrap();
    assert_eq!((clean.differing.len(), clean.broken.len(), clean.erased), (0, 0, 0));
}

async fn pl_7_everyone_hears_of_what_everyone_could_see(f: Fixture) {
    let (journal, mine) = (&f.journal, steward().tenant);
    journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let mut term = MayorTerm {
        person_name: vec![contact("Ana Müller")],
        start_date: Some(hansa_kernel::time::date(fixture::start().date_naive())),
        ..Default::default()
    };
    let seals = seal_texts(&mut term).unwrap();
    let recorded = MayorTermRecorded { term: Some(term.clone()), ..Default::default() };
    let command = Command::new(name("a"), author(&steward()), move |_: Option<&City>, _| emit(recorded.clone()));
    journal.submit(command.sealed(seals, [0; 32]), false).await.unwrap();
    let all = journal.erasable(&name("a"), mine, &[]).await.unwrap();
    assert_eq!((&all.seals, &all.public_seals), (&vec![term.person_name[0].seal.clone()], &all.seals));
    let erasure = erase(journal, all, None).await.unwrap();
    journal.number_feed().await.unwrap();
    let feed = journal.feed(tenant(99), 0, 100).await.unwrap();
    let told = feed.iter().find(|entry| entry.change.envelope.record == erasure.name.as_str()).unwrap();
    let (payload_type, payload) = (&told.change.envelope.payload_type, &told.change.envelope.payload);
    let Disclosed::Part(part) = journal.disclosed("erasures", payload_type, payload) else {
        panic!("a part is disclosed")
    };
    let part = TextsErased::decode(part.as_slice()).unwrap();
    assert_eq!((part.record.as_str(), part.public_seals.len()), (name("a").as_str(), 1));
    assert!(part.tenant.is_empty() && part.seals.is_empty() && part.audience.is_none());
}

async fn pl_7_a_text_of_two_records_is_kept_once(f: Fixture) {
    let (journal, mine) = (&f.journal, steward().tenant);
    let (first, shown, one) = write("a", mine, &["Ana Müller"]);
    let (second, other, two) = write("b", mine, &["Bo"]);
    let values = [("Ana Müller", &shown), ("Bo", &other)];
    // As a command handler does: every command of a request carries the seals of the whole request.
    let seals = [one, two].concat();
    let (first, second) = (first.sealed(seals.clone(), [0; 32]), second.sealed(seals, [0; 32]));
    journal.submit_atomically(first, vec![second.into()], false).await.unwrap();
    for (key, (value, shown)) in ["a", "b"].into_iter().zip(values) {
        assert_eq!(contacts(journal, shown).await, [value]);
        let openings = journal.openings(office(key).id).await.unwrap();
        assert_eq!(openings.len(), 1, "each text is stored with the record whose change contains its seal");
        assert_eq!(openings[0].value, value.as_bytes());
    }
}

async fn pl_8_what_a_restore_brings_back_is_erased_again(f: Fixture) {
    let (journal, mine) = (&f.journal, steward().tenant);
    let shown = put(journal, "a", mine, &["Ana Müller"]).await;
    let all = what(journal, "a", mine, &[]).await.unwrap();
    erase(journal, all, None).await.unwrap();
    put(journal, "a", mine, &["Bo"]).await;
    let restore = "UPDATE seals SET erased_at = NULL, value = salt WHERE erased_at IS NOT NULL";
    journal.store().reader().execute_unprepared(restore).await.unwrap();
    assert_eq!(journal.rebuild(|_| ()).await.unwrap().erased, 1);
    assert_eq!(contacts(journal, &shown).await, [""]);
    assert_eq!(journal.openings(office("a").id).await.unwrap().len(), 1, "texts that were not erased remain");
    assert_eq!(journal.rebuild(|_| ()).await.unwrap().erased, 0);
}

/// Returns whether any file of a folder contains the text.
fn holds(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pl_7_what_is_erased_is_in_no_file_any_more() {
    let f = Fixture::sqlite().await;
    let (journal, folder) = (&f.journal, f.folder().unwrap());
    let mine = steward().tenant;
    // Texts of many lengths: some share a page, some force page splits, some need overflow pages.
    for n in 0..60 {
        let texts: Vec<String> =
            (0..5).map(|i| format!("xERASEMEx {n} {}", "y".repeat((n * i * 37) % 9_000))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        put(journal, &format!("c{n}"), mine, &texts).await;
        put(journal, &format!("c{n}"), tenant(9), &["xKEEPMEx"]).await;
    }
    assert!(holds(folder, "xERASEMEx") && holds(folder, "xKEEPMEx"));
    for n in 0..60 {
        let all = what(journal, &format!("c{n}"), mine, &[]).await.unwrap();
        assert_eq!(erase(journal, all, None).await.unwrap().state.count(), 5);
    }
    // The texts must be gone immediately, while the journal is open and its write-ahead log is in use.
    assert!(!holds(folder, "xERASEMEx"));
    assert!(holds(folder, "xKEEPMEx"));
}
