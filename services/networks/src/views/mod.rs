//! The rows that lists are read from.

pub mod membership;
pub mod network;
