//! The node's key: it signs every change.

use ed25519_dalek::{SigningKey, VerifyingKey};
use hansa_kernel::{TenantId, envelope};
use std::{fs, io, io::Write, path::Path};
use zeroize::Zeroizing;

/// A node's identity: its name derives from its key.
#[derive(Clone)]
pub struct NodeKeys {
    name: String,
    key: SigningKey,
}

impl std::fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKeys").field("name", &self.name).finish_non_exhaustive()
    }
}

impl NodeKeys {
    /// From the 32 bytes of a secret.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret);
        let name = format!("nodes/{}", TenantId::from_key(key.verifying_key().as_bytes()));
        Self { name, key }
    }

    /// Reads the key of a file (64 hex digits), or writes a new one that its owner alone may read.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or is no key.
    pub fn open(file: &Path) -> io::Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no key of 64 hex digits", file.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(file),
            Err(error) => Err(error),
        }
    }

    /// From 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(hex::decode(text.trim()).ok()?);
        Some(Self::from_secret(bytes.as_slice().try_into().ok()?))
    }

    fn create(file: &Path) -> io::Result<Self> {
        let secret = Zeroizing::new(random_bytes());
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(file)?;
        out.write_all(Zeroizing::new(hex::encode(*secret)).as_bytes())?;
        out.sync_all()?;
        Ok(Self::from_secret(&secret))
    }

    /// `nodes/{node}`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that signs.
    #[must_use]
    pub fn signing(&self) -> &SigningKey {
        &self.key
    }

    /// The key that verifies.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The public key in hex: what others are told by another way, to check exports with.
    #[must_use]
    pub fn public_hex(&self) -> String {
        hex::encode(self.verifying().as_bytes())
    }

    /// The name of the key, as signatures carry it.
    #[must_use]
    pub fn key_name(&self) -> String {
        format!("{}/keys/{}", self.name, envelope::fingerprint(&self.verifying()))
    }

    /// A secret of the node's own for one purpose; it tells nothing about the key.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        hansa_kernel::seal::seal(purpose.as_bytes(), self.key.to_bytes()).seal
    }

    /// The tenant of the node itself: the secretariat or municipality that runs it.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        TenantId::from_key(self.verifying().as_bytes())
    }
}

/// Bytes from the operating system's generator.
///
/// # Panics
/// Where the operating system has no randomness to give: nothing could go on safely.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has a random generator");
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_file_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.key");
        let made = NodeKeys::open(&file).unwrap();
        assert_eq!(NodeKeys::open(&file).unwrap().name(), made.name());
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
        fs::write(&file, "xyz").unwrap();
        assert!(NodeKeys::open(&file).is_err());
    }
}
