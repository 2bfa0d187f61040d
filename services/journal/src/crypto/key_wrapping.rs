//! Key wrapping: the node encrypts the keys of its tenants under its own key. A database without the node's key reveals none.

use crate::crypto::node_key::{NodeKeys, random_bytes};
use ed25519_dalek::SigningKey;
use hansa_kernel::TenantId;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

impl NodeKeys {
    /// Wraps a tenant's key. The result is a random nonce, the encrypted secret, and a tag that authenticates secret and tenant.
    ///
    /// # Panics
    /// Never; a key of 32 bytes can always be encrypted.
    #[must_use]
    pub fn wrap(&self, tenant: TenantId, key: &SigningKey) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut secret = Zeroizing::new(key.to_bytes().to_vec());
        let tag = self
            .wrapping_key(tenant)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(tenant.0.as_bytes()),
                &mut secret,
            )
            .expect("32 bytes can be encrypted");
        [&nonce[..], &secret[..], tag.as_ref()].concat()
    }

    /// Unwraps a key. Returns `None` if it was wrapped by another node or for another tenant, or was altered.
    #[must_use]
    pub fn unwrap(&self, tenant: TenantId, wrapped: &[u8]) -> Option<SigningKey> {
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let aad = Aad::from(tenant.0.as_bytes());
        let secret =
            self.wrapping_key(tenant).open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed).ok()?;
        Some(SigningKey::from_bytes((&*secret).try_into().ok()?))
    }

    /// Derives the wrapping key of a tenant. With one key per tenant, few nonces are drawn per key.
    fn wrapping_key(&self, tenant: TenantId) -> LessSafeKey {
        let secret = Zeroizing::new(self.derive(&format!("wrapping of keys of {}", tenant.name())));
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*secret).expect("a key of 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wrapped_key_opens_for_its_node_and_tenant_alone() {
        let [node, other] = [1, 2].map(|n| NodeKeys::from_secret(&[n; 32]));
        let [tenant, stranger] = [3, 4].map(|n| TenantId::from_key(&[n; 32]));
        let key = SigningKey::from_bytes(&[5; 32]);
        let wrapped = node.wrap(tenant, &key);
        assert_eq!(node.unwrap(tenant, &wrapped).unwrap().to_bytes(), key.to_bytes());
        assert_ne!(node.wrap(tenant, &key), wrapped, "each wrapping has a new nonce");
        assert!(!wrapped.windows(8).any(|part| part == [5; 8]), "the secret is encrypted");
        assert!(other.unwrap(tenant, &wrapped).is_none() && node.unwrap(stranger, &wrapped).is_none());
        for at in 0..wrapped.len() {
            let mut altered = wrapped.clone();
            altered[at] ^= 1;
            assert!(node.unwrap(tenant, &altered).is_none(), "byte {at}");
        }
        assert!(node.unwrap(tenant, &wrapped[..5]).is_none() && node.unwrap(tenant, &[]).is_none());
    }
}
