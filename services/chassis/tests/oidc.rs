//! Tokens of an OpenID Connect issuer that is configured only by its address (PL-2). The tests run a real issuer
//! locally.
#![allow(clippy::unwrap_used, missing_docs)]

mod issuer;

use chrono::{DateTime, TimeDelta, Utc};
use hansa_chassis::{config::IssuerConfig, limits::ISSUER_ANSWER_BYTES, token::Verifier};
use hansa_journal::{ManualClock, NodeKeys};
use hansa_kernel::{Caller, ReasonClass, Role, TenantId};
use issuer::{Key, Server, ec_key, ed_key, key_set, rsa_key};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Maximum time for each step.
const SOON: Duration = Duration::from_secs(30);

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).unwrap()
}

fn node() -> NodeKeys {
    NodeKeys::from_secret(&[1; 32])
}

fn city() -> TenantId {
    NodeKeys::from_secret(&[2; 32]).tenant()
}

/// A node that accepts one issuer.
struct Node {
    verifier: Verifier,
    clock: ManualClock,
    now: DateTime<Utc>,
}

impl Node {
    fn accepting(how: &IssuerConfig) -> Self {
        let clock = ManualClock::at(start());
        let mut verifier = Verifier::new(&node(), Arc::new(clock.clone()));
        verifier.accept(how).unwrap();
        Self { verifier, clock, now: start() }
    }

    fn wait(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
        self.clock.set(self.now);
    }

    async fn caller(&self, token: &str) -> Option<Caller> {
        match self.verifier.verify(token).await {
            Ok(caller) => Some(caller),
            Err(refusal) => {
                assert_eq!(refusal.class, ReasonClass::NotAuthenticated);
                None
            }
        }
    }

    async fn accepts(&self, token: &str) -> bool {
        self.caller(token).await.is_some()
    }
}

fn claims(issuer: &str) -> Value {
    let at = start().timestamp();
    json!({"iss": issuer, "sub": "ana", "aud": "hansa", "exp": at + 1_000_000, "iat": at, "tenant": city().0,
        "roles": ["mayor"]})
}

fn with(issuer: &str, changed: &Value) -> Value {
    let mut claims = claims(issuer);
    for (name, value) in changed.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn tokens_of_three_algorithms_are_accepted_and_the_keys_fetched_once() {
    let keys = [rsa_key("r"), ec_key("e"), ed_key("d")];
    let server = Server::start(&keys.each_ref()).await;
    let node = Node::accepting(&IssuerConfig::new(&server.address));
    for key in &keys {
        let caller = node.caller(&key.sign(&claims(&server.address))).await.unwrap();
        assert_eq!((caller.tenant, caller.roles.as_slice()), (city(), &[Role::Mayor][..]), "{}", key.kid);
        assert_eq!(caller.scopes, ["*"]);
    }
    assert_eq!(server.asked(), 1);
    let several = with(&server.address, &json!({"aud": ["other", "hansa"], "roles": "mayor offline_access"}));
    assert_eq!(node.caller(&keys[2].sign(&several)).await.unwrap().roles, [Role::Mayor]);
}

#[tokio::test]
async fn whoever_comes_while_an_issuer_is_asked_waits_for_its_answer() {
    let key = ed_key("d");
    let server = Server::start(&[&key]).await;
    let node = Node::accepting(&IssuerConfig::new(&server.address));
    let [one, other] = ["ana", "ben"].map(|who| key.sign(&with(&server.address, &json!({"sub": who}))));
    assert_eq!(tokio::join!(node.accepts(&one), node.accepts(&other)), (true, true));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn what_is_for_others_or_for_another_time_is_refused() {
    let key = ed_key("d");
    let server = Server::start(&[&key]).await;
    let node = Node::accepting(&IssuerConfig::new(&server.address));
    let at = start().timestamp();
    for wrong in [
        json!({"aud": "other"}),
        json!({"aud": ["other"]}),
        json!({"aud": null}),
        json!({"iss": "https://id.example.org"}),
        json!({"iss": format!("{}/", server.address)}),
        json!({"exp": at - 31}),
        json!({"exp": null}),
        json!({"exp": "never"}),
        json!({"nbf": at + 60}),
        json!({"iat": at + 60}),
        json!({"tenant": "ana"}),
        json!({"roles": ["emperor"]}),
        json!({"roles": []}),
        json!({"sub": null}),
        json!({"roles": ["mayor", "steward"]}),
        json!({"roles": ["auditor"]}),
        json!({"roles": ["operator"]}),
    ] {
        assert!(!node.accepts(&key.sign(&with(&server.address, &wrong))).await, "{wrong}");
    }
    // A role of the node itself needs an issuer that is configured for the node's tenant.
    let steward = with(&server.address, &json!({"roles": ["steward"], "tenant": node_tenant()}));
    assert!(!node.accepts(&key.sign(&steward)).await, "the issuer may not grant roles of the node");
    let trusted = IssuerConfig { tenants: vec![node_tenant()], ..IssuerConfig::new(&server.address) };
    assert!(Node::accepting(&trusted).accepts(&key.sign(&steward)).await, "the issuer may grant roles of the node");
}

fn node_tenant() -> String {
    node().tenant().name()
}

#[tokio::test]
async fn claims_are_mapped_and_an_issuer_speaks_for_its_tenants_alone() {
    let key = ed_key("d");
    let server = Server::start(&[&key]).await;
    let how = IssuerConfig {
        audience: "city-hall".into(),
        tenant_claim: "https://example.org/tenant".into(),
        roles_claim: "/realm_access/roles".into(),
        tenants: vec![city().name()],
        ..IssuerConfig::new(&server.address)
    };
    let node = Node::accepting(&how);
    let mut own = with(
        &server.address,
        &json!({"aud": "city-hall", "tenant": null, "roles": null, "https://example.org/tenant": city().name(),
            "realm_access": {"roles": ["council_clerk", "uma_authorization"]}}),
    );
    let caller = node.caller(&key.sign(&own)).await.unwrap();
    assert_eq!((caller.tenant, caller.roles.as_slice()), (city(), &[Role::CouncilClerk][..]));
    own["https://example.org/tenant"] = node_tenant().into();
    assert!(!node.accepts(&key.sign(&own)).await, "the issuer does not speak for this tenant");
    assert!(!node.accepts(&key.sign(&claims(&server.address))).await, "the token has the default claims and audience");
}

#[tokio::test]
async fn keys_rotate_and_what_is_withdrawn_ends() {
    let (old, new) = (ec_key("1"), ed_key("2"));
    let server = Server::start(&[&old]).await;
    let mut node = Node::accepting(&IssuerConfig::new(&server.address));
    assert!(node.accepts(&old.sign(&claims(&server.address))).await);
    server.publish(key_set(&[&new]));
    node.wait(61);
    assert!(node.accepts(&new.sign(&claims(&server.address))).await, "an unknown key id causes a fetch of the keys");
    assert_eq!(server.asked(), 2);
    let again = with(&server.address, &json!({"sub": "bo"}));
    assert!(!node.accepts(&old.sign(&again)).await, "the key was withdrawn");
    server.publish(key_set(&[&old]));
    assert!(node.accepts(&new.sign(&again)).await, "the keys are cached for an hour");
    node.wait(3_601);
    assert!(
        !node.accepts(&new.sign(&with(&server.address, &json!({"sub": "cy"})))).await,
        "after an hour the keys are fetched again"
    );
    assert!(node.accepts(&old.sign(&again)).await);
}

#[tokio::test]
async fn a_storm_of_unknown_keys_asks_once_a_minute() {
    let (key, foreign) = (ed_key("1"), ed_key("x"));
    let server = Server::start(&[&key]).await;
    let mut node = Node::accepting(&IssuerConfig::new(&server.address));
    assert!(node.accepts(&key.sign(&claims(&server.address))).await);
    for minute in 1..=3 {
        node.wait(61);
        let tokens: Vec<String> = (0..200)
            .map(|n| {
                let header = Header { kid: Some(format!("{minute}-{n}")), ..Header::new(Algorithm::EdDSA) };
                jsonwebtoken::encode(&header, &claims(&server.address), &foreign.secret).unwrap()
            })
            .collect();
        let storm = futures::future::join_all(tokens.iter().map(|token| node.accepts(token))).await;
        assert!(storm.into_iter().all(|accepted| !accepted));
        assert_eq!(server.asked(), 1 + minute);
    }
}

#[tokio::test]
async fn a_key_serves_its_own_algorithm_alone() {
    let (rsa, ec) = (rsa_key("r"), ec_key("e"));
    let server = Server::start(&[&rsa, &ec]).await;
    let node = Node::accepting(&IssuerConfig::new(&server.address));
    assert!(node.accepts(&rsa.sign(&claims(&server.address))).await);
    // Use the public key, in several encodings, as an HMAC secret.
    let (n, public) = (rsa.public()["n"].as_str().unwrap().to_owned(), rsa.public().to_string());
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &n).unwrap();
    for secret in [n.as_bytes(), public.as_bytes(), &decoded] {
        let header = Header { kid: Some("r".into()), ..Header::new(Algorithm::HS256) };
        let secret = EncodingKey::from_secret(secret);
        assert!(!node.accepts(&jsonwebtoken::encode(&header, &claims(&server.address), &secret).unwrap()).await);
    }
    let swapped = Key { kid: "e", ..rsa.clone() };
    assert!(!node.accepts(&swapped.sign(&claims(&server.address))).await, "RS256 with the id of an ES256 key");
    let swapped = Key { kid: "r", ..ec.clone() };
    assert!(!node.accepts(&swapped.sign(&claims(&server.address))).await, "ES256 with the id of an RS256 key");
    let stronger = Key { algorithm: Algorithm::RS512, ..rsa.clone() };
    assert!(!node.accepts(&stronger.sign(&claims(&server.address))).await, "the algorithm is not on the list");
    let good = ec.sign(&claims(&server.address));
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"none","kid":"e"}"#, r#"{"alg":"None","kid":"e"}"#] {
        for signature in ["", parts[2]] {
            assert!(!node.accepts(&format!("{}.{}.{signature}", encode(header), parts[1])).await);
        }
    }
    let critical = Header { crit: Some(vec!["b64".into()]), kid: Some("e".into()), ..Header::new(Algorithm::ES256) };
    let critical = jsonwebtoken::encode(&critical, &claims(&server.address), &ec.secret).unwrap();
    assert!(!node.accepts(&critical).await);
    let nameless = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims(&server.address), &ec.secret).unwrap();
    assert!(!node.accepts(&nameless).await);
}

#[tokio::test]
async fn an_issuer_that_is_away_is_waited_for() {
    let key = ed_key("d");
    let server = Server::start(&[&key]).await;
    let address = server.address.clone();
    drop(server);
    let mut node = Node::accepting(&IssuerConfig::new(&address));
    node.verifier.fetch_keys().await;
    let token = key.sign(&claims(&address));
    assert!(!node.accepts(&token).await);
    let deadline = Instant::now() + SOON;
    let back = loop {
        // The closed server may hold the port for a short time.
        let host = address.trim_start_matches("http://").to_owned();
        if tokio::net::TcpListener::bind(&host).await.is_ok() {
            break Server::at(&host, &[&key]).await;
        }
        assert!(Instant::now() < deadline, "{host} is not free again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    node.wait(6);
    assert!(node.accepts(&token).await);
    drop(back);
    node.wait(7_200);
    assert!(node.accepts(&key.sign(&with(&address, &json!({"sub": "bo"})))).await, "cached keys remain valid");
    node.wait(24 * 3_600);
    assert!(!node.accepts(&key.sign(&with(&address, &json!({"sub": "cy"})))).await, "cached keys expire after a day");
}

#[tokio::test]
async fn an_issuer_that_misbehaves_is_not_believed() {
    let key = ed_key("d");
    let server = Server::start(&[&key]).await;
    let mut node = Node::accepting(&IssuerConfig::new(&server.address));
    let token = key.sign(&claims(&server.address));
    let keys = format!("{}/keys", server.address);
    for wrong in [
        json!({"issuer": "https://id.example.org", "jwks_uri": keys}),
        json!({"issuer": server.address, "jwks_uri": "http://id.example.org/keys"}),
        json!({"issuer": server.address, "jwks_uri": format!("{}/nothing", server.address)}),
        json!({"issuer": server.address}),
        json!([]),
    ] {
        server.describe(&wrong);
        assert!(!node.accepts(&token).await, "{wrong}");
        node.wait(6);
    }
    server.describe(&json!({"issuer": server.address, "jwks_uri": keys}));
    let good = key_set(&[&key]);
    server.publish(format!("{good}{}", " ".repeat(ISSUER_ANSWER_BYTES)));
    assert!(!node.accepts(&token).await, "the key set exceeds the size limit");
    server.publish(good);
    node.wait(6);
    assert!(node.accepts(&token).await);
}
