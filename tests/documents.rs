//! Exported agreements (AG-12): an exported document verifies, and a document with any part changed does not.
#![allow(clippy::unwrap_used, missing_docs)]

use base64::{Engine, engine::general_purpose::STANDARD};
use hansa_journal::NodeKeys;
use hansa_kernel::{
    envelope,
    seal::{self, SEAL_BYTES},
};
use hansa_proto::types::ChangeEnvelope;
use hansa_tests::{Platform, Shape, world::World};
use prost_reflect::prost::Message;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// Number of verifications that run in parallel.
const AT_ONCE: usize = 4;

/// An exported document with the key of the node that made the document.
struct Exported {
    folder: tempfile::TempDir,
    document: Value,
    key: String,
}

impl Exported {
    async fn of_an_agreement_in_force() -> Self {
        let mut platform = Platform::start(HANSA, Shape::Embedded).await;
        let world = World::on(&platform).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agreement.json");
        let (server, token) =
            (format!("http://{}", platform.address()), platform.token_for(Some(&world.a.tenant), "observer", &[]));
        let export = |agreement: &str, token: &str| {
            let to = file.to_str().unwrap();
            let arguments = ["export", agreement, "--server", &server, "--token", token, "--output", to];
            platform.hansa(&arguments).output().unwrap()
        };
        let stranger = platform.token_for(Some(&world.c.tenant), "mayor", &[]);
        for (agreement, token) in [(&world.proposed, &token), (&world.proposed, &stranger), (&world.active, &stranger)]
        {
            assert_eq!(
                export(agreement, token).status.code(),
                Some(3),
                "AG-12: only parties may export, and only a signed agreement"
            );
            assert!(!file.exists(), "a refused export wrote a file");
        }
        let exported = export(&world.active, &token);
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        platform.stop();
        let keys = NodeKeys::open(&platform.data().join("node.key")).unwrap();
        let document = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        Self { folder, document, key: hex::encode(keys.verifying().as_bytes()) }
    }

    fn write(&self, document: &Value) -> PathBuf {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let file = self.folder.path().join(format!("{}.json", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&file, document.to_string()).unwrap();
        file
    }

    fn verifies(&self, document: &Value, key: &str) -> Output {
        verify(&self.write(document), &["--key", key])
    }

    /// Checks that each document is refused, even without a key to compare with. Returns the number of documents.
    fn all_refused(&self, tampered: Vec<(String, Value)>) -> usize {
        let files: Vec<(String, PathBuf)> =
            tampered.into_iter().map(|(what, document)| (what, self.write(&document))).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((what, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let output = verify(file, &[]);
                        let said = String::from_utf8_lossy(&output.stderr).into_owned();
                        assert!(output.status.code() == Some(1) && said.starts_with("hansa: "), "{what}: {output:?}");
                        assert!(output.stdout.is_empty(), "{what}: a refused document is reported as valid");
                    }
                });
            }
        });
        files.len()
    }
}

fn verify(file: &Path, more: &[&str]) -> Output {
    Command::new(HANSA).arg("verify").arg(file).args(more).env_remove("HANSA_SERVER").output().unwrap()
}

/// Collects the path of every leaf of a document.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| leaves(inner, &format!("{at}/{name}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, inner)| leaves(inner, &format!("{at}/{n}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

/// Returns the bytes with one bit flipped at a position.
fn turned(base64: &str, place: impl Fn(usize) -> usize) -> String {
    let mut bytes = STANDARD.decode(base64).unwrap();
    let at = place(bytes.len());
    bytes[at] ^= 1;
    STANDARD.encode(bytes)
}

/// Returns a value that differs from the given one.
fn other(path: &str, value: &Value) -> Value {
    let bytes = path.ends_with("/envelope") || path.ends_with("/salt") || path.ends_with("/seal");
    match value {
        Value::Bool(yes) => json!(!yes),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(text) if bytes || path.ends_with("/value") => json!(turned(text, |length| length / 2)),
        Value::String(text) if text.starts_with("SIGNATURE_ALGORITHM") => json!("SIGNATURE_ALGORITHM_UNSPECIFIED"),
        Value::String(text) => {
            let mut letters: Vec<char> = text.chars().collect();
            let last = letters.last_mut().expect("a document contains no empty text");
            *last = if *last == '1' { '2' } else { '1' };
            json!(letters.into_iter().collect::<String>())
        }
        other => panic!("{path} is {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ag12_a_document_verifies_and_tampered_in_any_part_it_does_not() {
    let exported = Exported::of_an_agreement_in_force().await;
    let document = &exported.document;
    let well = exported.verifies(document, &exported.key);
    assert!(well.status.success(), "{}", String::from_utf8_lossy(&well.stderr));
    let said = String::from_utf8(well.stdout).unwrap();
    assert!(said.contains("not legally binding (AG-2)") && said.contains("holds together"), "{said}");
    let told = verify(&exported.write(document), &["--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let changes = document["changes"].as_array().unwrap();
    assert!(changes.len() > 10 && told["changes"] == changes.len(), "{told}");
    assert_eq!(told["openings"], document["openings"].as_array().unwrap().len());
    assert_eq!(told["record"], document["agreement"]["name"]);

    let mut tampered = Vec::new();
    let mut paths = Vec::new();
    leaves(document, "", &mut paths);
    let with = |path: &str, value: Value| {
        let mut changed = document.clone();
        *changed.pointer_mut(path).unwrap() = value;
        changed
    };
    for path in &paths {
        tampered.push((path.clone(), with(path, other(path, document.pointer(path).unwrap()))));
    }
    for (n, change) in changes.iter().enumerate() {
        let envelope = change["envelope"].as_str().unwrap();
        for place in [|_| 0, |length| length - 1] {
            let path = format!("/changes/{n}/envelope");
            tampered.push((format!("an end of {path} changed"), with(&path, json!(turned(envelope, place)))));
        }
        tampered.push((format!("no signature of change {n}"), with(&format!("/changes/{n}/signatures"), json!([]))));
        let mut rows = changes.clone();
        rows.remove(n);
        tampered.push((format!("without change {n}"), with("/changes", json!(rows))));
        let mut rows = changes.clone();
        rows.insert(n, change.clone());
        tampered.push((format!("change {n} twice"), with("/changes", json!(rows))));
        if n > 0 {
            let mut rows = changes.clone();
            rows.swap(n - 1, n);
            tampered.push((format!("change {n} swapped with the one before"), with("/changes", json!(rows))));
            let mut rows = changes.clone();
            rows[n]["signatures"] = changes[n - 1]["signatures"].clone();
            tampered.push((format!("the signature of another change on {n}"), with("/changes", json!(rows))));
        }
    }
    for field in document["agreement"].as_object().unwrap().keys() {
        let mut changed = document.clone();
        changed["agreement"].as_object_mut().unwrap().remove(field);
        tampered.push((format!("without {field}"), changed));
    }
    for part in ["agreement", "changes", "keys"] {
        let mut changed = document.clone();
        changed.as_object_mut().unwrap().remove(part);
        tampered.push((format!("without {part}"), changed));
    }
    let opening = document["openings"][0].clone();
    let salt = [5; SEAL_BYTES];
    let sealed = STANDARD.encode(seal::seal(b"never said", salt).seal);
    let never = json!({"seal": sealed, "salt": STANDARD.encode(salt), "text": "never said"});
    for (what, more) in [("a text that is not in the agreement, correctly sealed", never), ("a text twice", opening)] {
        let mut changed = document.clone();
        changed["openings"].as_array_mut().unwrap().push(more);
        tampered.push((what.into(), changed));
    }
    let mut more = document.clone();
    more["verdict"] = json!("genuine");
    tampered.push(("an unknown field".into(), more));
    let count = exported.all_refused(tampered);
    println!("{count} documents tampered with, {} of them in one leaf", paths.len());
    assert!(count > 200, "{count}");
    for (what, text) in [("cut", &document.to_string()[..5_000]), ("empty", ""), ("a list", "[]"), ("nothing", "null")]
    {
        let file = exported.folder.path().join("broken.json");
        std::fs::write(&file, text).unwrap();
        assert_eq!(verify(&file, &[]).status.code(), Some(1), "{what}");
    }
}

/// Returns the same history, hashed and signed by another node from the given change on. The document is consistent,
/// but the signatures are not those of the node.
fn forged(document: &Value, forger: &NodeKeys, from: usize) -> Value {
    let mut forged = document.clone();
    let mut previous_hash = Vec::new();
    for (n, change) in forged["changes"].as_array_mut().unwrap().iter_mut().enumerate() {
        let bytes = STANDARD.decode(change["envelope"].as_str().unwrap()).unwrap();
        if n < from {
            previous_hash = envelope::hash(&bytes).to_vec();
            continue;
        }
        let mut envelope = ChangeEnvelope::decode(bytes.as_slice()).unwrap();
        envelope.authority = forger.name().to_owned();
        envelope.previous_hash = previous_hash;
        let sealed = envelope::seal(&envelope, forger.name(), forger.signing());
        previous_hash = envelope::hash(&sealed.envelope).to_vec();
        let signature = &sealed.signatures[0];
        let signature = json!({"key": signature.key, "algorithm": "SIGNATURE_ALGORITHM_ED25519",
            "value": STANDARD.encode(&signature.value)});
        *change = json!({"envelope": STANDARD.encode(&sealed.envelope), "signatures": [signature]});
    }
    forged["agreement"]["etag"] = json!(hex::encode(&previous_hash));
    let value = STANDARD.encode(forger.verifying().as_bytes());
    forged["keys"] = json!([{"name": forger.key_name(), "algorithm": "SIGNATURE_ALGORITHM_ED25519", "value": value}]);
    forged
}

#[tokio::test(flavor = "multi_thread")]
async fn ag12_a_document_of_another_key_is_told_by_the_key() {
    let exported = Exported::of_an_agreement_in_force().await;
    let forger = NodeKeys::from_secret(&[9; 32]);
    let mut whole = forged(&exported.document, &forger, 0);
    let alone = verify(&exported.write(&whole), &[]);
    assert!(
        alone.status.success(),
        "without a key to compare with, the forged document verifies: {}",
        String::from_utf8_lossy(&alone.stderr)
    );
    let refused = |document: &Value, key: &str| {
        let output = exported.verifies(document, key);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("another key"), "{output:?}");
    };
    refused(&whole, &exported.key);
    refused(&exported.document, &hex::encode(forger.verifying().as_bytes()));
    refused(&exported.document, "");
    // The document also lists the true key, which has signed nothing.
    let genuine = &exported.document["keys"][0];
    whole["keys"].as_array_mut().unwrap().push(genuine.clone());
    refused(&whole, &exported.key);
    // A history that begins with changes of the node and continues with changes of the forger, all correctly signed.
    for from in [1, exported.document["changes"].as_array().unwrap().len() - 1] {
        let mut mixed = forged(&exported.document, &forger, from);
        mixed["keys"].as_array_mut().unwrap().push(genuine.clone());
        for key in [&["--key", &exported.key][..], &[]] {
            assert_eq!(verify(&exported.write(&mixed), key).status.code(), Some(1), "from change {from}, {key:?}");
        }
    }
}
