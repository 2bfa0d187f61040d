//! Tokens (R-7, PL-2): every rpc refuses every invalid token with the same answer, and a service account may call
//! only the rpcs of its scopes.
#![allow(clippy::unwrap_used, missing_docs)]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::Signer;
use hansa_journal::NodeKeys;
use hansa_tests::{
    Caller, Platform, Shape,
    filler::fill,
    raw::{methods, scope, short},
    refusals::{denied, shape},
    world::World,
};
use prost_reflect::prost::Message;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use tonic::Code;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

/// Returns a token with any header and claims, signed by the issuer key of this node.
fn forge(header: &serde_json::Value, claims: &serde_json::Value, keys: &NodeKeys) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = NodeKeys::from_secret(&keys.derive("token issuer")).signing().sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

/// Returns invalid tokens, each with its defect.
fn bad_tokens(platform: &Platform, world: &World) -> Vec<(&'static str, String)> {
    let keys = NodeKeys::open(&platform.data().join("node.key")).unwrap();
    let foreign = NodeKeys::from_secret(&[7; 32]);
    let now = chrono::Utc::now().timestamp();
    let tenant = world.a.tenant.trim_start_matches("tenants/");
    let claims = json!({"iss": keys.name(), "sub": "x", "aud": "hansa", "exp": now + 600, "iat": now - 5, "tenant": tenant,
        "roles": ["mayor"], "scope": ""});
    let header = json!({"alg": "EdDSA", "typ": "JWT"});
    let with = |name: &str, value: serde_json::Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        forge(&header, &changed, &keys)
    };
    let good = forge(&header, &claims, &keys);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[0] ^= 1;
    let mut foreigner = claims.clone();
    foreigner["iss"] = json!(foreign.name());
    let unsigned = forge(&json!({"alg": "none"}), &claims, &keys);
    vec![
        ("none", String::new()),
        ("nonsense", "a.b.c".into()),
        ("expired", with("exp", json!(now - 60))),
        ("not yet issued", with("iat", json!(now + 3_600))),
        ("of a foreign node", forge(&header, &foreigner, &foreign)),
        ("of a foreign node in this one's name", forge(&header, &claims, &foreign)),
        ("wrongly signed", format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&flipped))),
        ("signed with another part", format!("{signed}.{}", with("sub", json!("y")).rsplit_once('.').unwrap().1)),
        ("cut", good[..good.len() - 8].to_owned()),
        ("unsigned", format!("{}.", unsigned.rsplit_once('.').unwrap().0)),
        ("with a symmetric algorithm", forge(&json!({"alg": "HS256"}), &claims, &keys)),
        ("for another audience", with("aud", json!("another"))),
        ("without a role", with("roles", json!([]))),
        ("with an unknown role", with("roles", json!(["mayor", "emperor"]))),
        ("of a city with a role of the node", with("roles", json!(["mayor", "steward"]))),
        ("without a tenant", with("tenant", json!("nobody"))),
        ("far too long", "x".repeat(10_000)),
    ]
}

async fn tokens(platform: &Platform, world: &World) -> usize {
    let mut alike = BTreeSet::new();
    let bad: Vec<(&str, Caller)> =
        bad_tokens(platform, world).into_iter().map(|(what, token)| (what, platform.with_token(&token))).collect();
    let mut count = 0;
    for method in methods() {
        let message = fill(&method.input(), &world.known()).encode_to_vec();
        for (what, caller) in &bad {
            let refused = caller.call(&method, message.clone()).await;
            let status = refused.err().unwrap_or_else(|| panic!("{} with a token {what}", short(&method)));
            assert_eq!(status.code(), Code::Unauthenticated, "{} with a token {what}: {status:?}", short(&method));
            alike.insert(shape(&status));
            count += 1;
        }
    }
    assert_eq!(alike.len(), 1, "the answers reveal the defect of a token: {alike:?}");
    count
}

/// Checks that a service account cannot call an rpc outside its scopes. Returns the number of calls.
async fn scopes(platform: &Platform, world: &World) -> usize {
    let all: BTreeSet<String> = methods().iter().map(scope).collect();
    let of =
        |scopes: &[&str]| platform.with_token(&platform.token_for(Some(&world.a.tenant), "service_account", scopes));
    let none = of(&[]);
    let but: HashMap<&String, Caller> = all
        .iter()
        .map(|left_out| (left_out, of(&all.iter().filter(|s| *s != left_out).map(String::as_str).collect::<Vec<_>>())))
        .collect();
    let mut count = 0;
    for method in methods() {
        let message = fill(&method.input(), &world.known()).encode_to_vec();
        for caller in [&none, &but[&scope(&method)]] {
            let status = caller.call(&method, message.clone()).await.err();
            let status = status.unwrap_or_else(|| panic!("{} without its scope", short(&method)));
            assert!(denied(&status), "{} without its scope: {status:?}", short(&method));
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_bad_tokens_and_missing_scopes_open_nothing() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let world = World::on(&platform).await;
    let (bad, scoped) = (tokens(&platform, &world).await, scopes(&platform, &world).await);
    println!("{bad} calls with bad tokens, {scoped} without their scope");
    platform.stop();
}
