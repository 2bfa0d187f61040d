//! The key set (JWKS, RFC 7517) of an accepted issuer.

use crate::limits::{ISSUER_KEYS, RSA_BITS};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The accepted signature algorithms. The list is fixed; neither a token nor a key set can extend it.
pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256];

/// The keys of an issuer that are suitable for verifying tokens.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Jwk>);

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a key set. Keys for encryption or of other types are ignored.
    ///
    /// # Errors
    /// If the JSON is not a key set.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let Keys { keys } = serde_json::from_slice(json)?;
        let read = keys.into_iter().take(ISSUER_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Ok(Self(read.filter(|key| ALGORITHMS.into_iter().any(|algorithm| fits(key, algorithm))).collect()))
    }

    /// Returns the key with this id, if it is suitable for the algorithm in the token's header.
    #[must_use]
    pub fn find(&self, kid: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut named = self.0.iter().filter(|key| key.common.key_id.as_deref() == Some(kid));
        DecodingKey::from_jwk(named.find(|key| fits(key, algorithm))?).ok()
    }
}

/// Returns whether a key is suitable for an algorithm, by its type, its use and its own algorithm. A public key can thus never be used
/// as the secret of an HMAC.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let (said, kind) = match (algorithm, &key.algorithm) {
        (Algorithm::RS256, AlgorithmParameters::RSA(rsa)) => {
            let bytes = URL_SAFE_NO_PAD.decode(&rsa.n).map_or(0, |n| n.iter().skip_while(|byte| **byte == 0).count());
            (KeyAlgorithm::RS256, RSA_BITS.contains(&(bytes * 8)))
        }
        (Algorithm::ES256, AlgorithmParameters::EllipticCurve(curve)) => {
            (KeyAlgorithm::ES256, curve.curve == EllipticCurve::P256)
        }
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(pair)) => {
            (KeyAlgorithm::EdDSA, pair.curve == EllipticCurve::Ed25519)
        }
        _ => return false,
    };
    let signs = key.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    kind && signs && key.common.key_algorithm.is_none_or(|own| own == said)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_fits_one_algorithm_and_unsuitable_keys_are_ignored() {
        let x = URL_SAFE_NO_PAD.encode([9; 32]);
        let big = URL_SAFE_NO_PAD.encode([255; 256]);
        let small = URL_SAFE_NO_PAD.encode([255; 128]);
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": x, "alg": "ES256"},
            {"kty": "EC", "crv": "P-384", "kid": "p384", "x": x, "y": x},
            {"kty": "RSA", "kid": "rsa", "n": big, "e": "AQAB", "use": "sig"},
            {"kty": "RSA", "kid": "small", "n": small, "e": "AQAB"},
            {"kty": "RSA", "kid": "enc", "n": big, "e": "AQAB", "use": "enc", "alg": "RSA-OAEP"},
            {"kty": "RSA", "kid": "other", "n": big, "e": "AQAB", "alg": "RS512"},
            {"kty": "oct", "kid": "secret", "k": x},
            {"kty": "new", "kid": "new"}, {"kid": 7}, "x",
        ]});
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(set.0.len(), 3);
        for (kid, own) in [("ed", Algorithm::EdDSA), ("ec", Algorithm::ES256), ("rsa", Algorithm::RS256)] {
            for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256, Algorithm::HS256, Algorithm::RS512]
            {
                assert_eq!(set.find(kid, algorithm).is_some(), algorithm == own, "{kid} {algorithm:?}");
            }
        }
        assert!(KeySet::parse(b"[]").is_err());
    }
}
