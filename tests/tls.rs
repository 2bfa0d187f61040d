//! TLS and client certificates by configuration: which clients the server accepts, and that no connection falls back to
//! plain text.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::register::ListTenantsRequest;
use hansa_tests::{
    Platform,
    certificates::{Age, Authority, Certified, file},
};
use std::{path::Path, process::Command, time::Duration};
use tempfile::TempDir;
use tonic::transport::{ClientTlsConfig, Endpoint};

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

/// Returns the variables of a server with this certificate. The server accepts clients with certificates of `clients`.
fn server(folder: &Path, own: &Certified, clients: Option<&Authority>) -> Vec<(&'static str, String)> {
    let written = |name: &str, text: &str| file(folder, name, text).display().to_string();
    let mut variables = vec![
        ("HANSA_TLS_CERTIFICATE", written("server.pem", &own.certificate)),
        ("HANSA_TLS_KEY", written("server.key", &own.key)),
    ];
    variables.extend(clients.map(|clients| ("HANSA_TLS_CLIENT_CA", written("clients.pem", &clients.pem()))));
    variables
}

/// Returns whether a caller with a valid token gets an answer. Without `tls` the caller uses plain text.
async fn answered(platform: &Platform, tls: Option<ClientTlsConfig>) -> bool {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", platform.address())).unwrap();
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).unwrap();
    }
    let endpoint = endpoint.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(5));
    // With TLS 1.3 a client learns with its first call that its certificate was refused.
    let Ok(channel) = endpoint.connect().await else { return false };
    let caller = platform.steward().through(&channel);
    caller.tenants().list_tenants(ListTenantsRequest::default()).await.is_ok()
}

/// Runs the command line against a running server. Returns whether it succeeds.
fn command(platform: &Platform, arguments: &[&str]) -> bool {
    let server = format!("https://localhost:{}", platform.address().rsplit_once(':').unwrap().1);
    let arguments = [&["tenant", "list", "--server", &server], arguments].concat();
    platform.hansa(&arguments).output().unwrap().status.success()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_certificate_speaks_tls_and_nothing_else() {
    let (folder, ours, other) = (folder(), Authority::new("ours"), Authority::new("another"));
    let variables = server(folder.path(), &ours.certify(Age::Good), None);
    let mut platform = Platform::secured(HANSA, variables, ours.trusted(None)).await;
    assert!(answered(&platform, Some(ours.trusted(None))).await);
    assert!(!answered(&platform, None).await, "the server accepts plain text");
    assert!(!answered(&platform, Some(other.trusted(None))).await, "the client trusts an unknown authority");
    assert!(
        !answered(&platform, Some(ours.trusted(None).domain_name("example.org"))).await,
        "the client accepts another host name"
    );
    let ca = file(folder.path(), "ca.pem", &ours.pem()).display().to_string();
    assert!(command(&platform, &["--ca", &ca]));
    let wrong = file(folder.path(), "other.pem", &other.pem()).display().to_string();
    assert!(!command(&platform, &["--ca", &wrong]));
    platform.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_for_clients_each_must_show_its_certificate() {
    let (folder, ours, clients, other) =
        (folder(), Authority::new("ours"), Authority::new("clients"), Authority::new("another"));
    let variables = server(folder.path(), &ours.certify(Age::Good), Some(&clients));
    let good = clients.certify(Age::Good);
    let mut platform = Platform::secured(HANSA, variables, ours.trusted(Some(&good))).await;
    assert!(answered(&platform, Some(ours.trusted(Some(&good)))).await);
    assert!(!answered(&platform, Some(ours.trusted(None))).await, "no certificate");
    assert!(
        !answered(&platform, Some(ours.trusted(Some(&other.certify(Age::Good))))).await,
        "a certificate of another authority"
    );
    assert!(
        !answered(&platform, Some(ours.trusted(Some(&ours.certify(Age::Good))))).await,
        "a certificate of the server's authority"
    );
    assert!(
        !answered(&platform, Some(ours.trusted(Some(&clients.certify(Age::Expired))))).await,
        "an expired certificate"
    );
    assert!(!answered(&platform, None).await, "plain text");
    let written = |name: &str, text: &str| file(folder.path(), name, text).display().to_string();
    let ca = written("ca.pem", &ours.pem());
    let (certificate, key) = (written("client.pem", &good.certificate), written("client.key", &good.key));
    assert!(command(&platform, &["--ca", &ca, "--client-certificate", &certificate, "--client-key", &key]));
    assert!(!command(&platform, &["--ca", &ca]));
    platform.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_server_is_not_believed() {
    let (folder, ours) = (folder(), Authority::new("ours"));
    let variables = server(folder.path(), &ours.certify(Age::Expired), None);
    let mut started = Command::new(HANSA);
    started.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path()).envs(variables);
    let process = hansa_tests::platform::Listening::start(&mut started);
    let connected = async |tls: ClientTlsConfig| {
        let endpoint = Endpoint::from_shared(format!("https://{}", process.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    };
    let error = connected(ours.trusted(None)).await.unwrap_err();
    assert!(format!("{error:?}").contains("Expired"), "{error:?}");
}

/// Returns the error of a program that refuses to start.
fn refused(arguments: &[&str], variables: &[(&'static str, String)]) -> String {
    let folder = folder();
    let mut command = Command::new(HANSA);
    command.args(["serve", "--data"]).arg(folder.path()).args(arguments).envs(variables.iter().cloned());
    let output = command.output().unwrap();
    assert!(!output.status.success(), "the program started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn plain_text_is_not_served_to_others_unless_it_was_asked_for() {
    let said = refused(&["--listen", "0.0.0.0:0"], &[]);
    assert!(said.contains("loopback") && said.contains("plaintext"), "{said}");
    let folder = folder();
    let mut command = Command::new(HANSA);
    command.args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(folder.path()).env("HANSA_PLAINTEXT", "true");
    assert!(hansa_tests::platform::Listening::start(&mut command).address.ends_with(char::is_numeric));
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let (folder, ours) = (folder(), Authority::new("ours"));
    let (one, other) = (ours.certify(Age::Good), ours.certify(Age::Good));
    let mixed = Certified { certificate: one.certificate, key: other.key };
    let said = refused(&["--listen", "127.0.0.1:0"], &server(folder.path(), &mixed, None));
    assert!(said.contains("certificate"), "{said}");
    let gone = vec![("HANSA_TLS_CERTIFICATE", "/nowhere.pem".into()), ("HANSA_TLS_KEY", "/nowhere.key".into())];
    let said = refused(&["--listen", "127.0.0.1:0"], &gone);
    assert!(said.contains("/nowhere.pem"), "{said}");
}
