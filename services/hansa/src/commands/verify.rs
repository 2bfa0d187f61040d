//! `hansa verify`: checks an exported document offline, and prints what it proves and at which level (AG-12, AG-4).

use crate::output;
use anyhow::{Context, bail};
use ed25519_dalek::VerifyingKey;
use hansa_chassis::{policy::CONTRACT, role::role_name};
use hansa_kernel::{AssuranceLevel, Record, RecordName, Role, Stamp, TenantId, envelope, seal, time};
use hansa_partnerships_domain::agreement::Agreement;
use hansa_proto::{
    ChangeSet,
    partnerships::AgreementDocument,
    types::{ChangeEnvelope, SignatureAlgorithm},
};
use prost::{Message, Name};
use prost_reflect::DynamicMessage;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Maximum size of a document, in bytes.
const DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Checks a document.
///
/// # Errors
/// If a check fails: signatures, hash chain, seals, the shown agreement, or the key in `key`.
pub fn run(file: &Path, key: Option<&str>, json: bool) -> anyhow::Result<()> {
    let document = read(file)?;
    let keys = keys(&document)?;
    let envelopes = envelope::verify_chain(&document.changes, |name| keys.get(name).copied())?;
    let first = envelopes.first().context("the document holds no changes")?;
    if envelopes.iter().any(|envelope| envelope.authority != first.authority) {
        bail!("the changes are from different nodes");
    }
    if let Some(expected) = key {
        // Verify with this key only: the document could contain further keys, which prove nothing.
        let told =
            |name: &str| keys.get(name).copied().filter(|key| hex::encode(key.as_bytes()) == expected.to_lowercase());
        if envelope::verify_chain(&document.changes, told).is_err() {
            bail!("the document is signed with another key than the one in --key");
        }
    }
    let agreement = fold(&envelopes)?;
    let name = RecordName::parse_any(&first.record, "record")?;
    let head = document.changes.last().map(|last| hex::encode(envelope::hash(&last.envelope))).unwrap_or_default();
    shown(&document, &agreement, &name, &head)?;
    let openings = openings(&document, &envelopes)?;
    if json {
        return output::print_json(&serde_json::json!({
            "record": first.record, "changes": envelopes.len(), "head": head, "authority": first.authority,
            "openings": openings, "levels": envelopes.iter().map(|e| e.assurance_level().as_str_name()).collect::<Vec<_>>(),
        }));
    }
    println!("{} holds together.", first.record);
    println!("{} changes, each with the hash of the one before it; the head is {head}.", envelopes.len());
    println!("All are signed by {}, whose name is the hash of its key.", first.authority);
    println!("{openings} texts of the document match their seals; other texts were erased or are not shown.");
    println!("{}", output::table(&["", "what", "who", "bound", "what it proves"], envelopes.iter().map(row)));
    if key.is_none() {
        println!("Compare the node's key with one that you received through another channel: --key HEX.");
    }
    println!("An agreement of cities records commitment. It is not legally binding (AG-2).");
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<AgreementDocument> {
    let size = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    if size > DOCUMENT_BYTES {
        bail!("{} is larger than {DOCUMENT_BYTES} bytes", file.display());
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("{} is not a text file", file.display()))?;
    let descriptor =
        CONTRACT.get_message_by_name(&AgreementDocument::full_name()).context("the contract defines no documents")?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let dynamic = DynamicMessage::deserialize(descriptor, &mut json).context("the file is not an exported document")?;
    Ok(AgreementDocument::decode(dynamic.encode_to_vec().as_slice())?)
}

/// Returns the keys of the document by name. The name of each key, and of its holder, must match the key's bytes.
fn keys(document: &AgreementDocument) -> anyhow::Result<BTreeMap<String, VerifyingKey>> {
    let mut keys = BTreeMap::new();
    for key in &document.keys {
        let bytes: [u8; 32] = key.value.as_slice().try_into().context("a key does not have 32 bytes")?;
        let public = VerifyingKey::from_bytes(&bytes).context("a key is not a valid Ed25519 key")?;
        if key.algorithm() != SignatureAlgorithm::Ed25519 {
            bail!("the key {} has an algorithm that is not supported", key.name);
        }
        let (holder, fingerprint) = key.name.split_once("/keys/").context("the name of a key lacks its holder")?;
        let id = TenantId::from_key(&bytes);
        let belongs = holder == format!("nodes/{id}") || holder == id.name();
        if !belongs || fingerprint != envelope::fingerprint(&public) {
            bail!("the name of the key {} does not match the key", key.name);
        }
        keys.insert(key.name.clone(), public);
    }
    Ok(keys)
}

fn stamp(envelope: &ChangeEnvelope) -> anyhow::Result<Stamp> {
    Ok(Stamp {
        version: envelope::version(envelope),
        at: time::instant("claim_time", envelope.claim_time.as_ref())?,
        actor: envelope.actor.clone().unwrap_or_default(),
        party: TenantId::parse(&envelope.on_behalf_of, "on_behalf_of").ok(),
        level: envelope.assurance_level(),
    })
}

fn decoded(envelope: &ChangeEnvelope) -> anyhow::Result<<Agreement as Record>::Change> {
    let change = <Agreement as Record>::Change::decode(&envelope.payload_type, &envelope.payload)?;
    change.with_context(|| format!("{} is not a change of an agreement", envelope.payload_type))
}

fn fold(envelopes: &[ChangeEnvelope]) -> anyhow::Result<Agreement> {
    let mut state: Option<Agreement> = None;
    for envelope in envelopes {
        state = Some(Agreement::fold(state, &decoded(envelope)?, &stamp(envelope)?)?);
    }
    state.context("the document holds no changes")
}

/// Checks that the agreement in the document equals the state that its changes fold to. It ignores texts, which
/// `openings` checks by their seals.
fn shown(document: &AgreementDocument, agreement: &Agreement, name: &RecordName, head: &str) -> anyhow::Result<()> {
    let mut shown = document.agreement.clone().unwrap_or_default();
    hansa_proto::Texts::visit_texts(&mut shown, &mut |text| text.text.clear());
    if shown != agreement.resource(name, head) {
        bail!("the agreement in the document differs from the state that its changes fold to");
    }
    Ok(())
}

/// Returns the seals of all texts in the changes.
fn seals(envelopes: &[ChangeEnvelope]) -> anyhow::Result<BTreeSet<Vec<u8>>> {
    let mut seals = BTreeSet::new();
    for envelope in envelopes {
        let mut change = decoded(envelope)?;
        hansa_proto::Texts::visit_texts(&mut change, &mut |text| seals.extend([text.seal.clone()]));
    }
    Ok(seals)
}

/// Checks that each shown text matches a seal in the changes, and returns the number of texts. Otherwise a document
/// could show a text that its changes never contained.
fn openings(document: &AgreementDocument, envelopes: &[ChangeEnvelope]) -> anyhow::Result<usize> {
    let standing = seals(envelopes)?;
    let mut texts: BTreeMap<&[u8], &str> = BTreeMap::new();
    for opening in &document.openings {
        let salt = opening.salt.as_slice().try_into().context("a salt does not have 32 bytes")?;
        if !seal::opens(&opening.seal, &salt, opening.text.as_bytes()) {
            bail!("a text does not match its seal");
        }
        if !standing.contains(&opening.seal) {
            bail!("the seal of a shown text is in none of the changes");
        }
        if texts.contains_key(opening.seal.as_slice()) {
            bail!("a text is shown twice");
        }
        texts.insert(&opening.seal, &opening.text);
    }
    let mut agreement = document.agreement.clone().unwrap_or_default();
    let mut wrong = 0;
    hansa_proto::Texts::visit_texts(&mut agreement, &mut |text| {
        if !text.text.is_empty() && texts.get(text.seal.as_slice()) != Some(&text.text.as_str()) {
            wrong += 1;
        }
    });
    if wrong > 0 {
        bail!("{wrong} texts of the shown agreement have no seal in the changes");
    }
    Ok(texts.len())
}

fn row(envelope: &ChangeEnvelope) -> Vec<String> {
    let actor = envelope.actor.clone().unwrap_or_default();
    let role = Role::try_from(actor.role).unwrap_or_default();
    let proves = match envelope.assurance_level() {
        AssuranceLevel::Attested => "another party attests it with a document",
        AssuranceLevel::Recorded => "the party's clerk records an act on paper",
        AssuranceLevel::Host if actor.person.is_empty() => "the node did it when it was due",
        AssuranceLevel::Host => "the node says so; it holds the party's key",
        AssuranceLevel::Tenant => "the party signed with a key that it alone holds",
        AssuranceLevel::Person => "the person signed",
        AssuranceLevel::Qualified => "the person signed with a qualified certificate",
        AssuranceLevel::Unspecified => "nothing",
    };
    let who = if actor.person.is_empty() { "the platform".to_owned() } else { role_name(role) };
    let what = envelope.payload_type.rsplit('.').next().unwrap_or_default().to_owned();
    vec![envelope.version.to_string(), what, who, envelope.on_behalf_of.clone(), proves.to_owned()]
}
