//! Tokens: who issues them here, and whose are accepted.
//!
//! The embedded issuer signs with a key derived from the node's own; other issuers are named in the configuration with
//! their key sets (JWKS). A verified token is remembered for a minute at most, and never beyond its expiry.

use crate::limits::{TOKEN_BYTES, VERIFIED_FOR, VERIFIED_TOKENS};
use chrono::{DateTime, Utc};
use hansa_journal::{Clock, NodeKeys};
use hansa_kernel::{Caller, PersonId, Reason, Refusal, Role, TenantId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk::JwkSet};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
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
const ALGORITHMS: [Algorithm; 3] = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256];

/// What a token says.
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
    One(DecodingKey),
    Set(JwkSet),
}

/// Verifies tokens.
pub struct Verifier {
    issuers: HashMap<String, Keys>,
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
        let key = Keys::One(DecodingKey::from_ed_der(public.as_bytes()));
        Self {
            issuers: HashMap::from([(node.name().to_owned(), key)]),
            home: node.tenant(),
            verified: Cache::builder().max_capacity(VERIFIED_TOKENS).time_to_live(VERIFIED_FOR).build(),
            clock,
        }
    }

    /// Accepts another issuer with its key set (JWKS, as JSON).
    ///
    /// # Errors
    /// Where the key set cannot be read.
    pub fn accept(&mut self, issuer: &str, jwks: &str) -> Result<(), serde_json::Error> {
        self.issuers.insert(issuer.to_owned(), Keys::Set(serde_json::from_str(jwks)?));
        Ok(())
    }

    /// The caller that a token names.
    ///
    /// # Errors
    /// NOT_AUTHENTICATED, without saying what exactly is wrong: the holder of a good token does not need to know, the
    /// holder of a bad one must not.
    pub fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let now = self.clock.now().timestamp();
        if token.len() > TOKEN_BYTES {
            return Err(unauthenticated());
        }
        if let Some(known) = self.verified.get(token)
            && known.1 > now
        {
            return Ok(known.0.clone());
        }
        let (caller, expires) = self.read(token, now).ok_or_else(unauthenticated)?;
        self.verified.insert(token.to_owned(), Arc::new((caller.clone(), expires)));
        Ok(caller)
    }

    fn read(&self, token: &str, now: i64) -> Option<(Caller, i64)> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if !ALGORITHMS.contains(&header.alg) {
            return None;
        }
        // The issuer is read before the signature is checked, to find the key that must have signed.
        let issuer = jsonwebtoken::dangerous::insecure_decode::<Claims>(token).ok()?.claims.iss;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&issuer]);
        validation.leeway = LEEWAY;
        // Expiry is checked below against the clock that was handed in.
        validation.validate_exp = false;
        let key = match self.issuers.get(&issuer)? {
            Keys::One(key) if header.alg == Algorithm::EdDSA => key.clone(),
            Keys::One(_) => return None,
            Keys::Set(set) => DecodingKey::from_jwk(set.find(header.kid.as_deref()?)?).ok()?,
        };
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).ok()?.claims;
        let leeway = LEEWAY.cast_signed();
        if claims.exp + leeway <= now || claims.iat - leeway > now {
            return None;
        }
        let roles: Vec<Role> = claims.roles.iter().map(|name| role_of(name)).collect::<Option<_>>()?;
        if roles.is_empty() {
            return None;
        }
        let tenant = TenantId(claims.tenant);
        // The node's own offices are held by its own people, whatever another issuer says.
        if tenant != self.home && roles.iter().any(|role| NODE_ROLES.contains(role)) {
            return None;
        }
        let scopes: Vec<String> = claims.scope.split_whitespace().map(str::to_owned).collect();
        let program = roles.contains(&Role::ServiceAccount);
        let scopes = if program { scopes } else { vec!["*".to_owned()] };
        let person = PersonId::derive(tenant, &claims.iss, &claims.sub);
        Some((Caller { tenant, person, roles, scopes }, claims.exp))
    }
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

    #[test]
    fn a_token_names_its_caller_until_it_expires() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let clock = ManualClock::at(now);
        let verifier = Verifier::of(&node(1), Arc::new(clock.clone()));
        let tenant = node(3).tenant();
        let token = Issuer::of(&node(1)).issue(tenant, "ana", &[Role::Mayor], &[], now, 1).unwrap();
        let caller = verifier.verify(&token).unwrap();
        assert_eq!((caller.tenant, caller.roles.as_slice()), (tenant, &[Role::Mayor][..]));
        assert_eq!(caller.scopes, ["*"]);
        clock.set(now + chrono::TimeDelta::days(2));
        assert_eq!(verifier.verify(&token).unwrap_err().reason, Reason::NotAuthenticated);
        clock.set(now - chrono::TimeDelta::days(2));
        let early = Verifier::of(&node(1), Arc::new(clock));
        assert!(early.verify(&token).is_err(), "a token from the future");
    }

    #[test]
    fn foreign_forged_and_malformed_tokens_are_refused_alike() {
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
            assert_eq!(verifier.verify(bad).unwrap_err(), unauthenticated());
        }
        assert!(verifier.verify(&good).is_ok());
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
