//! Prepares erasures, and repeats them after a restore (PL-7, PL-8).

use crate::{
    journal::Journal,
    limits::ERASED_TEXTS,
    privacy::erasure::{Erasing, erase, erasing},
    store::{
        error::{JournalError, StoreError},
        tables::{change, seal},
    },
};
use hansa_kernel::{
    Audience, Disclosed, ReasonClass, RecordId, RecordName, Refusal, TenantId, envelope, limits::AUDIENCE_TENANTS,
    seal::SEAL_BYTES,
};
use hansa_proto::changes::TextsErased;
use prost::Name;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::collections::BTreeSet;

/// How many rows of histories and erasures one query reads.
const PAGE_ROWS: u64 = 500;

impl Journal {
    /// Returns the change that erases a tenant's texts in a record: the texts with these seals, or all of them if none is named.
    /// It leaves out texts that are erased already, and contains at most `ERASED_TEXTS`.
    ///
    /// # Errors
    /// `NOT_FOUND` if the record does not exist, or a seal is not of a text of this tenant in it; `INVALID_FIELD` if a seal is
    /// malformed; `UNAVAILABLE` if the database is unavailable.
    pub async fn erasable(
        &self,
        name: &RecordName,
        tenant: TenantId,
        seals: &[Vec<u8>],
    ) -> Result<TextsErased, JournalError> {
        let loaded = self.core.load(name).await?.ok_or_else(|| Refusal::not_found(name))?;
        let audience = self.core.records[name.collection()].audience(&loaded.state);
        let seals = self.own_seals(name.id, tenant, seals).await?;
        let public_seals = match audience.public && !seals.is_empty() {
            true => self.public_seals(name, &seals).await?,
            false => Vec::new(),
        };
        // Everyone learns of the erasure if everyone could see one of the texts.
        let public = !public_seals.is_empty();
        let recipients = Audience::of(audience.tenants.iter().copied().chain([tenant])).and_public(public);
        // If the audience is full, the tenant is left out: it owns the erasure and sees it in any case.
        let recipients =
            if recipients.tenants.len() > AUDIENCE_TENANTS { audience.and_public(public) } else { recipients };
        Ok(TextsErased {
            record: name.to_string(),
            tenant: tenant.name(),
            seals: seals.into_iter().collect(),
            public_seals,
            audience: Some(recipients.to_proto()),
        })
    }

    async fn own_seals(
        &self,
        record: RecordId,
        tenant: TenantId,
        named: &[Vec<u8>],
    ) -> Result<BTreeSet<Vec<u8>>, JournalError> {
        let wanted: BTreeSet<&Vec<u8>> = named.iter().collect();
        if wanted.len() > ERASED_TEXTS || wanted.iter().any(|seal| seal.len() != SEAL_BYTES) {
            let limits = format!("must be at most {ERASED_TEXTS}, each of {SEAL_BYTES} bytes");
            return Err(Refusal::field("seals", limits).into());
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
        let rows = query.into_tuple::<(Vec<u8>, Option<i64>)>().all(self.store().reader()).await?;
        if !wanted.is_empty() && rows.len() < wanted.len() {
            return Err(Refusal::because(
                ReasonClass::NotFound,
                "PL-7",
                "SEAL_NOT_FOUND",
                "one of the seals does not belong to a text of your tenant in this record",
            )
            .missing("seals", "seals of your own tenant's texts in this record")
            .help("Name no seal to erase all texts that your tenant has in the record.")
            .into());
        }
        Ok(rows.into_iter().filter(|(_, erased)| erased.is_none()).map(|(seal, _)| seal).collect())
    }

    /// Returns those seals whose texts the changes of a public record disclose to everyone.
    async fn public_seals(&self, name: &RecordName, seals: &BTreeSet<Vec<u8>>) -> Result<Vec<Vec<u8>>, JournalError> {
        let record = &self.core.records[name.collection()];
        let mut public = BTreeSet::new();
        let mut after = 0;
        loop {
            let past = self.history(name.id, after, PAGE_ROWS).await?;
            let Some(last) = past.last() else { return Ok(public.into_iter().collect()) };
            after = envelope::version(&last.envelope);
            for change in past {
                let (payload_type, payload) = (&change.envelope.payload_type, &change.envelope.payload);
                let disclosed = match record.disclosed(payload_type, payload) {
                    Disclosed::Whole => payload.clone(),
                    Disclosed::Part(part) => part,
                    Disclosed::Hidden => continue,
                };
                record.visit_texts(payload_type, &disclosed, &mut |text| {
                    if seals.contains(&text.seal) {
                        public.insert(text.seal.clone());
                    }
                });
            }
        }
    }

    /// Repeats all recorded erasures, because a restore may have brought values back. Returns how many values it deleted.
    ///
    /// # Errors
    /// If the database is unavailable. Erasures that were repeated before the failure stand.
    pub async fn replay_erasures(&self) -> Result<u64, StoreError> {
        let (mut after, mut erased) = (0, 0);
        loop {
            let rows = change::Entity::find()
                .filter(change::Column::PayloadType.eq(TextsErased::full_name()))
                .filter(change::Column::Seq.gt(after))
                .order_by_asc(change::Column::Seq)
                .limit(PAGE_ROWS)
                .all(self.store().reader())
                .await?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            let erasures: Vec<Erasing> = rows.iter().filter_map(erasing).collect();
            let tx = self.store().begin().await?;
            erased += erase(&tx, &erasures, self.clock().now()).await?;
            tx.commit().await?;
        }
        if erased > 0 {
            self.store().scrub().await;
        }
        Ok(erased)
    }
}
