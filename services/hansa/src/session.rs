//! A connection to a server with a token: a running one, or one that is opened on the data folder for this command alone.

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

/// An open session.
pub struct Session {
    /// How to reach the services, as the one whose token it is.
    pub api: Api,
    /// The node's keys, where they are at hand.
    pub keys: Option<NodeKeys>,
    own: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

/// Connects to a server; by TLS where the address says so, with the certificates that the options name.
pub async fn connect(url: &str, options: Option<&NodeOptions>) -> anyhow::Result<Channel> {
    let mut endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("`{url}` is no address"))?;
    if url.starts_with("https:") {
        endpoint = endpoint.tls_config(tls(options)?)?;
    }
    Ok(endpoint.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(60)).connect().await?)
}

/// Whom to trust, and what to show.
fn tls(options: Option<&NodeOptions>) -> anyhow::Result<ClientTlsConfig> {
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()));
    let ca = options.and_then(|options| options.ca.as_deref());
    let ca = ca.context("give --ca with the certificates of the authority that signed the server's")?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    match options.and_then(|options| options.client_certificate.as_deref().zip(options.client_key.as_deref())) {
        Some((certificate, key)) => Ok(tls.identity(Identity::from_pem(read(certificate)?, read(key)?))),
        None => Ok(tls),
    }
}

/// A token for a tenant's member, valid for a day.
pub fn token(keys: &NodeKeys, tenant: TenantId, subject: &str, roles: &[Role]) -> anyhow::Result<String> {
    Ok(issuer(keys).issue(tenant, subject, roles, &[], SystemClock.now(), 1)?)
}

/// The steward's token.
pub fn steward(keys: &NodeKeys) -> anyhow::Result<String> {
    token(keys, keys.tenant(), "steward", &[Role::Steward])
}

impl Session {
    /// Opens a session as the options say. The steward's token is the default where the node's key is at hand.
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
                None => bail!("give --token, or --data with the folder of the node whose steward you are"),
            };
            return Ok(Self { api: Api::new(connect(url, Some(options)).await?, &token)?, keys, own: None });
        }
        Self::on(config, options.token.as_deref()).await
    }

    /// Opens a node for this session alone, on a port of its own.
    pub async fn on(config: Config, token: Option<&str>) -> anyhow::Result<Self> {
        // It talks to itself, on this machine.
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

    /// Ends the session, and with it the node that was opened for it.
    pub async fn close(self) -> anyhow::Result<()> {
        drop(self.api);
        if let Some((stop, running)) = self.own {
            stop.cancel();
            running.await??;
        }
        Ok(())
    }
}
