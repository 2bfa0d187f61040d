//! Rows of a service's own that are written with a command, because no change may hold them: wrapped keys, for one.

use crate::store::{StoreError, upsert};
use async_trait::async_trait;
use sea_orm::{ActiveModelTrait, DatabaseTransaction};

/// A row without its type.
#[async_trait]
pub(crate) trait Beside: Send + Sync {
    async fn write(&self, tx: &DatabaseTransaction) -> Result<(), StoreError>;
}

pub(crate) struct Row<A>(pub A);

#[async_trait]
impl<A: ActiveModelTrait + Clone + Send + Sync> Beside for Row<A> {
    async fn write(&self, tx: &DatabaseTransaction) -> Result<(), StoreError> {
        upsert::<A::Entity, A>(tx, vec![self.0.clone()]).await
    }
}
