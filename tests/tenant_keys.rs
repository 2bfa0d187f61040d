//! The host keeps the keys of its tenants wrapped under its own key. Tenant keys sign the identity log, and a tenant
//! can rotate its key (PL-5, PL-7).
#![allow(clippy::unwrap_used, missing_docs)]

use ed25519_dalek::VerifyingKey;
use hansa_kernel::{Role, envelope};
use hansa_proto::{
    changes::ListChangesRequest,
    register::{CreateTenantRequest, GetTenantRequest, IdentityEntry, RotateTenantKeyRequest, Tenant, TenantKind},
    types::Change,
};
use hansa_tests::{Caller, Platform, Shape, request_id};
use sea_orm::{ConnectionTrait, Statement};
use tonic::Code;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    held(Platform::start(HANSA, Shape::Embedded).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_postgres_and_nats() {
    held(Platform::start(HANSA, Shape::OneProcess).await).await;
}

/// Returns the wrapped keys of a tenant from the database, oldest first.
async fn wrapped(platform: &Platform, tenant: &str) -> Vec<Vec<u8>> {
    let db = platform.database("register").await;
    let sql = "SELECT tenant, wrapped FROM tenant_keys ORDER BY changed_at, wrapped";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    let id: uuid::Uuid = tenant.strip_prefix("tenants/").unwrap().parse().unwrap();
    let own = rows.iter().filter(|row| row.try_get::<uuid::Uuid>("", "tenant").unwrap() == id);
    own.map(|row| row.try_get("", "wrapped").unwrap()).collect()
}

async fn history(caller: &Caller, tenant: &str) -> Vec<Change> {
    let request = ListChangesRequest { parent: tenant.into(), ..Default::default() };
    caller.changes("register").list_changes(request).await.unwrap().into_inner().changes
}

/// Returns whether a change has a signature by the key of this entry of the tenant's identity log.
fn is_signed(change: &Change, tenant: &str, entry: &IdentityEntry) -> bool {
    let key = VerifyingKey::from_bytes(entry.public_key.as_slice().try_into().unwrap()).unwrap();
    let signed = change.signed_change.as_ref().unwrap();
    signed.signatures.iter().any(|signature| {
        signature.key.starts_with(&format!("{tenant}/keys/"))
            && envelope::signed_by(envelope::PAYLOAD_TYPE, &signed.envelope, signature, &key)
    })
}

async fn held(mut platform: Platform) {
    let steward = platform.steward();
    let asked = Tenant { kind: TenantKind::Secretariat as i32, display_name: "A network".into(), ..Default::default() };
    let create = CreateTenantRequest { tenant: Some(asked), request_id: request_id(), validate_only: false };
    let made = steward.tenants().create_tenant(create.clone()).await.unwrap().into_inner();
    let again = steward.tenants().create_tenant(create).await.unwrap().into_inner();
    assert_eq!(made, again, "a replayed request creates no second key");
    let before = wrapped(&platform, &made.name).await;
    assert_eq!(before.len(), 1);
    assert!(is_signed(&history(&steward, &made.name).await[0], &made.name, &made.identity_log[0]));

    let director = platform.caller(Some(&made.name), &[Role::Director]);
    let stranger = platform.caller(Some("tenants/0190c0de-0000-7000-8000-000000000001"), &[Role::Mayor]);
    let rotate = || RotateTenantKeyRequest { name: made.name.clone(), request_id: request_id(), ..Default::default() };
    assert_eq!(stranger.tenants().rotate_tenant_key(rotate()).await.unwrap_err().code(), Code::PermissionDenied);
    let tried = RotateTenantKeyRequest { validate_only: true, ..rotate() };
    assert_eq!(director.tenants().rotate_tenant_key(tried).await.unwrap().into_inner().identity_log.len(), 2);
    assert_eq!(wrapped(&platform, &made.name).await, before, "`validate_only` writes a key");
    let rotated = director.tenants().rotate_tenant_key(rotate()).await.unwrap().into_inner();
    platform.crash_and_restart().await;
    let (steward, director) = (platform.steward(), platform.caller(Some(&made.name), &[Role::Director]));
    let rotated = {
        let twice = steward.tenants().rotate_tenant_key(rotate()).await.unwrap().into_inner();
        assert_eq!(twice.identity_log[..2], rotated.identity_log[..]);
        twice
    };
    let found = director.tenants().get_tenant(GetTenantRequest { name: made.name.clone() }).await.unwrap().into_inner();
    assert_eq!((found.name.as_str(), found.identity_log.len()), (made.name.as_str(), 3));
    let changes = history(&director, &made.name).await;
    for (change, keys) in changes[1..].iter().zip(rotated.identity_log.windows(2)) {
        assert!(is_signed(change, &made.name, &keys[0]), "the old key did not sign");
        assert!(is_signed(change, &made.name, &keys[1]), "the new key did not sign");
    }
    let after = wrapped(&platform, &made.name).await;
    assert_eq!(
        (after.len(), after.iter().filter(|key| !key.is_empty()).count()),
        (3, 1),
        "the host must keep only the latest secret"
    );
    platform.stop();
}
