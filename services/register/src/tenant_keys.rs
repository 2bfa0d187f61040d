//! The keys that the node holds for its tenants, wrapped under the node's key.
//!
//! No change may contain a secret, so the keys have their own table. The journal writes the row of a key in the
//! transaction of the change that names its public key. When the key is replaced, the journal deletes the secret.

use chrono::{DateTime, Utc};
use hansa_journal::{Journal, JournalError, NodeKeys, Signer, random_bytes};
use hansa_kernel::{ReasonClass, Refusal, Refused, TenantId};
use hansa_register_domain::{Tenant, tenant};
use sea_orm::{Set, entity::prelude::*};
use zeroize::Zeroizing;

/// One key of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_keys")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: Uuid,
    /// The public key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub public_key: Vec<u8>,
    /// The wrapped secret; empty after the key has been replaced.
    pub wrapped: Vec<u8>,
    /// When the row was written, in microseconds since 1970.
    pub changed_at: i64,
}

/// The entity has no relations.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Generates a key.
#[must_use]
pub fn new_key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&Zeroizing::new(random_bytes()))
}

/// Returns the row of a key in use.
#[must_use]
pub fn stored(node: &NodeKeys, signer: &Signer, now: DateTime<Utc>) -> ActiveModel {
    row(signer, node.wrap(signer.tenant, &signer.key), now)
}

/// Returns the row of a replaced key.
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

/// Loads the present key of a tenant.
///
/// # Errors
/// Refused under PL-5 if the node does not hold the key; `INTERNAL` if the key cannot be unwrapped because the
/// database was written with another node key.
pub async fn load(journal: &Journal, id: TenantId, state: &Tenant) -> Refused<Signer> {
    let public = tenant::hosted_key(state)?;
    let query = Entity::find_by_id((id.0, public.to_vec())).one(journal.store().reader());
    let wrapped = query.await.map_err(JournalError::from)?.map(|row| row.wrapped).unwrap_or_default();
    let key = journal.node().unwrap(id, &wrapped).filter(|key| key.verifying_key().to_bytes() == public);
    let key = key.ok_or_else(|| {
        tracing::error!(tenant = %id, "the key of a tenant cannot be unwrapped");
        Refusal::because(ReasonClass::Internal, "PL-5", "INTERNAL", "the tenant's key cannot be unwrapped")
            .help("Ask the operator to compare the node's key with the one that the database was written with.")
    })?;
    Ok(Signer { tenant: id, key })
}
