//! What somebody must look after, told at intervals to those who watch: frozen records, timers overdue, quarantine.

use crate::{journal::Journal, limits::VITALS_PERIOD, metrics, store::storage, tables::quarantine, worker::Worker};
use async_trait::async_trait;
use hansa_kernel::Refusal;
use sea_orm::{EntityTrait, PaginatorTrait};

/// Looks at intervals whether the journal is well.
pub(crate) struct Vitals(pub Journal);

#[async_trait]
impl Worker for Vitals {
    fn name(&self) -> String {
        format!("vitals of {}", self.0.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        let store = self.0.store();
        let quarantined = quarantine::Entity::find().count(store.reader()).await.map_err(|e| storage(&e))?;
        metrics::ailing(self.0.service(), self.0.health().await?, quarantined);
        Ok(0)
    }

    async fn rest(&mut self) {
        tokio::time::sleep(VITALS_PERIOD).await;
    }
}
