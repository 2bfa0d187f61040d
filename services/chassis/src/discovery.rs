//! The keys of an issuer that is found by its address alone (OpenID Connect Discovery 1.0): fetched when they are first
//! needed, again each hour, and when a token names a key that is not known yet.

use crate::{
    keyset::KeySet,
    limits::{ISSUER_ANSWER_BYTES, ISSUER_KEYS_FRESH, ISSUER_KEYS_STALE, ISSUER_PAUSE, ISSUER_RETRY, ISSUER_WAIT},
};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hansa_journal::Clock;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// Asks issuers. It follows no redirection, and trusts whom the operating system trusts: an issuer in a city's own network
/// often stands under the city's own authority.
type Http = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// What of the issuer's description is needed.
#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: String,
}

/// What is known of the keys.
#[derive(Default)]
struct Known {
    keys: KeySet,
    fetched: Option<DateTime<Utc>>,
    tried: Option<DateTime<Utc>>,
}

/// An issuer that is asked for its keys.
pub struct Discovered {
    issuer: String,
    http: Http,
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
    /// One asks, whoever else misses a key waits for the answer.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Discovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovered").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Whether an issuer may be asked at an address: by TLS, or on this machine.
#[must_use]
pub fn may_be_asked(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !host.is_empty() && (uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && here))
}

fn http() -> anyhow::Result<Http> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .context("the operating system names no certificate authority")?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

fn older(than: Duration, at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    at.is_none_or(|at| now - at >= TimeDelta::from_std(than).unwrap_or(TimeDelta::MAX))
}

impl Discovered {
    /// An issuer of that address. It is not asked yet.
    ///
    /// # Errors
    /// Where the address is none that may be asked.
    pub fn of(issuer: &str, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        ensure!(may_be_asked(issuer), "the issuer {issuer} cannot be asked: its address must begin with https://");
        let (known, turn) = (RwLock::default(), tokio::sync::Mutex::default());
        Ok(Self { issuer: issuer.to_owned(), http: http()?, clock, known, turn })
    }

    /// The issuer's key of that id for that algorithm.
    pub async fn key(&self, kid: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        match self.find(kid, algorithm) {
            Some(key) => {
                // It is time to ask again. One caller does so; the others go on with what is known.
                if self.may_ask(true)
                    && let Ok(_turn) = self.turn.try_lock()
                {
                    self.ask().await;
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

    /// Asks for the keys, unless that has just been done.
    pub async fn refresh(&self) {
        // First the turn: who is asking already is waited for.
        let _turn = self.turn.lock().await;
        if self.may_ask(false) {
            self.ask().await;
        }
    }

    fn find(&self, kid: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let stale = older(ISSUER_KEYS_STALE, known.fetched, self.clock.now());
        if stale { None } else { known.keys.find(kid, algorithm) }
    }

    /// Tokens that name keys which are not there must not make a node ask without end. Where no key is known at all, the
    /// issuer was away and is looked for more often.
    fn may_ask(&self, found: bool) -> bool {
        let now = self.clock.now();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let pause = if known.fetched.is_some() { ISSUER_PAUSE } else { ISSUER_RETRY };
        older(pause, known.tried, now) && (!found || older(ISSUER_KEYS_FRESH, known.fetched, now))
    }

    async fn ask(&self) {
        let now = self.clock.now();
        self.known.write().unwrap_or_else(PoisonError::into_inner).tried = Some(now);
        let fetched = tokio::time::timeout(ISSUER_WAIT, self.fetch()).await;
        match fetched.map_err(anyhow::Error::from).and_then(|keys| keys) {
            Ok(keys) => {
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                (known.keys, known.fetched) = (keys, Some(now));
            }
            Err(error) => tracing::warn!(issuer = self.issuer, error = format!("{error:#}"), "an issuer is away"),
        }
    }

    async fn fetch(&self) -> anyhow::Result<KeySet> {
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let description = self.get(&at).await?;
        let Description { issuer, jwks_uri } = serde_json::from_slice(&description).context("its description")?;
        ensure!(issuer == self.issuer, "it calls itself {issuer}");
        // An issuer elsewhere sends nobody to this machine.
        let local = self.issuer.starts_with("http:");
        ensure!(
            may_be_asked(&jwks_uri) && (local || jwks_uri.starts_with("https:")),
            "its keys lie at no safe address"
        );
        KeySet::read(&self.get(&jwks_uri).await?).context("its keys")
    }

    async fn get(&self, address: &str) -> anyhow::Result<Bytes> {
        let answer = self.http.get(address.parse()?).await.with_context(|| format!("{address} is away"))?;
        if answer.status() != http::StatusCode::OK {
            bail!("{address} answers {}", answer.status());
        }
        let body = Limited::new(answer.into_body(), ISSUER_ANSWER_BYTES).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!("{address}: {error}"))?.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_asked_by_tls_or_on_this_machine() {
        for good in [
            "https://id.example.org",
            "https://id.example.org/realms/x",
            "http://127.0.0.1:1",
            "http://[::1]:1/x",
            "http://localhost",
        ] {
            assert!(may_be_asked(good), "{good}");
        }
        for bad in [
            "",
            "id.example.org",
            "http://id.example.org",
            "http://127.0.0.1.example.org",
            "ftp://localhost",
            "http://10.0.0.1",
            "/x",
        ] {
            assert!(!may_be_asked(bad), "{bad}");
        }
    }
}
