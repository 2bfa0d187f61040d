//! Seals: keyed hashes that replace personal data and free text in a change (PL-7).
//!
//! The value and its salt are kept in an erasable store. Once both are erased, the changes reveal nothing about the
//! value and still verify.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a salt and of a seal, in bytes.
pub const SEAL_BYTES: usize = 32;

/// A value to store outside the change, with the seal that replaces it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The seal, which the change contains.
    pub seal: [u8; SEAL_BYTES],
    /// The random salt, unique per value.
    pub salt: [u8; SEAL_BYTES],
    /// The value.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").finish_non_exhaustive()
    }
}

/// Seals a value under a salt: HMAC-SHA256 with the salt as its key.
#[must_use]
pub fn seal(value: &[u8], salt: [u8; SEAL_BYTES]) -> Sealed {
    Sealed { seal: mac(value, &salt).finalize().into_bytes().into(), salt, value: value.to_vec() }
}

/// Checks in constant time whether the seal belongs to this value and salt.
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
