//! The outbox: committed changes are published to the broker, and what the broker lost is published again.

pub(crate) mod broker;
pub(crate) mod published;
pub(crate) mod relay;
