//! What somebody must look after, told at intervals to those who watch: frozen records, timers overdue, quarantine.

use crate::{journal::Journal, limits::VITALS_PERIOD, metrics, store::storage, tables::quarantine};
use hansa_kernel::Refusal;
use sea_orm::{EntityTrait, PaginatorTrait};
use tokio_util::sync::CancellationToken;

impl Journal {
    /// Looks at intervals whether the journal is well, until it is told to stop.
    pub async fn run_vitals(self, stop: CancellationToken) {
        let mut look = tokio::time::interval(VITALS_PERIOD);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {
                    if let Err(refusal) = self.tell_vitals().await {
                        tracing::warn!(service = self.service(), %refusal, "it could not be looked at");
                    }
                }
            }
        }
    }

    async fn tell_vitals(&self) -> Result<(), Refusal> {
        let quarantined = quarantine::Entity::find().count(self.store().reader()).await.map_err(|e| storage(&e))?;
        metrics::ailing(self.service(), self.health().await?, quarantined);
        Ok(())
    }
}
