//! Tokens: who issues them here, and whose are accepted.
//!
//! The embedded issuer signs with a key derived from the node's own; other issuers are named in the configuration with
//! their key sets (JWKS), or are asked for them. A verified token is remembered for a minute at most, and never beyond its
//! expiry; one that is refused is not remembered at all.

use crate::{
    config::IssuerConfig,
    discovery::Discovered,
    keyset::{ALGORITHMS, KeySet},
    limits::{TOKEN_BYTES, VERIFIED_FOR, VERIFIED_TOKENS},
};
use anyhow::Context;
use chrono::{DateTime, Utc};
use hansa_journal::{Clock, NodeKeys};
use hansa_kernel::{Caller, PersonId, Reason, Refusal, Role, TenantId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// The audience of every token.
pub const AUDIENCE: &str = "hansa";
/// Longest life of a token of the embedded issuer, in days.
pub const LONGEST_DAYS: i64 = 366;
/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 30;
/// Roles that stand above tenants: steward, auditor, operator.
pub const NODE_ROLES: [Role; 3] = [Role::Steward, Role::Auditor, Role::Operator];

/// What a token of the embedded issuer says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// The person or program, as the issuer calls it.
    pub sub: String,
    /// `hansa`.
    pub aud: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// When it was issued.
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
    /// The node's issuer.
    #[must_use]
    pub fn of(node: &NodeKeys) -> Self {
        // PKCS #8 v1 of an Ed25519 key is this prefix and the seed (RFC 8410).
        let mut der = hex::decode("302e020100300506032b657004220420").expect("a constant");
        der.extend_from_slice(&embedded_secret(node));
        Self { name: node.name().to_owned(), key: EncodingKey::from_ed_der(&der) }
    }

    /// Issues a token for `days`, at most `LONGEST_DAYS`.
    ///
    /// # Errors
    /// INVALID_FIELD where the life is out of range.
    pub fn issue(
        &self,
        tenant: TenantId,
        subject: &str,
        roles: &[Role],
        scopes: &[String],
        now: DateTime<Utc>,
        days: i64,
    ) -> Result<String, Refusal> {
        if !(1..=LONGEST_DAYS).contains(&days) {
            return Err(Refusal::field("days", format!("must lie between 1 and {LONGEST_DAYS}")));
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
            .map_err(|error| Refusal::because(Reason::Internal, "PL-2", error.to_string()))
    }
}

/// A role as tokens and policies write it, such as `ir_officer`.
#[must_use]
pub fn role_name(role: Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// The role of that name.
#[must_use]
pub fn role_of(name: &str) -> Option<Role> {
    Role::from_str_name(&format!("ROLE_{}", name.to_uppercase())).filter(|role| *role != Role::Unspecified)
}

/// The keys of one accepted issuer.
enum Keys {
    /// The embedded issuer's one.
    Own(DecodingKey),
    Set(KeySet),
    Asked(Box<Discovered>),
}

/// An accepted issuer.
struct Accepted {
    keys: Keys,
    how: IssuerConfig,
    /// For whom it may speak; empty for all.
    tenants: Vec<TenantId>,
}

/// The part of a token that says whose key must have signed it.
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
    /// Accepts the node's own issuer.
    #[must_use]
    pub fn of(node: &NodeKeys, clock: Arc<dyn Clock>) -> Self {
        let public = NodeKeys::from_secret(&embedded_secret(node)).verifying();
        let keys = Keys::Own(DecodingKey::from_ed_der(public.as_bytes()));
        let own = Accepted { keys, how: IssuerConfig::of(node.name()), tenants: Vec::new() };
        Self {
            issuers: HashMap::from([(node.name().to_owned(), own)]),
            home: node.tenant(),
            verified: Cache::builder().max_capacity(VERIFIED_TOKENS).time_to_live(VERIFIED_FOR).build(),
            clock,
        }
    }

    /// Accepts another issuer. One that is away now is no error: its tokens are refused until it is back.
    ///
    /// # Errors
    /// Where its key set cannot be read, its address is not safe, or it is the node's own name.
    pub fn accept(&mut self, how: &IssuerConfig) -> anyhow::Result<()> {
        let keys = match &how.jwks {
            Some(file) => {
                let set = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
                Keys::Set(KeySet::read(&set).with_context(|| format!("{} is no key set", file.display()))?)
            }
            None => Keys::Asked(Box::new(Discovered::of(&how.issuer, self.clock.clone())?)),
        };
        let tenants = how.tenants.iter().map(|name| TenantId::parse(name, "issuers.tenants"));
        let tenants = tenants.collect::<Result<_, _>>()?;
        let accepted = Accepted { keys, how: how.clone(), tenants };
        let before = self.issuers.insert(how.issuer.clone(), accepted);
        anyhow::ensure!(before.is_none(), "the issuer {} is accepted already", how.issuer);
        Ok(())
    }

    /// Asks the issuers that are to be asked, so that the first caller need not wait.
    pub async fn ask_issuers(&self) {
        for accepted in self.issuers.values() {
            if let Keys::Asked(issuer) = &accepted.keys {
                issuer.refresh().await;
            }
        }
    }

    /// The caller that a token names.
    ///
    /// # Errors
    /// NOT_AUTHENTICATED, without saying what exactly is wrong: the holder of a good token does not need to know, the
    /// holder of a bad one must not.
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
        // What a token says to be critical is not understood here (RFC 7515, 4.1.11).
        if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
            return None;
        }
        // The issuer is read before the signature is checked, to find the key that must have signed.
        let issuer = jsonwebtoken::dangerous::insecure_decode::<Issued>(token).ok()?.claims.iss;
        let accepted = self.issuers.get(&issuer)?;
        let key = accepted.key(&header).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[&accepted.how.audience]);
        validation.set_issuer(&[&issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // The times are checked below against the clock that was handed in.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).ok()?.claims;
        let expires = in_time(&claims, now)?;
        Some((self.caller(accepted, &claims)?, expires))
    }

    fn caller(&self, accepted: &Accepted, claims: &Value) -> Option<Caller> {
        let named = claim(claims, &accepted.how.tenant_claim)?.as_str()?;
        let tenant = TenantId(Uuid::try_parse(named.strip_prefix("tenants/").unwrap_or(named)).ok()?);
        let roles = roles_in(claim(claims, &accepted.how.roles_claim)?);
        let foreign = !accepted.tenants.is_empty() && !accepted.tenants.contains(&tenant);
        let own = matches!(accepted.keys, Keys::Own(_));
        // The node's own offices are held by its own people: another issuer names them where it was told to speak for the node.
        let trusted = tenant == self.home && (own || accepted.tenants.contains(&tenant));
        let usurps = !trusted && roles.iter().any(|role| NODE_ROLES.contains(role));
        // Another directory has roles of its own beside; this node's issuer knows all that it names.
        let strange = own && unknown_role(claim(claims, &accepted.how.roles_claim)?);
        if roles.is_empty() || foreign || usurps || strange {
            return None;
        }
        let scopes = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        let scopes = match roles.contains(&Role::ServiceAccount) {
            true => scopes.split_whitespace().map(str::to_owned).collect(),
            false => vec!["*".to_owned()],
        };
        let person = PersonId::derive(tenant, &accepted.how.issuer, claims.get("sub")?.as_str()?);
        Some(Caller { tenant, person, roles, scopes })
    }
}

impl Accepted {
    async fn key(&self, header: &Header) -> Option<DecodingKey> {
        match &self.keys {
            Keys::Own(key) => (header.alg == Algorithm::EdDSA).then(|| key.clone()),
            Keys::Set(set) => set.find(header.kid.as_deref()?, header.alg),
            Keys::Asked(issuer) => issuer.key(header.kid.as_deref()?, header.alg).await,
        }
    }
}

/// A claim by its name, or by a JSON pointer.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

/// Whether a list holds what is no role here.
fn unknown_role(claim: &Value) -> bool {
    claim.as_array().is_some_and(|list| list.iter().any(|name| name.as_str().and_then(role_of).is_none()))
}

/// The roles that are known here, of a list or of words; each once.
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

/// When a token ends, where it holds now.
fn in_time(claims: &Value, now: i64) -> Option<i64> {
    let leeway = LEEWAY.cast_signed();
    // Some issuers write fractions of seconds.
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
    Refusal::because(Reason::NotAuthenticated, "PL-2", "the call carries no valid token")
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
        let verifier = Verifier::of(&node(1), Arc::new(clock.clone()));
        let tenant = node(3).tenant();
        let token = Issuer::of(&node(1)).issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let caller = verifier.verify(&token).await.unwrap();
        assert_eq!((caller.tenant, caller.roles.as_slice()), (tenant, &[Role::Mayor][..]));
        assert_eq!(caller.scopes, ["*"]);
        clock.set(now + chrono::TimeDelta::days(2));
        assert_eq!(verifier.verify(&token).await.unwrap_err().reason, Reason::NotAuthenticated);
        clock.set(now - chrono::TimeDelta::days(2));
        let early = Verifier::of(&node(1), Arc::new(clock));
        assert!(early.verify(&token).await.is_err(), "a token from the future");
    }

    #[tokio::test]
    async fn foreign_forged_and_malformed_tokens_are_refused_alike() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let verifier = Verifier::of(&node(1), Arc::new(ManualClock::at(now)));
        let tenant = node(3).tenant();
        let good = Issuer::of(&node(1)).issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let foreign = Issuer::of(&node(2)).issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let forged = Issuer { name: node(1).name().into(), ..Issuer::of(&node(2)) };
        let forged = forged.issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let no_role = Issuer::of(&node(1)).issue(tenant, "ana", &[], &[], now, 1).unwrap();
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[2] = "";
        let unsigned = parts.join(".");
        let steward = Issuer::of(&node(1)).issue(tenant, "ana", &[Role::Steward], &[], now, 1).unwrap();
        let long = "x".repeat(TOKEN_BYTES + 1);
        for bad in ["", "a.b.c", &foreign, &forged, &no_role, &unsigned, &steward, &long] {
            assert_eq!(verifier.verify(bad).await.unwrap_err(), unauthenticated());
        }
        assert!(verifier.verify(&good).await.is_ok());
        assert!(Issuer::of(&node(1)).issue(tenant, "a", &[Role::Mayor], &[], now, LONGEST_DAYS + 1).is_err());
    }

    #[test]
    fn every_role_has_a_name_and_back() {
        for role in (1..=13).filter_map(|n| Role::try_from(n).ok()) {
            assert_eq!(role_of(&role_name(role)), Some(role));
        }
        assert_eq!(role_of("unspecified"), None);
    }
}
