//! The views of the service.

pub mod membership;
pub mod network;
