//! The node's key, which signs every change.

use ed25519_dalek::{SigningKey, VerifyingKey};
use hansa_kernel::{TenantId, envelope};
use std::{fs, io, io::Write, path::Path};
use zeroize::Zeroizing;

/// The keys of a node. The node's name derives from its public key.
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
    /// Derives the keys from a secret of 32 bytes.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret);
        let name = format!("nodes/{}", TenantId::from_key(key.verifying_key().as_bytes()));
        Self { name, key }
    }

    /// Reads the key from a file (64 hex digits). If there is no file, generates a key and writes it with mode 0600.
    ///
    /// # Errors
    /// If the file cannot be read or written, or does not contain a key.
    pub fn open(file: &Path) -> io::Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} does not contain a key of 64 hex digits", file.display()),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(file),
            Err(error) => Err(error),
        }
    }

    /// Parses 64 hex digits.
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

    /// Returns the resource name `nodes/{node}`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the private key.
    #[must_use]
    pub fn signing(&self) -> &SigningKey {
        &self.key
    }

    /// Returns the public key.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// Returns the public key in hex. Others need it, through another channel, to verify exports.
    #[must_use]
    pub fn public_hex(&self) -> String {
        hex::encode(self.verifying().as_bytes())
    }

    /// Returns the name of the key in signatures.
    #[must_use]
    pub fn key_name(&self) -> String {
        format!("{}/keys/{}", self.name, envelope::fingerprint(&self.verifying()))
    }

    /// Derives a secret for one purpose. It reveals nothing about the key.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        hansa_kernel::seal::seal(purpose.as_bytes(), self.key.to_bytes()).seal
    }

    /// Returns the tenant of the node itself: the secretariat or municipality that operates it.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        TenantId::from_key(self.verifying().as_bytes())
    }
}

/// Returns bytes from the operating system's random generator.
///
/// # Panics
/// If the operating system has no random generator.
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
