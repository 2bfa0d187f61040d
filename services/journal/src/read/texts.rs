//! Resolves seals into texts for callers who may read them (PL-7).

use crate::{
    journal::Journal,
    store::{error::JournalError, tables::seal},
};
use hansa_kernel::{RecordId, seal::Sealed};
use hansa_proto::Texts;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use std::collections::{HashMap, HashSet};

impl Journal {
    /// Fills in the texts of messages from their seals. `unstored` are values that may not be stored yet, such as those of a
    /// validated command. A text that was erased stays empty.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn resolve_texts<M: Texts>(&self, messages: &mut [M], unstored: &[Sealed]) -> Result<(), JournalError> {
        let mut wanted = HashSet::new();
        for message in messages.iter_mut() {
            message.visit_texts(&mut |text| {
                if !text.seal.is_empty() {
                    wanted.insert(text.seal.clone());
                }
            });
        }
        let values = self.values(wanted, unstored).await?;
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
        unstored: &[Sealed],
    ) -> Result<HashMap<Vec<u8>, String>, JournalError> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut values: HashMap<Vec<u8>, String> =
            unstored.iter().map(|sealed| (sealed.seal.to_vec(), text(&sealed.value))).collect();
        wanted.retain(|seal| !values.contains_key(seal));
        if wanted.is_empty() {
            return Ok(values);
        }
        let rows = seal::Entity::find().filter(seal::Column::Seal.is_in(wanted)).all(self.store().reader()).await?;
        values.extend(rows.into_iter().map(|row| (row.seal, text(&row.value))));
        Ok(values)
    }

    /// Returns the payload of a change with its texts filled in, for readers of histories.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn readable_payload(
        &self,
        collection: &str,
        type_name: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, JournalError> {
        let Some(record) = self.core.records.get(collection) else { return Ok(payload.to_vec()) };
        let mut wanted = HashSet::new();
        let read = record.visit_texts(type_name, payload, &mut |text| {
            if !text.seal.is_empty() {
                wanted.insert(text.seal.clone());
            }
        });
        if read.is_none() || wanted.is_empty() {
            return Ok(payload.to_vec());
        }
        let values = self.values(wanted, &[]).await?;
        let resolved = record.visit_texts(type_name, payload, &mut |text| {
            if let Some(value) = values.get(&text.seal) {
                text.text.clone_from(value);
            }
        });
        Ok(resolved.unwrap_or_else(|| payload.to_vec()))
    }

    /// Returns the values behind the seals of a record with their salts, ordered by seal, without the erased ones.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn openings(&self, record: RecordId) -> Result<Vec<Sealed>, JournalError> {
        let rows = seal::Entity::find()
            .filter(seal::Column::Record.eq(record.0))
            .filter(seal::Column::ErasedAt.is_null())
            .order_by_asc(seal::Column::Seal)
            .all(self.store().reader())
            .await?;
        let opening = |row: seal::Model| {
            Some(Sealed { seal: row.seal.try_into().ok()?, salt: row.salt.try_into().ok()?, value: row.value })
        };
        Ok(rows.into_iter().filter_map(opening).collect())
    }
}
