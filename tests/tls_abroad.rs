//! TLS with the program as client: to token issuers, NATS and PostgreSQL. The program trusts the authorities of the
//! operating system or of `SSL_CERT_FILE`, and does not fall back to plain text. (The PostgreSQL of the tests has no
//! TLS.)
#![allow(clippy::unwrap_used, missing_docs)]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::Signer;
use hansa_journal::NodeKeys;
use hansa_proto::register::ListTenantsRequest;
use hansa_tests::{
    Caller, Platform, Servers, Shape,
    certificates::{Age, Authority, Certified, file},
    eventually,
    servers::tool,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tonic::Code;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

/// Starts a token issuer that serves its keys over TLS. Returns its address.
async fn issuer(own: &Certified, keys: &NodeKeys) -> String {
    let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let description = json!({"issuer": address, "jwks_uri": format!("{address}/keys")}).to_string();
    let public = URL_SAFE_NO_PAD.encode(keys.verifying().as_bytes());
    let key = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "1", "x": public});
    let set = json!({"keys": [key]}).to_string();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = [0; 2_048];
            let length = stream.read(&mut asked).await.unwrap_or_default();
            let body = if asked[..length].starts_with(b"GET /keys ") { &set } else { &description };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn token(keys: &NodeKeys, issuer: &str) -> String {
    let now = chrono::Utc::now().timestamp();
    let claims = json!({"iss": issuer, "sub": "x", "aud": "hansa", "exp": now + 600, "iat": now - 5,
        "tenant": keys.tenant().to_string(), "roles": ["mayor"]});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": "1"})), part(&claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(keys.signing().sign(signed.as_bytes()).to_bytes()))
}

async fn known(caller: &Caller) -> bool {
    let answer = caller.tenants().list_tenants(ListTenantsRequest::default()).await;
    answer.map_or_else(|status| status.code() != Code::Unauthenticated, |_| true)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_believed_under_an_authority_that_is_trusted_and_no_other() {
    let (folder, ours, other) = (tempfile::tempdir().unwrap(), Authority::new("ours"), Authority::new("another"));
    let keys = NodeKeys::from_secret(&[3; 32]);
    let address = issuer(&ours.certify(Age::Good), &keys).await;
    let expired = issuer(&ours.certify(Age::Expired), &keys).await;
    let issuers = format!(r#"[{{issuer="{address}"}}, {{issuer="{expired}"}}]"#);
    for (trusted, believed) in [(&ours, true), (&other, false)] {
        let trusted = file(folder.path(), "trusted.pem", &trusted.pem()).display().to_string();
        let variables = vec![("HANSA_ISSUERS", issuers.clone()), ("SSL_CERT_FILE", trusted)];
        let mut platform = Platform::start_with(HANSA, Shape::Embedded, variables).await;
        assert_eq!(known(&platform.with_token(&token(&keys, &address))).await, believed);
        assert!(
            !known(&platform.with_token(&token(&keys, &expired))).await,
            "the certificate of the issuer has expired"
        );
        platform.stop();
    }
}

/// A nats-server with TLS.
struct Nats(Child, String);

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Nats {
    fn start(folder: &Path, own: &Certified) -> Self {
        let (certificate, key) = (file(folder, "nats.pem", &own.certificate), file(folder, "nats.key", &own.key));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut command = Command::new(tool("nats-server"));
        command.args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"]).arg(folder.join("store"));
        command.arg("--tls").arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self(child, format!("tls://localhost:{port}"))
    }
}

/// Returns whether `hansa doctor` can reach the broker.
fn broker_is_well(folder: &Path, database: &str, nats: &str, trusted: &Path) -> bool {
    let mut command = Command::new(HANSA);
    command.args(["doctor", "--json", "--database", database, "--nats", nats, "--data"]).arg(folder.join("data"));
    let output = command.env("SSL_CERT_FILE", trusted).output().unwrap();
    let looks: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    looks.as_array().unwrap().iter().find(|look| look["what"] == "NATS").unwrap()["well"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_spoken_to_by_tls_under_an_authority_that_is_trusted_and_no_other() {
    let (folder, servers) = (tempfile::tempdir().unwrap(), Servers::start());
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let trusted = file(folder.path(), "ours.pem", &ours.pem());
    let stranger = file(folder.path(), "other.pem", &other.pem());
    let nats = Nats::start(folder.path(), &ours.certify(Age::Good));
    let well = |url: &str, trusted: &Path| broker_is_well(folder.path(), &servers.database(), url, trusted);
    eventually("NATS is up", async || well(&nats.1, &trusted).then_some(())).await;
    assert!(!well(&nats.1, &stranger));
    assert!(!well(&servers.nats().replace("nats://", "tls://"), &trusted), "the program falls back to plain text");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_not_spoken_to_in_plain_text_where_tls_is_asked_for() {
    let (folder, servers) = (tempfile::tempdir().unwrap(), Servers::start());
    let ca = file(folder.path(), "ca.pem", &Authority::new("ours").pem());
    let database = format!("{}?sslmode=verify-full&sslrootcert={}", servers.database(), ca.display());
    let mut command = Command::new(HANSA);
    command
        .args(["doctor", "--database", &database, "--nats", &servers.nats(), "--data"])
        .arg(folder.path().join("data"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("TLS"), "{said}");
}
