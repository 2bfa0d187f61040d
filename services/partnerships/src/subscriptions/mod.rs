//! Subscriptions to the register and to the service's own changes, and the work queues that they fill.

pub mod inheritance;
pub mod queues;
pub mod register;
pub mod succession;
