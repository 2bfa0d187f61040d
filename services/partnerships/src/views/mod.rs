//! The rows by which agreements are found.

pub mod agreement;
