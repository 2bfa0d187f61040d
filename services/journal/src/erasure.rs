//! Erasing texts for good, on record (PL-7, PL-8). An erasure is a record of its own in the journal of the texts: so it
//! reaches feeds and copies, and can be done again after a restore. It names seals and never a value.

use crate::{
    journal::Journal,
    limits::{BIND_VARIABLES, ERASED_TEXTS},
    store::{StoreError, storage},
    tables::{change, seal},
};
use chrono::{DateTime, Utc};
use hansa_kernel::{
    Audience, Disclosed, Misfit, Reason, Record, RecordId, RecordName, Refusal, Stamp, TenantId,
    limits::AUDIENCE_TENANTS, seal::SEAL_BYTES,
};
use hansa_proto::changes::{TextsErased, erasure_change::Change};
use prost::{Message, Name};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Histories and erasures are read in parts.
const ROWS_A_PART: u64 = 500;

/// What a command erases: values that one tenant has put into one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasing {
    /// The record.
    pub record: RecordId,
    /// The tenant.
    pub tenant: TenantId,
    /// What stands for them in the record's changes.
    pub seals: Vec<Vec<u8>>,
}

/// One erasure. It owns no text, and nothing happens to it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    tenant: TenantId,
    count: usize,
    public: bool,
    tenants: Vec<TenantId>,
}

impl Erasure {
    /// How many texts were erased.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Record for Erasure {
    const COLLECTION: &'static str = "erasures";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, Misfit> {
        let Change::Erased(erased) = change;
        if before.is_some() {
            return Err(Misfit("an erasure happens once".into()));
        }
        let misfit = |refusal: Refusal| Misfit(refusal.message);
        let audience = Audience::from_proto(&erased.audience.clone().unwrap_or_default()).map_err(misfit)?;
        let tenant = TenantId::parse(&erased.tenant, "tenant").map_err(misfit)?;
        Ok(Self { tenant, count: erased.seals.len(), public: audience.public, tenants: audience.tenants })
    }

    fn owner(&self) -> TenantId {
        self.tenant
    }

    fn audience(&self) -> Audience {
        Audience::of(self.tenants.iter().copied()).and_public(self.public)
    }

    /// Who could see a text learns that it is gone; of the others not even how many there were.
    fn disclosed(change: &Change) -> Disclosed<Change> {
        let Change::Erased(erased) = change;
        if erased.public_seals.is_empty() {
            return Disclosed::Hidden;
        }
        let (record, public_seals) = (erased.record.clone(), erased.public_seals.clone());
        Disclosed::Part(Change::Erased(TextsErased { record, public_seals, ..TextsErased::default() }))
    }
}

impl Journal {
    /// What an erasure of a tenant's texts in a record would be: of those that are named, or of all, as far as they are not
    /// erased yet; at most `ERASED_TEXTS`.
    ///
    /// # Errors
    /// NOT_FOUND where there is no such record, or one that is named is none of the tenant's there; INVALID_FIELD for what
    /// is no seal; where the database is away.
    pub async fn erasable(
        &self,
        name: &RecordName,
        tenant: TenantId,
        named: &[Vec<u8>],
    ) -> Result<TextsErased, Refusal> {
        let known = self.inner.known(name).await?.ok_or_else(|| Refusal::not_found(name))?;
        let audience = self.inner.kinds[name.collection()].audience(&known.state);
        let seals = self.own_seals(name.id, tenant, named).await?;
        let public_seals = match audience.public && !seals.is_empty() {
            true => self.public_seals(name, &seals).await?,
            false => Vec::new(),
        };
        // Everyone hears of it where everyone could see one of the texts.
        let public = !public_seals.is_empty();
        let told = Audience::of(audience.tenants.iter().copied().chain([tenant])).and_public(public);
        // The tenant owns the erasure and sees it in any case.
        let told = if told.tenants.len() > AUDIENCE_TENANTS { audience.and_public(public) } else { told };
        Ok(TextsErased {
            record: name.to_string(),
            tenant: tenant.name(),
            seals: seals.into_iter().collect(),
            public_seals,
            audience: Some(told.to_proto()),
        })
    }

    async fn own_seals(
        &self,
        record: RecordId,
        tenant: TenantId,
        named: &[Vec<u8>],
    ) -> Result<BTreeSet<Vec<u8>>, Refusal> {
        let wanted: BTreeSet<&Vec<u8>> = named.iter().collect();
        if wanted.len() > ERASED_TEXTS || wanted.iter().any(|seal| seal.len() != SEAL_BYTES) {
            return Err(Refusal::field("seals", format!("must be at most {ERASED_TEXTS}, each of {SEAL_BYTES} bytes")));
        }
        let mut query = seal::Entity::find()
            .select_only()
            .columns([seal::Column::Seal, seal::Column::ErasedAt])
            .filter(seal::Column::Record.eq(record.0))
            .filter(seal::Column::Tenant.eq(tenant.0))
            .order_by_asc(seal::Column::Seal);
        query = if wanted.is_empty() {
            query.filter(seal::Column::ErasedAt.is_null()).limit(ERASED_TEXTS as u64)
        } else {
            query.filter(seal::Column::Seal.is_in(wanted.iter().map(|seal| (*seal).clone())))
        };
        let rows = query.into_tuple::<(Vec<u8>, Option<i64>)>().all(self.inner.store.reader()).await;
        let rows = rows.map_err(|e| storage(&e))?;
        if !wanted.is_empty() && rows.len() < wanted.len() {
            return Err(Refusal::because(Reason::NotFound, "PL-7", "one of these texts is not there, or not yours")
                .missing("seals", "seals of your own tenant's texts in this record")
                .help("Name none to erase all that your tenant has in the record."));
        }
        Ok(rows.into_iter().filter(|(_, erased)| erased.is_none()).map(|(seal, _)| seal).collect())
    }

    /// Those that everyone can see, by what the record's changes disclose.
    async fn public_seals(&self, name: &RecordName, seals: &BTreeSet<Vec<u8>>) -> Result<Vec<Vec<u8>>, Refusal> {
        let kind = &self.inner.kinds[name.collection()];
        let mut public = BTreeSet::new();
        let mut after = 0;
        loop {
            let past = self.history(name.id, after, ROWS_A_PART).await?;
            let Some(last) = past.last() else { return Ok(public.into_iter().collect()) };
            after = last.envelope.version;
            for change in past {
                let (r#type, payload) = (&change.envelope.r#type, &change.envelope.payload);
                let shown = match kind.disclosed(r#type, payload) {
                    Disclosed::Whole => payload.clone(),
                    Disclosed::Part(part) => part,
                    Disclosed::Hidden => continue,
                };
                kind.visit_texts(r#type, &shown, &mut |text| {
                    if seals.contains(&text.seal) {
                        public.insert(text.seal.clone());
                    }
                });
            }
        }
    }

    /// Erases again what was erased before: what a restore has brought back. Answers how many values that were.
    ///
    /// # Errors
    /// Where the database is away; what was done stands.
    pub async fn replay_erasures(&self) -> Result<u64, StoreError> {
        let (mut after, mut erased) = (0, 0);
        loop {
            let rows = change::Entity::find()
                .filter(change::Column::Kind.eq(TextsErased::full_name()))
                .filter(change::Column::Seq.gt(after))
                .order_by_asc(change::Column::Seq)
                .limit(ROWS_A_PART)
                .all(self.inner.store.reader())
                .await?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            let erasures: Vec<Erasing> = rows.iter().filter_map(erasing).collect();
            let tx = self.inner.store.begin().await?;
            erased += erase(&tx, &erasures, self.inner.clock.now()).await?;
            tx.commit().await?;
        }
        if erased > 0 {
            self.inner.store.scrub().await;
        }
        Ok(erased)
    }
}

/// What a stored erasure erases.
fn erasing(row: &change::Model) -> Option<Erasing> {
    let envelope = hansa_proto::types::ChangeEnvelope::decode(row.envelope.as_slice()).ok()?;
    let erased = TextsErased::decode(envelope.payload.as_slice()).ok()?;
    Some(Erasing {
        record: RecordName::parse_any(&erased.record, "record").ok()?.id,
        tenant: TenantId::parse(&erased.tenant, "tenant").ok()?,
        seals: erased.seals,
    })
}

/// Takes values and salts away; the seals stay, and say that there was something. Answers how many that were.
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
