//! The configuration. Its layers, from low to high precedence: defaults, a file, `HANSA_...` variables, the command line.

use crate::issuer_address;
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The audience of the embedded issuer's tokens.
pub const AUDIENCE: &str = "hansa";

/// The configuration of a node. By default it runs embedded, in one data folder, and listens on loopback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data folder. It contains the node's key and, in the embedded shape, one database file per service.
    pub data: PathBuf,
    /// The file of the node's key. Defaults to `node.key` in the data folder. All processes of a node share one key.
    pub node_key: Option<PathBuf>,
    /// The address on which the gRPC server listens.
    pub listen: SocketAddr,
    /// The address of PostgreSQL, `postgres://...`, with one schema per service. Defaults to SQLite files.
    pub database: Option<String>,
    /// The address of NATS, `nats://...`. Required with PostgreSQL. Without it, changes travel within the process.
    pub nats: Option<String>,
    /// The number of servers of a NATS cluster that store each stream.
    pub nats_replicas: usize,
    /// Whether the server offers reflection to anyone.
    pub reflection: bool,
    /// The certificate chain of the server (PEM). Together with `tls_key` it enables TLS.
    pub tls_certificate: Option<PathBuf>,
    /// The private key of the server (PEM).
    pub tls_key: Option<PathBuf>,
    /// The certificate authorities of clients (PEM). If it is set, every client needs a certificate.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether to listen on other addresses than loopback without TLS. Tokens then travel unprotected.
    pub plaintext: bool,
    /// The log filter, such as `info,hansa_journal=debug`.
    pub log: String,
    /// Whether to log JSON.
    pub log_json: bool,
    /// The address of an OTLP collector (gRPC) for traces, metrics and logs, such as http://host:4317.
    pub otlp: Option<String>,
    /// The share of traces that are exported, from 0 to 1. If a caller sends a trace context, its sampling decision applies instead.
    pub trace_ratio: f64,
    /// Other issuers whose tokens are accepted.
    pub issuers: Vec<IssuerConfig>,
}

/// An accepted issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The name in its tokens; with OpenID Connect this is its address.
    pub issuer: String,
    /// The file with its key set (JWKS). Without a file, the keys are fetched from the address, which must be https or on this machine.
    #[serde(default)]
    pub jwks: Option<PathBuf>,
    /// The audience that its tokens must contain.
    #[serde(default = "default_audience")]
    pub audience: String,
    /// The claim that contains the tenant: a UUID or `tenants/{uuid}`. A value that starts with `/` is a JSON pointer to a nested claim.
    #[serde(default = "default_tenant_claim")]
    pub tenant_claim: String,
    /// The claim that lists the roles, such as `mayor`. It may be a JSON pointer, such as `/realm_access/roles`. Unknown roles are
    /// ignored.
    #[serde(default = "default_roles_claim")]
    pub roles_claim: String,
    /// The tenants (`tenants/{uuid}`) for which it may issue tokens; empty for all.
    #[serde(default)]
    pub tenants: Vec<String>,
}

fn default_audience() -> String {
    AUDIENCE.into()
}

fn default_tenant_claim() -> String {
    "tenant".into()
}

fn default_roles_claim() -> String {
    "roles".into()
}

impl IssuerConfig {
    /// Creates the configuration of an issuer with default values.
    #[must_use]
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.into(),
            jwks: None,
            audience: default_audience(),
            tenant_claim: default_tenant_claim(),
            roles_claim: default_roles_claim(),
            tenants: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            node_key: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            database: None,
            nats: None,
            nats_replicas: 1,
            reflection: true,
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            plaintext: false,
            log: "warn,hansa=info".into(),
            log_json: false,
            otlp: None,
            trace_ratio: 1.0,
            issuers: Vec::new(),
        }
    }
}

/// Why a configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be parsed.
    #[error("cannot read the configuration: {0}")]
    Unreadable(#[from] Box<figment::Error>),
    /// Its settings contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// Environment variables of the command line that are not settings.
const COMMAND_LINE: [&str; 6] = ["config", "token", "server", "ca", "client_certificate", "client_key"];

impl Config {
    /// Reads the configuration. `overrides` are the settings of the command line.
    ///
    /// # Errors
    /// If a setting is unknown or malformed, or settings contradict each other.
    pub fn read(file: Option<&Path>, overrides: impl Serialize) -> Result<Self, ConfigError> {
        let config: Self = Self::layers(file, overrides).extract().map_err(Box::new)?;
        config.checked()
    }

    /// Returns the layers of the configuration; the last one wins.
    pub(crate) fn layers(file: Option<&Path>, overrides: impl Serialize) -> Figment {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        figment.merge(Env::prefixed("HANSA_").ignore(&COMMAND_LINE)).merge(Serialized::defaults(overrides))
    }

    fn checked(self) -> Result<Self, ConfigError> {
        if self.database.is_some() && self.nats.is_none() {
            return Err(ConfigError::Contradiction(
                "PostgreSQL requires NATS, because commits of other processes cannot be followed in process. Add --nats.",
            ));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(ConfigError::Contradiction("TLS requires both a certificate and its key."));
        }
        if self.tls_client_ca.is_some() && self.tls_certificate.is_none() {
            return Err(ConfigError::Contradiction("client certificates require a server certificate."));
        }
        if self.tls_certificate.is_none() && !self.listen.ip().is_loopback() && !self.plaintext {
            return Err(ConfigError::Contradiction(
                "without TLS the server only listens on loopback. Add a certificate, or set plaintext if a proxy in front of the server terminates TLS.",
            ));
        }
        if self.issuers.iter().any(|one| one.jwks.is_none() && !issuer_address::is_safe(&one.issuer)) {
            return Err(ConfigError::Contradiction(
                "an issuer without a key set needs an address that begins with https://, or is on this machine, so that its keys can be fetched.",
            ));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_defaults_suffice_and_the_command_line_wins() {
        assert_eq!(Config::read(None, json!({})).unwrap(), Config::default());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hansa.toml");
        std::fs::write(&file, "data = '/srv/hansa'\nlog_json = true\n").unwrap();
        let config = Config::read(Some(&file), json!({"data": "/tmp/x"})).unwrap();
        assert_eq!(config.data, PathBuf::from("/tmp/x"));
        assert!(config.log_json);
        std::fs::write(&file, "dtaa = 'x'").unwrap();
        assert!(Config::read(Some(&file), json!({})).is_err());
    }

    #[test]
    fn contradictory_settings_are_refused() {
        for bad in [
            json!({"database": "postgres://x"}),
            json!({"tls_key": "x"}),
            json!({"tls_client_ca": "x"}),
            json!({"listen": "0.0.0.0:7400"}),
            json!({"issuers": [{"issuer": "http://id.example.org"}]}),
        ] {
            assert!(matches!(Config::read(None, &bad), Err(ConfigError::Contradiction(_))), "{bad}");
        }
        assert!(Config::read(None, json!({"listen": "0.0.0.0:7400", "plaintext": true})).is_ok());
        let config = Config::read(None, json!({"issuers": [{"issuer": "https://id.example.org"}]})).unwrap();
        assert_eq!(config.issuers, [IssuerConfig::new("https://id.example.org")]);
        assert!(Config::read(None, json!({"issuers": [{"issuer": "x", "jwks": "keys.json"}]})).is_ok());
    }
}
