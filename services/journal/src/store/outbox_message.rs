//! A committed change on its way to the broker.

use crate::store::tables::change;
use uuid::Uuid;

/// One row of the outbox: a committed change that the relay still has to publish.
#[derive(Clone, Debug)]
pub(crate) struct OutboxMessage {
    pub record: Uuid,
    pub version: i64,
    pub envelope: Vec<u8>,
    pub signatures: Vec<u8>,
    /// W3C trace context of the command.
    pub trace: Option<String>,
}

impl From<change::Model> for OutboxMessage {
    fn from(row: change::Model) -> Self {
        let change::Model { record, version, envelope, signatures, trace, .. } = row;
        Self { record, version, envelope, signatures, trace }
    }
}
