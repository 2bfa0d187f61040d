//! Configuration: defaults, then a file, then `HANSA_...` variables, then the command line.

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
    /// Its name, as its tokens state it.
    pub issuer: String,
    /// File with its key set (JWKS).
    pub jwks: PathBuf,
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

impl Config {
    /// Reads the configuration. `overrides` are what the command line said.
    ///
    /// # Errors
    /// Where a part is unknown or malformed, or parts contradict each other.
    pub fn read(file: Option<&Path>, overrides: impl Serialize) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let config: Self = figment
            .merge(Env::prefixed("HANSA_").ignore(&["config", "token", "server", "ca"]))
            .merge(Serialized::defaults(overrides))
            .extract()
            .map_err(Box::new)?;
        config.checked()
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
        ] {
            assert!(matches!(Config::read(None, &bad), Err(ConfigError::Contradiction(_))), "{bad}");
        }
        assert!(Config::read(None, json!({"listen": "0.0.0.0:7400", "plaintext": true})).is_ok());
    }
}
