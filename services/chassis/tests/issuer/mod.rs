//! A local OpenID Connect issuer: a discovery document, a key set, and tokens signed with three kinds of keys.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rsa::{pkcs1::EncodeRsaPrivateKey, rand_core::OsRng};
use serde_json::{Value, json};
use std::sync::{
    Arc, LazyLock, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A signing key with its id.
#[derive(Clone)]
pub struct Key {
    pub kid: &'static str,
    pub algorithm: Algorithm,
    pub secret: EncodingKey,
}

static RSA: LazyLock<EncodingKey> = LazyLock::new(|| {
    let key = rsa::RsaPrivateKey::new(&mut OsRng, 2_048).unwrap();
    EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes())
});

pub fn rsa_key(kid: &'static str) -> Key {
    Key { kid, algorithm: Algorithm::RS256, secret: RSA.clone() }
}

pub fn ec_key(kid: &'static str) -> Key {
    use p256::pkcs8::EncodePrivateKey;
    let key = p256::SecretKey::random(&mut OsRng);
    Key { kid, algorithm: Algorithm::ES256, secret: EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes()) }
}

pub fn ed_key(kid: &'static str) -> Key {
    let mut der = hex::decode("302e020100300506032b657004220420").unwrap();
    der.extend_from_slice(&hansa_journal::random_bytes::<32>());
    Key { kid, algorithm: Algorithm::EdDSA, secret: EncodingKey::from_ed_der(&der) }
}

impl Key {
    /// Returns the public key as an entry of a key set.
    pub fn public(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.secret, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = self.kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.into()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.secret).unwrap()
    }
}

pub fn key_set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()}).to_string()
}

/// The issuer's answers: the discovery document and the key set.
type Answers = Arc<Mutex<(String, String)>>;

pub struct Server {
    pub address: String,
    pub asked: Arc<AtomicUsize>,
    answers: Answers,
    running: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Server {
    pub async fn start(keys: &[&Key]) -> Self {
        Self::at("127.0.0.1:0", keys).await
    }

    pub async fn at(address: &str, keys: &[&Key]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let description = json!({"issuer": address, "jwks_uri": format!("{address}/keys"), "more": [1]});
        let answers = Arc::new(Mutex::new((description.to_string(), key_set(keys))));
        let asked = Arc::new(AtomicUsize::new(0));
        let (told, count) = (answers.clone(), asked.clone());
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, told.clone(), count.clone()));
            }
        });
        Self { address, asked, answers, running }
    }

    pub fn describe(&self, description: &Value) {
        self.answers.lock().unwrap().0 = description.to_string();
    }

    pub fn publish(&self, keys: String) {
        self.answers.lock().unwrap().1 = keys;
    }

    /// Returns the number of requests for the key set.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, answers: Answers, asked: Arc<AtomicUsize>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1_024];
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let (description, keys) = answers.lock().unwrap().clone();
    let (status, body) = if request.starts_with(b"GET /.well-known/openid-configuration ") {
        ("200 OK", description)
    } else if request.starts_with(b"GET /keys ") {
        asked.fetch_add(1, Ordering::SeqCst);
        ("200 OK", keys)
    } else {
        ("404 Not Found", String::new())
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes()).await;
}
