//! The document of an agreement, to be checked without the platform: AG-12.

use hansa_journal::{Journal, Loaded, NodeKeys};
use hansa_kernel::{RecordId, Refused, limits::RECORD_CHANGES, seal::Sealed};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::{
    partnerships::{self as proto, AgreementDocument, PublicKey, TextOpening},
    types::{SignatureAlgorithm, SignedChange},
};

/// Changes that are read at once.
const CHANGES_A_PAGE: u64 = 1_000;

/// Everything of the document but the agreement itself, whose texts the caller resolves.
///
/// # Errors
/// Where the database is away.
pub async fn document(
    journal: &Journal,
    loaded: &Loaded<Agreement>,
    agreement: proto::Agreement,
) -> Refused<AgreementDocument> {
    let id = loaded.name.id;
    let openings = journal.openings(id).await?;
    Ok(AgreementDocument {
        agreement: Some(agreement),
        changes: history(journal, id, loaded.version).await?,
        openings: openings.iter().map(opening).collect(),
        keys: vec![public_key(journal.node())],
    })
}

/// The changes up to a version: the document tells of one state, whatever happens meanwhile.
async fn history(journal: &Journal, id: RecordId, version: u64) -> Refused<Vec<SignedChange>> {
    let last = version.min(RECORD_CHANGES);
    let mut changes = Vec::new();
    let mut after = 0;
    while after < last {
        let page = journal.history(id, after, CHANGES_A_PAGE.min(last - after)).await?;
        if page.is_empty() {
            break;
        }
        after += page.len() as u64;
        changes.extend(page.into_iter().map(|change| change.signed));
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
