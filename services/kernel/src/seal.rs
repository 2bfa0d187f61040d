//! Seals: what stands in a change in place of personal data and free text (PL-7).
//!
//! Value and salt lie in an erasable store. Once both are gone, nothing in the changes tells what the value was, and the
//! changes still verify.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a salt and of a seal.
pub const SEAL_BYTES: usize = 32;

/// A value that is to be stored apart, with the seal that stands for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What stands in the change.
    pub seal: [u8; SEAL_BYTES],
    /// Random, one a value.
    pub salt: [u8; SEAL_BYTES],
    /// The value.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").finish_non_exhaustive()
    }
}

/// The seal of a value under a salt: HMAC-SHA256 with the salt as its key.
#[must_use]
pub fn seal(value: &[u8], salt: [u8; SEAL_BYTES]) -> Sealed {
    Sealed { seal: mac(value, &salt).finalize().into_bytes().into(), salt, value: value.to_vec() }
}

/// Whether the seal stands for this value, in constant time.
#[must_use]
pub fn opens(seal: &[u8], salt: &[u8; SEAL_BYTES], value: &[u8]) -> bool {
    mac(value, salt).verify_slice(seal).is_ok()
}

fn mac(value: &[u8], salt: &[u8; SEAL_BYTES]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes a key of any length").chain_update(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_for_its_value_and_salt_alone() {
        let sealed = seal("Ana Müller".as_bytes(), [7; 32]);
        assert!(opens(&sealed.seal, &[7; 32], "Ana Müller".as_bytes()));
        assert!(!opens(&sealed.seal, &[8; 32], "Ana Müller".as_bytes()));
        assert!(!opens(&sealed.seal, &[7; 32], b"Ana Muller"));
        assert!(!format!("{sealed:?}").contains("77"));
    }
}
