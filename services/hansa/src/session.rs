//! A session: a connection with a token, to a running server or to a node that this process opens for one command.

use crate::{
    api::Api,
    cli::NodeOptions,
    node::{Node, issuer, keys},
};
use anyhow::{Context, bail};
use hansa_chassis::Config;
use hansa_journal::{Clock, NodeKeys, SystemClock};
use hansa_kernel::{Role, TenantId};
use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A connection to a server with a token.
pub struct Session {
    /// The clients of the services, which call with the session's token.
    pub api: Api,
    /// The node's keys, if the session has read them.
    pub keys: Option<NodeKeys>,
    own: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

/// Connects to a server. If the URL starts with `https:`, the connection uses TLS with the certificates of the options.
///
/// # Errors
/// If the URL is invalid, a certificate cannot be read, or the server cannot be reached.
pub async fn connect(url: &str, options: Option<&NodeOptions>) -> anyhow::Result<Channel> {
    let mut endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("`{url}` is not a valid URL"))?;
    if url.starts_with("https:") {
        endpoint = endpoint.tls_config(tls(options)?)?;
    }
    Ok(endpoint.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(60)).connect().await?)
}

/// Returns the TLS configuration: the trusted authority, and the client certificate if there is one.
fn tls(options: Option<&NodeOptions>) -> anyhow::Result<ClientTlsConfig> {
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let ca = options.and_then(|options| options.ca.as_deref());
    let ca = ca.context("https needs --ca with the certificates of the server's authority")?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    match options.and_then(|options| options.client_certificate.as_deref().zip(options.client_key.as_deref())) {
        Some((certificate, key)) => Ok(tls.identity(Identity::from_pem(read(certificate)?, read(key)?))),
        None => Ok(tls),
    }
}

/// Issues a token for a member of a tenant, valid for one day.
pub fn token(keys: &NodeKeys, tenant: TenantId, subject: &str, roles: &[Role]) -> anyhow::Result<String> {
    Ok(issuer(keys).issue(tenant, subject, roles, &[], SystemClock.now(), 1)?)
}

/// Issues a steward's token.
pub fn steward(keys: &NodeKeys) -> anyhow::Result<String> {
    token(keys, keys.tenant(), "steward", &[Role::Steward])
}

impl Session {
    /// Opens a session for the options. Without --token, a steward's token is issued if the node's key file exists.
    ///
    /// # Errors
    /// If there is neither a token nor a key, or the server or the data folder is unavailable.
    pub async fn open(options: &NodeOptions) -> anyhow::Result<Self> {
        let config = Config::read(options.config.as_deref(), options.overrides(None))?;
        if let Some(url) = &options.server {
            let at_hand = config.node_key.clone().unwrap_or_else(|| config.data.join("node.key")).exists();
            let (token, keys) = match &options.token {
                Some(token) => (token.clone(), None),
                None if at_hand => {
                    let keys = keys(&config)?;
                    (steward(&keys)?, Some(keys))
                }
                None => bail!("a call needs a token. Add --token, or --data with the folder of the node's key."),
            };
            return Ok(Self { api: Api::new(connect(url, Some(options)).await?, &token)?, keys, own: None });
        }
        Self::on(config, options.token.as_deref()).await
    }

    /// Opens a node for this session only, on a free port of the loopback address.
    ///
    /// # Errors
    /// If the node cannot be opened or does not start.
    pub async fn on(config: Config, token: Option<&str>) -> anyhow::Result<Self> {
        // Only this process connects, over loopback, so TLS is not needed.
        let config = Config { tls_certificate: None, tls_key: None, tls_client_ca: None, ..config };
        let node = Node::open(config, &[], Arc::new(SystemClock)).await?;
        let keys = node.keys.clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let running = tokio::spawn(node.run(listener, stop.clone()));
        let token = token.map_or_else(|| steward(&keys), |token| Ok(token.to_owned()))?;
        let api = Api::new(connect(&url, None).await?, &token)?;
        Ok(Self { api, keys: Some(keys), own: Some((stop, running)) })
    }

    /// Ends the session, and stops the node that was opened for it.
    ///
    /// # Errors
    /// If that node failed.
    pub async fn close(self) -> anyhow::Result<()> {
        drop(self.api);
        if let Some((stop, running)) = self.own {
            stop.cancel();
            running.await??;
        }
        Ok(())
    }
}
