//! Tokens: the embedded issuer, and the verifier of the tokens of all accepted issuers.
//!
//! The embedded issuer signs with a key derived from the node's key. The configuration names other issuers, with a key set (JWKS) or
//! with an address from which the key set is fetched. A verified token is cached for at most a minute and never beyond its expiry;
//! a refused token is not cached.

use crate::{
    config::{AUDIENCE, IssuerConfig},
    discovery::Discovered,
    jwks::{ALGORITHMS, KeySet},
    limits::{TOKEN_BYTES, VERIFIED_FOR, VERIFIED_TOKENS},
    role::{NODE_ROLES, role_name, role_of},
};
use anyhow::Context;
use chrono::{DateTime, Utc};
use hansa_journal::{Clock, NodeKeys};
use hansa_kernel::{Caller, PersonId, ReasonClass, Refusal, Role, TenantId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Longest lifetime of a token of the embedded issuer, in days.
pub const MAX_DAYS: i64 = 366;
/// Permitted difference between clocks, in seconds.
const LEEWAY: u64 = 30;

/// The claims of a token of the embedded issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The person or program, in the naming of the issuer.
    pub sub: String,
    /// `hansa`.
    pub aud: String,
    /// When the token expires, in seconds since 1970.
    pub exp: i64,
    /// When the token was issued, in seconds since 1970.
    pub iat: i64,
    /// The tenant for which the holder acts.
    pub tenant: Uuid,
    /// The holder's roles, lower case, such as `mayor`.
    pub roles: Vec<String>,
    /// Scopes of a program, separated by blanks; empty for a person.
    #[serde(default)]
    pub scope: String,
}

/// The embedded issuer.
#[derive(Clone)]
pub struct Issuer {
    name: String,
    key: EncodingKey,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).finish_non_exhaustive()
    }
}

fn embedded_secret(node: &NodeKeys) -> [u8; 32] {
    node.derive("token issuer")
}

impl Issuer {
    /// Creates the issuer of a node.
    #[must_use]
    pub fn new(node: &NodeKeys) -> Self {
        // PKCS #8 v1 of an Ed25519 key is this prefix and the seed (RFC 8410).
        let mut der = hex::decode("302e020100300506032b657004220420").expect("a constant");
        der.extend_from_slice(&embedded_secret(node));
        Self { name: node.name().to_owned(), key: EncodingKey::from_ed_der(&der) }
    }

    /// Issues a token that is valid for `days`, from 1 to `MAX_DAYS`.
    ///
    /// # Errors
    /// `INVALID_FIELD` if `days` is out of range.
    pub fn issue(
        &self,
        tenant: TenantId,
        subject: &str,
        roles: &[Role],
        scopes: &[String],
        now: DateTime<Utc>,
        days: i64,
    ) -> Result<String, Refusal> {
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Refusal::field("days", format!("must be between 1 and {MAX_DAYS}")));
        }
        let claims = Claims {
            iss: self.name.clone(),
            sub: subject.to_owned(),
            aud: AUDIENCE.into(),
            exp: now.timestamp() + days * 86_400,
            iat: now.timestamp(),
            tenant: tenant.0,
            roles: roles.iter().map(|role| role_name(*role)).collect(),
            scope: scopes.join(" "),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)
            .map_err(|error| Refusal::because(ReasonClass::Internal, "PL-2", "INTERNAL", error.to_string()))
    }
}

/// The keys of an accepted issuer.
enum Keys {
    /// The key of the embedded issuer.
    Own(DecodingKey),
    Set(KeySet),
    Discovered(Box<Discovered>),
}

/// An accepted issuer.
struct Accepted {
    keys: Keys,
    config: IssuerConfig,
    /// The tenants for which it may issue tokens; empty for all.
    tenants: Vec<TenantId>,
}

/// The claim that says which issuer must have signed a token.
#[derive(Deserialize)]
struct Issued {
    iss: String,
}

/// Verifies tokens.
pub struct Verifier {
    issuers: HashMap<String, Accepted>,
    home: TenantId,
    verified: Cache<String, Arc<(Caller, i64)>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.issuers.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Creates a verifier that accepts the node's embedded issuer.
    #[must_use]
    pub fn new(node: &NodeKeys, clock: Arc<dyn Clock>) -> Self {
        let public = NodeKeys::from_secret(&embedded_secret(node)).verifying();
        let keys = Keys::Own(DecodingKey::from_ed_der(public.as_bytes()));
        let own = Accepted { keys, config: IssuerConfig::new(node.name()), tenants: Vec::new() };
        Self {
            issuers: HashMap::from([(node.name().to_owned(), own)]),
            home: node.tenant(),
            verified: Cache::builder().max_capacity(VERIFIED_TOKENS).time_to_live(VERIFIED_FOR).build(),
            clock,
        }
    }

    /// Accepts another issuer. If it is unavailable now, its tokens are refused until its keys can be fetched.
    ///
    /// # Errors
    /// If the key set cannot be read, the address is not safe, or an issuer of this name is accepted already.
    pub fn accept(&mut self, config: &IssuerConfig) -> anyhow::Result<()> {
        let keys = match &config.jwks {
            Some(file) => {
                let set = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                Keys::Set(KeySet::parse(&set).with_context(|| format!("{} is not a key set", file.display()))?)
            }
            None => Keys::Discovered(Box::new(Discovered::new(&config.issuer, self.clock.clone())?)),
        };
        let tenants = config.tenants.iter().map(|name| TenantId::parse(name, "issuers.tenants"));
        let tenants = tenants.collect::<Result<_, _>>()?;
        let accepted = Accepted { keys, config: config.clone(), tenants };
        let before = self.issuers.insert(config.issuer.clone(), accepted);
        anyhow::ensure!(before.is_none(), "the issuer {} is accepted already", config.issuer);
        Ok(())
    }

    /// Fetches the keys of the issuers that have an address, so that the first caller need not wait.
    pub async fn fetch_keys(&self) {
        for accepted in self.issuers.values() {
            if let Keys::Discovered(issuer) = &accepted.keys {
                issuer.refresh().await;
            }
        }
    }

    /// Returns the caller that a token names.
    ///
    /// # Errors
    /// `NOT_AUTHENTICATED`, without the exact reason: the holder of a forged token must not learn it.
    pub async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let now = self.clock.now().timestamp();
        if token.len() > TOKEN_BYTES {
            return Err(unauthenticated());
        }
        if let Some(known) = self.verified.get(token)
            && known.1 > now
        {
            return Ok(known.0.clone());
        }
        let (caller, expires) = self.read(token, now).await.ok_or_else(unauthenticated)?;
        self.verified.insert(token.to_owned(), Arc::new((caller.clone(), expires)));
        Ok(caller)
    }

    async fn read(&self, token: &str, now: i64) -> Option<(Caller, i64)> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        // Critical header parameters are not supported (RFC 7515, 4.1.11).
        if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
            return None;
        }
        // The issuer is read before the signature is verified, to find the key that must have signed.
        let issuer = jsonwebtoken::dangerous::insecure_decode::<Issued>(token).ok()?.claims.iss;
        let accepted = self.issuers.get(&issuer)?;
        let key = accepted.key(&header).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[&accepted.config.audience]);
        validation.set_issuer(&[&issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // The times are checked below against the clock of the verifier.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).ok()?.claims;
        let expires = in_time(&claims, now)?;
        Some((self.caller(accepted, &claims)?, expires))
    }

    fn caller(&self, accepted: &Accepted, claims: &Value) -> Option<Caller> {
        let named = claim(claims, &accepted.config.tenant_claim)?.as_str()?;
        let tenant = TenantId(Uuid::try_parse(named.strip_prefix("tenants/").unwrap_or(named)).ok()?);
        let roles = roles_in(claim(claims, &accepted.config.roles_claim)?);
        let foreign = !accepted.tenants.is_empty() && !accepted.tenants.contains(&tenant);
        let own = matches!(accepted.keys, Keys::Own(_));
        // Only the embedded issuer, or one that the configuration permits to speak for the node, may grant the roles of the node.
        let trusted = tenant == self.home && (own || accepted.tenants.contains(&tenant));
        let usurps = !trusted && roles.iter().any(|role| NODE_ROLES.contains(role));
        // Another issuer may have further roles, which are ignored. The embedded issuer only grants known ones.
        let strange = own && unknown_role(claim(claims, &accepted.config.roles_claim)?);
        if roles.is_empty() || foreign || usurps || strange {
            return None;
        }
        let scopes = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        let scopes = match roles.contains(&Role::ServiceAccount) {
            true => scopes.split_whitespace().map(str::to_owned).collect(),
            false => vec!["*".to_owned()],
        };
        let person = PersonId::derive(tenant, &accepted.config.issuer, claims.get("sub")?.as_str()?);
        Some(Caller { tenant, person, roles, scopes })
    }
}

impl Accepted {
    async fn key(&self, header: &Header) -> Option<DecodingKey> {
        match &self.keys {
            Keys::Own(key) => (header.alg == Algorithm::EdDSA).then(|| key.clone()),
            Keys::Set(set) => set.find(header.kid.as_deref()?, header.alg),
            Keys::Discovered(issuer) => issuer.key(header.kid.as_deref()?, header.alg).await,
        }
    }
}

/// Returns a claim by its name or by a JSON pointer.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

/// Returns whether a list contains an unknown role.
fn unknown_role(claim: &Value) -> bool {
    claim.as_array().is_some_and(|list| list.iter().any(|name| name.as_str().and_then(role_of).is_none()))
}

/// Returns the known roles of a list, or of a text with words, each once.
fn roles_in(claim: &Value) -> Vec<Role> {
    let names: Vec<&str> = match claim {
        Value::String(words) => words.split_whitespace().collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut roles = Vec::new();
    for role in names.into_iter().filter_map(role_of) {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    roles
}

/// Returns when a token expires, if it is valid now.
fn in_time(claims: &Value, now: i64) -> Option<i64> {
    let leeway = LEEWAY.cast_signed();
    // Some issuers write fractions of seconds as floats.
    let instant = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    let expires = instant(claims.get("exp")?)?;
    for begins in ["nbf", "iat"].into_iter().filter_map(|name| claims.get(name)) {
        if instant(begins)?.saturating_sub(leeway) > now {
            return None;
        }
    }
    (expires.saturating_add(leeway) > now).then_some(expires)
}

fn unauthenticated() -> Refusal {
    Refusal::because(ReasonClass::NotAuthenticated, "PL-2", "TOKEN_INVALID", "the call carries no valid token")
        .help("Send `authorization: Bearer <token>` with a token of an issuer that this node accepts.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hansa_journal::ManualClock;

    fn node(byte: u8) -> NodeKeys {
        NodeKeys::from_secret(&[byte; 32])
    }

    #[tokio::test]
    async fn a_token_names_its_caller_until_it_expires() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let clock = ManualClock::at(now);
        let verifier = Verifier::new(&node(1), Arc::new(clock.clone()));
        let tenant = node(3).tenant();
        let token = Issuer::new(&node(1)).issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let caller = verifier.verify(&token).await.unwrap();
        assert_eq!((caller.tenant, caller.roles.as_slice()), (tenant, &[Role::Mayor][..]));
        assert_eq!(caller.scopes, ["*"]);
        clock.set(now + chrono::TimeDelta::days(2));
        assert_eq!(verifier.verify(&token).await.unwrap_err().class, ReasonClass::NotAuthenticated);
        clock.set(now - chrono::TimeDelta::days(2));
        let early = Verifier::new(&node(1), Arc::new(clock));
        assert!(early.verify(&token).await.is_err(), "a token from the future");
    }

    #[tokio::test]
    async fn foreign_forged_and_malformed_tokens_are_refused_alike() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let verifier = Verifier::new(&node(1), Arc::new(ManualClock::at(now)));
        let tenant = node(3).tenant();
        let good = Issuer::new(&node(1)).issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let foreign = Issuer::new(&node(2)).issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let forged = Issuer { name: node(1).name().into(), ..Issuer::new(&node(2)) };
        let forged = forged.issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let no_role = Issuer::new(&node(1)).issue(tenant, "ana", &[], &[], now, 1).unwrap();
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[2] = "";
        let unsigned = parts.join(".");
        let steward = Issuer::new(&node(1)).issue(tenant, "ana", &[Role::Steward], &[], now, 1).unwrap();
        let long = "x".repeat(TOKEN_BYTES + 1);
        for bad in ["", "a.b.c", &foreign, &forged, &no_role, &unsigned, &steward, &long] {
            assert_eq!(verifier.verify(bad).await.unwrap_err(), unauthenticated());
        }
        assert!(verifier.verify(&good).await.is_ok());
        assert!(Issuer::new(&node(1)).issue(tenant, "a", &[Role::Mayor], &[], now, MAX_DAYS + 1).is_err());
    }
}
