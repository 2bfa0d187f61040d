//! The envelope of a change: canonical bytes, hash chain, signatures. The journal writes it, `verify` reads it.

use ed25519_dalek::{Signature as Ed25519Signature, Signer, SigningKey, VerifyingKey};
use hansa_proto::types::{ChangeEnvelope, HashAlgorithm, Signature, SignatureAlgorithm, SignedChange};
use prost::Message;
use sha2::{Digest, Sha256};

/// The version of the envelope layout that this program writes.
pub const FORMAT: i32 = 1;
/// The payload type that every signature covers.
pub const PAYLOAD_TYPE: &str = "application/vnd.hansa.change.v1+protobuf";

/// Returns the SHA-256 hash of bytes.
#[must_use]
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Returns the fingerprint that names a public key: the SHA-256 hash of the key in lower-case hex.
#[must_use]
pub fn fingerprint(key: &VerifyingKey) -> String {
    hex::encode(hash(key.as_bytes()))
}

/// Returns DSSE's pre-authentication encoding. It binds a signature to its payload type.
fn pre_authentication(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// Signs a body of a payload type. `holder` is the key's owner, `nodes/{node}` or `tenants/{tenant}`.
#[must_use]
pub fn sign(payload_type: &str, body: &[u8], holder: &str, key: &SigningKey) -> Signature {
    Signature {
        key: format!("{holder}/keys/{}", fingerprint(&key.verifying_key())),
        algorithm: SignatureAlgorithm::Ed25519 as i32,
        value: key.sign(&pre_authentication(payload_type, body)).to_bytes().to_vec(),
    }
}

/// Whether this key made the signature over the body. The check is strict: it rejects weak keys and accepts one
/// encoding per signature.
#[must_use]
pub fn signed_by(payload_type: &str, body: &[u8], signature: &Signature, key: &VerifyingKey) -> bool {
    signature.algorithm == SignatureAlgorithm::Ed25519 as i32
        && signature.key.rsplit('/').next() == Some(fingerprint(key).as_str())
        && Ed25519Signature::from_slice(&signature.value)
            .is_ok_and(|value| key.verify_strict(&pre_authentication(payload_type, body), &value).is_ok())
}

/// Encodes an envelope to its canonical bytes and signs them with the node's key.
#[must_use]
pub fn seal(envelope: &ChangeEnvelope, node: &str, key: &SigningKey) -> SignedChange {
    let bytes = envelope.encode_to_vec();
    let signature = sign(PAYLOAD_TYPE, &bytes, node, key);
    SignedChange { envelope: bytes, signatures: vec![signature] }
}

/// A defect in a record's history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The bytes are not an envelope, or its format or hash algorithm is not accepted.
    #[error("change {0} cannot be read: {1}")]
    Unreadable(u64, String),
    /// The change belongs to another record, or does not follow the change before it.
    #[error("change {0} does not follow the one before it: {1}")]
    Chain(u64, String),
    /// The change has no accepted signature of the node that claims authority.
    #[error("change {0} is not signed by its authority")]
    Unsigned(u64),
}

/// Returns the version of a change: its number in the record's history, from 1. 0 stands for a malformed version.
#[must_use]
pub fn version(envelope: &ChangeEnvelope) -> u64 {
    u64::try_from(envelope.version).unwrap_or(0)
}

/// Returns a version as the contract's type. A record has far fewer changes than that type can count.
#[must_use]
pub fn wire_version(version: u64) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}

/// Checks a whole history, oldest change first: format, order, hash chain, and the authority's signature. `key_of`
/// returns the key that a signature names; a signature whose key it does not know does not count. Returns the
/// envelopes.
///
/// # Errors
/// The first defect that it finds.
pub fn verify_chain(
    changes: &[SignedChange],
    key_of: impl Fn(&str) -> Option<VerifyingKey>,
) -> Result<Vec<ChangeEnvelope>, Broken> {
    let mut envelopes: Vec<ChangeEnvelope> = Vec::with_capacity(changes.len());
    let mut previous_hash = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let expected = index as u64 + 1;
        let envelope = read(expected, &change.envelope)?;
        if version(&envelope) != expected {
            return Err(Broken::Chain(expected, format!("its version is {}", envelope.version)));
        }
        if envelope.previous_hash != previous_hash {
            return Err(Broken::Chain(expected, "it names another predecessor".into()));
        }
        if envelopes.first().is_some_and(|first| first.record != envelope.record) {
            return Err(Broken::Chain(expected, "it belongs to another record".into()));
        }
        let signed = change.signatures.iter().any(|signature| {
            signature.key.starts_with(&format!("{}/keys/", envelope.authority))
                && key_of(&signature.key).is_some_and(|key| signed_by(PAYLOAD_TYPE, &change.envelope, signature, &key))
        });
        if !signed {
            return Err(Broken::Unsigned(expected));
        }
        previous_hash = hash(&change.envelope).to_vec();
        envelopes.push(envelope);
    }
    Ok(envelopes)
}

fn read(version: u64, bytes: &[u8]) -> Result<ChangeEnvelope, Broken> {
    let envelope = ChangeEnvelope::decode(bytes).map_err(|e| Broken::Unreadable(version, e.to_string()))?;
    if envelope.format != FORMAT {
        return Err(Broken::Unreadable(version, format!("format {} is unknown", envelope.format)));
    }
    if envelope.hash_algorithm != HashAlgorithm::Sha256 as i32 {
        return Err(Broken::Unreadable(version, "its hash algorithm is not accepted".into()));
    }
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "nodes/a";

    fn history(key: &SigningKey, length: u64) -> Vec<SignedChange> {
        let mut previous_hash = Vec::new();
        (1..=length)
            .map(|version| {
                let envelope = ChangeEnvelope {
                    format: FORMAT,
                    hash_algorithm: HashAlgorithm::Sha256 as i32,
                    record: "agreements/x".into(),
                    authority: NODE.into(),
                    version: wire_version(version),
                    previous_hash: std::mem::take(&mut previous_hash),
                    payload: vec![version as u8; 3],
                    ..Default::default()
                };
                let change = seal(&envelope, NODE, key);
                previous_hash = hash(&change.envelope).to_vec();
                change
            })
            .collect()
    }

    fn verify(changes: &[SignedChange], key: &SigningKey) -> Result<usize, Broken> {
        let public = key.verifying_key();
        verify_chain(changes, |name| name.ends_with(&fingerprint(&public)).then_some(public)).map(|e| e.len())
    }

    #[test]
    fn a_history_verifies_and_every_tampering_is_found() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let good = history(&key, 4);
        assert_eq!(verify(&good, &key), Ok(4));
        assert_eq!(verify(&good[1..], &key), Err(Broken::Chain(1, "its version is 2".into())));
        for at in 0..4 {
            for byte in 0..good[at].envelope.len() {
                let mut bad = good.clone();
                bad[at].envelope[byte] ^= 1;
                assert!(verify(&bad, &key).is_err(), "change {at}, byte {byte}");
            }
            let mut bad = good.clone();
            bad[at].signatures[0].value[5] ^= 1;
            assert_eq!(verify(&bad, &key), Err(Broken::Unsigned(at as u64 + 1)));
        }
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert!(verify(&swapped, &key).is_err());
    }

    #[test]
    fn a_foreign_key_or_type_does_not_sign() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        assert_eq!(verify(&history(&other, 2), &key), Err(Broken::Unsigned(1)));
        let signature = sign("a", b"body", NODE, &key);
        assert!(signed_by("a", b"body", &signature, &key.verifying_key()));
        assert!(!signed_by("b", b"body", &signature, &key.verifying_key()));
        assert!(!signed_by("a", b"body", &signature, &other.verifying_key()));
        let unknown = Signature { algorithm: 7, ..signature };
        assert!(!signed_by("a", b"body", &unknown, &key.verifying_key()));
    }
}
