//! Exports an agreement as a document that anyone can verify offline (AG-12).

use hansa_journal::{Journal, Loaded, NodeKeys, PastChange};
use hansa_kernel::{Record, RecordId, Refused, limits::RECORD_CHANGES, seal::Sealed};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::{
    ChangeSet, Texts,
    partnerships::{self as proto, AgreementDocument},
    types::{ChangeEnvelope, PublicKey, SignatureAlgorithm, TextOpening},
};
use std::collections::HashSet;

/// Number of changes per database query.
const CHANGES_PER_PAGE: u64 = 1_000;

/// Builds the document of an agreement. `agreement` is the resource with its texts filled in.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn document(
    journal: &Journal,
    loaded: &Loaded<Agreement>,
    agreement: proto::Agreement,
) -> Refused<AgreementDocument> {
    let id = loaded.name.id;
    let past = history(journal, id, loaded.version).await?;
    // Only texts whose seals are in these changes are part of what was agreed.
    let used: HashSet<Vec<u8>> = past.iter().flat_map(|change| seals(&change.envelope)).collect();
    let openings = journal.openings(id).await?;
    Ok(AgreementDocument {
        agreement: Some(agreement),
        openings: openings.iter().filter(|sealed| used.contains(&sealed.seal[..])).map(opening).collect(),
        changes: past.into_iter().map(|change| change.signed).collect(),
        keys: vec![public_key(journal.node())],
    })
}

fn seals(envelope: &ChangeEnvelope) -> Vec<Vec<u8>> {
    let mut seals = Vec::new();
    if let Ok(Some(mut change)) = <Agreement as Record>::Change::decode(&envelope.payload_type, &envelope.payload) {
        change.visit_texts(&mut |text| seals.push(text.seal.clone()));
    }
    seals
}

/// Reads the changes up to a version, so that the document describes one state even if the agreement changes meanwhile.
async fn history(journal: &Journal, id: RecordId, version: u64) -> Refused<Vec<PastChange>> {
    let last = version.min(RECORD_CHANGES);
    let mut changes = Vec::new();
    let mut after = 0;
    while after < last {
        let page = journal.history(id, after, CHANGES_PER_PAGE.min(last - after)).await?;
        if page.is_empty() {
            break;
        }
        after += page.len() as u64;
        changes.extend(page);
    }
    Ok(changes)
}

fn opening(sealed: &Sealed) -> TextOpening {
    TextOpening {
        seal: sealed.seal.to_vec(),
        salt: sealed.salt.to_vec(),
        text: String::from_utf8_lossy(&sealed.value).into_owned(),
    }
}

fn public_key(node: &NodeKeys) -> PublicKey {
    PublicKey {
        name: node.key_name(),
        algorithm: SignatureAlgorithm::Ed25519 as i32,
        value: node.verifying().to_bytes().to_vec(),
    }
}
