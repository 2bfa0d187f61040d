//! Configuration: defaults, then a file, then `HANSA_...` variables, then the command line.

use crate::discovery::may_be_asked;
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// How a node runs. Without any of it: embedded, in one data folder, on loopback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data folder: the node's key, and in the embedded shape a database a service.
    pub data: PathBuf,
    /// The node's key, where it is not `node.key` in the data folder: all processes of a node share it.
    pub node_key: Option<PathBuf>,
    /// Where the gRPC server listens.
    pub listen: SocketAddr,
    /// `postgres://...`: a schema a service, instead of files.
    pub database: Option<String>,
    /// `nats://...`: changes travel by JetStream, instead of in process. PostgreSQL needs it.
    pub nats: Option<String>,
    /// How many servers of a NATS cluster keep each stream.
    pub nats_replicas: usize,
    /// Whether the server describes itself to anyone who asks.
    pub reflection: bool,
    /// Certificate chain (PEM) of the server; with `tls_key` it speaks TLS.
    pub tls_certificate: Option<PathBuf>,
    /// Private key (PEM) of the server.
    pub tls_key: Option<PathBuf>,
    /// Certificates (PEM) of those who may connect; with it every client must show one.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether plain text is served to others than this machine. A token would travel unprotected.
    pub plaintext: bool,
    /// What is logged: a filter such as `info,hansa_journal=debug`.
    pub log: String,
    /// Whether logs are JSON.
    pub log_json: bool,
    /// An OTLP collector (gRPC) for traces, metrics and logs: http://host:4317.
    pub otlp: Option<String>,
    /// Which part of the traces that begin here is exported, from 0 to 1. A caller's own trace is followed as it says.
    pub trace_ratio: f64,
    /// Other issuers whose tokens are accepted.
    pub issuers: Vec<IssuerConfig>,
}

/// An accepted issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Its name, as its tokens state it: with OpenID Connect its address.
    pub issuer: String,
    /// File with its key set (JWKS). Without one the issuer is asked at its address, which must be https, or on this machine.
    #[serde(default)]
    pub jwks: Option<PathBuf>,
    /// What its tokens must name as their audience.
    #[serde(default = "default_audience")]
    pub audience: String,
    /// The claim that names the tenant: a UUID or `tenants/{uuid}`. What begins with `/` is a JSON pointer, for claims that
    /// stand within others.
    #[serde(default = "default_tenant_claim")]
    pub tenant_claim: String,
    /// The claim that lists the roles, such as `mayor`; a JSON pointer as well, such as `/realm_access/roles`. Roles that
    /// this node does not know are passed over.
    #[serde(default = "default_roles_claim")]
    pub roles_claim: String,
    /// The tenants (`tenants/{uuid}`) for which it may speak; empty for all.
    #[serde(default)]
    pub tenants: Vec<String>,
}

fn default_audience() -> String {
    crate::token::AUDIENCE.into()
}

fn default_tenant_claim() -> String {
    "tenant".into()
}

fn default_roles_claim() -> String {
    "roles".into()
}

impl IssuerConfig {
    /// An issuer with everything else at its default.
    #[must_use]
    pub fn of(issuer: &str) -> Self {
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

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the configuration cannot be read: {0}")]
    Unreadable(#[from] Box<figment::Error>),
    /// Its parts do not fit together.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// Variables of the command line, which are no settings.
const COMMAND_LINE: [&str; 6] = ["config", "token", "server", "ca", "client_certificate", "client_key"];

impl Config {
    /// Reads the configuration. `overrides` are what the command line said.
    ///
    /// # Errors
    /// Where a part is unknown or malformed, or parts contradict each other.
    pub fn read(file: Option<&Path>, overrides: impl Serialize) -> Result<Self, ConfigError> {
        let config: Self = Self::layers(file, overrides).extract().map_err(Box::new)?;
        config.checked()
    }

    /// Where the settings are from, the last wins.
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
                "PostgreSQL needs NATS: its commits cannot be followed in process. Give --nats as well.",
            ));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(ConfigError::Contradiction("TLS needs both a certificate and its key."));
        }
        if self.tls_client_ca.is_some() && self.tls_certificate.is_none() {
            return Err(ConfigError::Contradiction("client certificates need a server certificate."));
        }
        if self.tls_certificate.is_none() && !self.listen.ip().is_loopback() && !self.plaintext {
            return Err(ConfigError::Contradiction(
                "plain text is served on loopback alone. Give a certificate, or set plaintext where something before this server speaks TLS.",
            ));
        }
        if self.issuers.iter().any(|one| one.jwks.is_none() && !may_be_asked(&one.issuer)) {
            return Err(ConfigError::Contradiction(
                "an issuer without a key set is asked at its address: that must begin with https://, or be on this machine.",
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
    fn nothing_is_needed_and_the_command_line_wins() {
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
    fn parts_that_contradict_each_other_are_refused() {
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
        assert_eq!(config.issuers, [IssuerConfig::of("https://id.example.org")]);
        assert!(Config::read(None, json!({"issuers": [{"issuer": "x", "jwks": "keys.json"}]})).is_ok());
    }
}
