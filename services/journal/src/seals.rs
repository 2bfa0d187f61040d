//! Sealing on the way in, and resolving on the way out (PL-7).

use crate::{journal::Journal, keys::random_bytes, store::storage, tables::seal};
use hansa_kernel::{
    RecordId, Refusal,
    limits::TEXT_CHARS,
    seal::{Sealed, seal},
};
use hansa_proto::{Texts, types::LocalizedText};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use std::collections::{HashMap, HashSet};

/// Takes every text out of a command and puts its seal in its place. A seal that the caller sent is dropped: it would
/// stand for a text that nobody has seen.
///
/// # Errors
/// INVALID_FIELD for a text over the limit.
pub fn seal_texts(message: &mut impl Texts) -> Result<Vec<Sealed>, Refusal> {
    let mut sealed = Vec::new();
    let mut refusal = None;
    message.visit_texts(&mut |text: &mut LocalizedText| {
        text.seal.clear();
        if text.text.chars().count() > TEXT_CHARS {
            refusal = Some(Refusal::field("text", format!("is longer than {TEXT_CHARS} characters")));
        } else if !text.text.trim().is_empty() {
            let one = seal(std::mem::take(&mut text.text).as_bytes(), random_bytes());
            text.seal = one.seal.to_vec();
            sealed.push(one);
        }
    });
    refusal.map_or(Ok(sealed), Err)
}

impl Journal {
    /// Puts the texts of an answer back in. `fresh` are values that may not be stored yet (a command that was only tried).
    /// A text that was erased stays empty.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn resolve_texts<M: Texts>(&self, messages: &mut [M], fresh: &[Sealed]) -> Result<(), Refusal> {
        let mut wanted = HashSet::new();
        for message in messages.iter_mut() {
            message.visit_texts(&mut |text| {
                if !text.seal.is_empty() {
                    wanted.insert(text.seal.clone());
                }
            });
        }
        let values = self.values(wanted, fresh).await?;
        for message in messages {
            message.visit_texts(&mut |text| {
                if let Some(value) = values.get(&text.seal) {
                    text.text.clone_from(value);
                }
            });
        }
        Ok(())
    }

    async fn values(
        &self,
        mut wanted: HashSet<Vec<u8>>,
        fresh: &[Sealed],
    ) -> Result<HashMap<Vec<u8>, String>, Refusal> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut values: HashMap<Vec<u8>, String> =
            fresh.iter().map(|sealed| (sealed.seal.to_vec(), text(&sealed.value))).collect();
        wanted.retain(|seal| !values.contains_key(seal));
        if wanted.is_empty() {
            return Ok(values);
        }
        let rows = seal::Entity::find()
            .filter(seal::Column::Seal.is_in(wanted))
            .all(self.inner.store.reader())
            .await
            .map_err(|e| storage(&e))?;
        values.extend(rows.into_iter().map(|row| (row.seal, text(&row.value))));
        Ok(values)
    }

    /// The payload of a change with its texts resolved, for readers of histories.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn readable_payload(
        &self,
        collection: &str,
        type_name: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let Some(kind) = self.inner.kinds.get(collection) else { return Ok(payload.to_vec()) };
        let mut wanted = HashSet::new();
        let read = kind.visit_texts(type_name, payload, &mut |text| {
            if !text.seal.is_empty() {
                wanted.insert(text.seal.clone());
            }
        });
        if read.is_none() || wanted.is_empty() {
            return Ok(payload.to_vec());
        }
        let values = self.values(wanted, &[]).await?;
        let resolved = kind.visit_texts(type_name, payload, &mut |text| {
            if let Some(value) = values.get(&text.seal) {
                text.text.clone_from(value);
            }
        });
        Ok(resolved.unwrap_or_else(|| payload.to_vec()))
    }

    /// The values behind the seals of a record with their salts, as far as they are not erased, in a steady order.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn openings(&self, record: RecordId) -> Result<Vec<Sealed>, Refusal> {
        let rows = seal::Entity::find()
            .filter(seal::Column::Record.eq(record.0))
            .filter(seal::Column::ErasedAt.is_null())
            .order_by_asc(seal::Column::Seal)
            .all(self.inner.store.reader())
            .await
            .map_err(|e| storage(&e))?;
        let opening = |row: seal::Model| {
            Some(Sealed { seal: row.seal.try_into().ok()?, salt: row.salt.try_into().ok()?, value: row.value })
        };
        Ok(rows.into_iter().filter_map(opening).collect())
    }
}
