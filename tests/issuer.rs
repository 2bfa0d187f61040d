//! The program starts while an accepted issuer is not reachable, and refuses only the tokens of that issuer (PL-2).
//! services/chassis/tests/oidc.rs tests a reachable issuer.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::register::ListTenantsRequest;
use hansa_tests::{Caller, Platform, Shape};
use tonic::Code;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// The address of an issuer that is not reachable: no process listens on this port.
const AWAY: &str = "http://127.0.0.1:9";
/// A token of this issuer with the header `{"alg":"EdDSA","kid":"1"}`.
const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwOi8vMTI3LjAuMC4xOjkiLCJhdWQiOiJoYW5zYSJ9.AAAA";

async fn lists(caller: &Caller) -> Result<(), Code> {
    let answer = caller.tenants().list_tenants(ListTenantsRequest::default()).await;
    answer.map(drop).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_keeps_nobody_from_starting() {
    let issuers = format!(r#"[{{issuer="{AWAY}", roles_claim="/realm_access/roles"}}]"#);
    let mut platform = Platform::start_with(HANSA, Shape::Embedded, vec![("HANSA_ISSUERS", issuers)]).await;
    assert_eq!(lists(&platform.with_token(TOKEN)).await, Err(Code::Unauthenticated));
    assert_eq!(lists(&platform.steward()).await, Ok(()));
    platform.stop();
}
