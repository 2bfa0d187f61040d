//! The rows by which agreements are found.

pub mod agreement;
pub mod ended_city;
