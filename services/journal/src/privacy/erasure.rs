//! Erasure of texts (PL-7, PL-8).
//!
//! An erasure is a record of its own in the journal that contains the texts. It therefore reaches feeds and copies, and can be
//! repeated after a restore. It names seals, never values.

use crate::{
    limits::BIND_VARIABLES,
    store::{
        error::StoreError,
        tables::{change, seal},
    },
};
use chrono::{DateTime, Utc};
use hansa_kernel::{Audience, Disclosed, FoldError, Record, RecordId, RecordName, Refusal, Stamp, TenantId};
use hansa_proto::{
    changes::{TextsErased, erasure_change::Change},
    types::ChangeEnvelope,
};
use prost::Message;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::Expr};
use serde::{Deserialize, Serialize};

/// What a command erases: values that one tenant has put into one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasing {
    /// The record.
    pub record: RecordId,
    /// The tenant.
    pub tenant: TenantId,
    /// The seals of the values.
    pub seals: Vec<Vec<u8>>,
}

/// The state of an erasure. It contains no text and never changes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    tenant: TenantId,
    count: usize,
    public: bool,
    tenants: Vec<TenantId>,
}

impl Erasure {
    /// Returns how many texts were erased.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Record for Erasure {
    const COLLECTION: &'static str = "erasures";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        let Change::Erased(erased) = change;
        if before.is_some() {
            return Err(FoldError("an erasure has one change only".into()));
        }
        let invalid = |refusal: Refusal| FoldError(refusal.message);
        let audience = Audience::from_proto(&erased.audience.clone().unwrap_or_default()).map_err(invalid)?;
        let tenant = TenantId::parse(&erased.tenant, "tenant").map_err(invalid)?;
        Ok(Self { tenant, count: erased.seals.len(), public: audience.public, tenants: audience.tenants })
    }

    fn owner(&self) -> TenantId {
        self.tenant
    }

    fn audience(&self) -> Audience {
        Audience::of(self.tenants.iter().copied()).and_public(self.public)
    }

    /// Discloses the seals of texts that were public. The number of the other texts stays hidden.
    fn disclosed(change: &Change) -> Disclosed<Change> {
        let Change::Erased(erased) = change;
        if erased.public_seals.is_empty() {
            return Disclosed::Hidden;
        }
        let (record, public_seals) = (erased.record.clone(), erased.public_seals.clone());
        Disclosed::Part(Change::Erased(TextsErased { record, public_seals, ..TextsErased::default() }))
    }
}

/// Reads what a stored erasure erases.
pub(crate) fn erasing(row: &change::Model) -> Option<Erasing> {
    let envelope = ChangeEnvelope::decode(row.envelope.as_slice()).ok()?;
    let erased = TextsErased::decode(envelope.payload.as_slice()).ok()?;
    Some(Erasing {
        record: RecordName::parse_any(&erased.record, "record").ok()?.id,
        tenant: TenantId::parse(&erased.tenant, "tenant").ok()?,
        seals: erased.seals,
    })
}

/// Deletes values and salts and keeps the seals as evidence that there was a text. Returns how many values it deleted.
pub(crate) async fn erase(
    tx: &DatabaseTransaction,
    erasures: &[Erasing],
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let mut erased = 0;
    for erasing in erasures {
        for seals in erasing.seals.chunks(BIND_VARIABLES / 2) {
            let update = seal::Entity::update_many()
                .col_expr(seal::Column::Value, Expr::value(Vec::<u8>::new()))
                .col_expr(seal::Column::Salt, Expr::value(Vec::<u8>::new()))
                .col_expr(seal::Column::ErasedAt, Expr::value(now.timestamp_micros()))
                .filter(seal::Column::Record.eq(erasing.record.0))
                .filter(seal::Column::Tenant.eq(erasing.tenant.0))
                .filter(seal::Column::Seal.is_in(seals.to_vec()))
                .filter(seal::Column::ErasedAt.is_null());
            erased += update.exec(tx).await?.rows_affected;
        }
    }
    Ok(erased)
}
