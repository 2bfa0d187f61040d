//! The keys that the host holds for its tenants, each wrapped under the node's key. No change holds them: they lie in a table
//! of their own, are written with the change that names their public half, and are emptied once they are replaced.

use chrono::{DateTime, Utc};
use hansa_journal::{Journal, NodeKeys, Signer, keys::random_bytes, storage};
use hansa_kernel::{Reason, Refusal, Refused, TenantId};
use hansa_register_domain::{Tenant, tenant};
use sea_orm::{Set, entity::prelude::*};
use zeroize::Zeroizing;

/// One key of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_keys")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: Uuid,
    /// The public half.
    #[sea_orm(primary_key, auto_increment = false)]
    pub public_key: Vec<u8>,
    /// The secret half, wrapped; empty once the key was replaced.
    pub wrapped: Vec<u8>,
    /// When it was made or emptied, in microseconds since 1970.
    pub changed_at: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// A new key.
#[must_use]
pub fn new_key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&Zeroizing::new(random_bytes()))
}

/// The row of a key in use.
#[must_use]
pub fn kept(node: &NodeKeys, signer: &Signer, now: DateTime<Utc>) -> ActiveModel {
    row(signer, node.wrap(signer.tenant, &signer.key), now)
}

/// The row of a key that was replaced.
#[must_use]
pub fn replaced(signer: &Signer, now: DateTime<Utc>) -> ActiveModel {
    row(signer, Vec::new(), now)
}

fn row(signer: &Signer, wrapped: Vec<u8>, now: DateTime<Utc>) -> ActiveModel {
    ActiveModel {
        tenant: Set(signer.tenant.0),
        public_key: Set(signer.key.verifying_key().to_bytes().to_vec()),
        wrapped: Set(wrapped),
        changed_at: Set(now.timestamp_micros()),
    }
}

/// The key in force of a tenant, where the host holds it.
///
/// # Errors
/// PL-5 where the host does not hold it; INTERNAL where it cannot be opened: the database is of another node.
pub async fn held(journal: &Journal, id: TenantId, state: &Tenant) -> Refused<Signer> {
    let public = tenant::hosted_key(state)?;
    let found = Entity::find_by_id((id.0, public.to_vec())).one(journal.store().reader()).await;
    let wrapped = found.map_err(|error| storage(&error))?.map(|row| row.wrapped).unwrap_or_default();
    let key = journal.node().unwrap(id, &wrapped).filter(|key| key.verifying_key().to_bytes() == public);
    let key = key.ok_or_else(|| {
        tracing::error!(tenant = %id, "the key that is held for a tenant cannot be opened");
        Refusal::because(Reason::Internal, "PL-5", "the tenant's key cannot be opened")
            .help("The operator compares the node's key with the one that the database was written with.")
    })?;
    Ok(Signer { tenant: id, key })
}
