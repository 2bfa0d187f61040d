//! The keys of an issuer that is configured by its address alone (OpenID Connect Discovery 1.0). They are fetched when they are first
//! needed, again every hour, and when a token names an unknown key.

use crate::{
    issuer_address,
    jwks::KeySet,
    limits::{ISSUER_ANSWER_BYTES, ISSUER_KEYS_FRESH, ISSUER_KEYS_STALE, ISSUER_PAUSE, ISSUER_RETRY, ISSUER_WAIT},
};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hansa_journal::Clock;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// The HTTP client. It follows no redirects, and trusts the certificate authorities of the operating system, because an issuer in a
/// city's network often has a certificate of the city's own authority.
type Http = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The required part of the discovery document.
#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
}

/// The fetched keys.
#[derive(Default)]
struct FetchedKeys {
    keys: KeySet,
    fetched: Option<DateTime<Utc>>,
    tried: Option<DateTime<Utc>>,
}

/// An issuer whose keys are fetched from its address.
pub struct Discovered {
    issuer: String,
    http: Http,
    clock: Arc<dyn Clock>,
    fetched: RwLock<FetchedKeys>,
    /// Held while the keys are fetched, so that concurrent callers with an unknown key wait for one fetch.
    fetching: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Discovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovered").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

fn http() -> anyhow::Result<Http> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .context("the operating system has no certificate authorities")?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

/// Returns whether an instant is at least `than` ago, or never was.
fn older(than: Duration, at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    at.is_none_or(|at| now - at >= TimeDelta::from_std(than).unwrap_or(TimeDelta::MAX))
}

impl Discovered {
    /// Creates the issuer of an address, without fetching its keys.
    ///
    /// # Errors
    /// If the address is not safe.
    pub fn new(issuer: &str, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        ensure!(
            issuer_address::is_safe(issuer),
            "cannot fetch keys from the issuer {issuer}: its address must begin with https://"
        );
        let (fetched, fetching) = (RwLock::default(), tokio::sync::Mutex::default());
        Ok(Self { issuer: issuer.to_owned(), http: http()?, clock, fetched, fetching })
    }

    /// Returns the issuer's key with this id for this algorithm. Fetches the keys if they are old or the key is unknown.
    pub async fn key(&self, kid: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        match self.find(kid, algorithm) {
            Some(key) => {
                // If the keys are old, one caller fetches them; the others use the known ones.
                if self.may_fetch(true)
                    && let Ok(_guard) = self.fetching.try_lock()
                {
                    self.try_fetch().await;
                    return self.find(kid, algorithm);
                }
                Some(key)
            }
            None => {
                self.refresh().await;
                self.find(kid, algorithm)
            }
        }
    }

    /// Fetches the keys, unless that has just been tried.
    pub async fn refresh(&self) {
        // Wait for a fetch that is under way.
        let _guard = self.fetching.lock().await;
        if self.may_fetch(false) {
            self.try_fetch().await;
        }
    }

    fn find(&self, kid: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        let known = self.fetched.read().unwrap_or_else(PoisonError::into_inner);
        let stale = older(ISSUER_KEYS_STALE, known.fetched, self.clock.now());
        if stale { None } else { known.keys.find(kid, algorithm) }
    }

    /// Returns whether enough time has passed since the last attempt: tokens with unknown keys must not cause unlimited fetches. While
    /// no key is known, the issuer was unavailable, and attempts are more frequent.
    fn may_fetch(&self, found: bool) -> bool {
        let now = self.clock.now();
        let known = self.fetched.read().unwrap_or_else(PoisonError::into_inner);
        let pause = if known.fetched.is_some() { ISSUER_PAUSE } else { ISSUER_RETRY };
        older(pause, known.tried, now) && (!found || older(ISSUER_KEYS_FRESH, known.fetched, now))
    }

    async fn try_fetch(&self) {
        let now = self.clock.now();
        self.fetched.write().unwrap_or_else(PoisonError::into_inner).tried = Some(now);
        let fetched = tokio::time::timeout(ISSUER_WAIT, self.fetch()).await;
        match fetched.map_err(anyhow::Error::from).and_then(|keys| keys) {
            Ok(keys) => {
                let mut known = self.fetched.write().unwrap_or_else(PoisonError::into_inner);
                (known.keys, known.fetched) = (keys, Some(now));
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer, error = format!("{error:#}"), "cannot fetch the keys of an issuer")
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<KeySet> {
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let document = self.get(&at).await?;
        let DiscoveryDocument { issuer, jwks_uri } =
            serde_json::from_slice(&document).context("the discovery document is malformed")?;
        ensure!(issuer == self.issuer, "the discovery document names the issuer {issuer}");
        // A remote issuer must not direct the node to an address on this machine.
        let is_local = self.issuer.starts_with("http:");
        ensure!(
            issuer_address::is_safe(&jwks_uri) && (is_local || jwks_uri.starts_with("https:")),
            "the address of the keys is not safe"
        );
        KeySet::parse(&self.get(&jwks_uri).await?).context("the key set is malformed")
    }

    async fn get(&self, address: &str) -> anyhow::Result<Bytes> {
        let answer = self.http.get(address.parse()?).await.with_context(|| format!("{address} is unreachable"))?;
        if answer.status() != http::StatusCode::OK {
            bail!("{address} responds with {}", answer.status());
        }
        let body = Limited::new(answer.into_body(), ISSUER_ANSWER_BYTES).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!("{address}: {error}"))?.to_bytes())
    }
}
