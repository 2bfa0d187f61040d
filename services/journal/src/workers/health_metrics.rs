//! Records the health of the journal as metrics: frozen records, overdue timers and quarantine.

use crate::{journal::Journal, limits::HEALTH_PERIOD, metrics, store::tables::quarantine, workers::worker::Worker};
use async_trait::async_trait;
use hansa_kernel::Refusal;
use sea_orm::{EntityTrait, PaginatorTrait};

/// Records the metrics every `HEALTH_PERIOD`.
pub(crate) struct HealthMetrics(pub Journal);

#[async_trait]
impl Worker for HealthMetrics {
    fn name(&self) -> String {
        format!("health metrics of {}", self.0.service())
    }

    async fn step(&mut self) -> Result<usize, Refusal> {
        let health = self.0.health().await?;
        let quarantined = quarantine::Entity::find().count(self.0.store().reader()).await;
        let quarantined = quarantined.map_err(crate::store::error::JournalError::from)?;
        metrics::health(self.0.service(), health.frozen, health.overdue, quarantined);
        Ok(0)
    }

    async fn rest(&mut self) {
        tokio::time::sleep(HEALTH_PERIOD).await;
    }
}
