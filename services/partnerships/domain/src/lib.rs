//! Rules for the agreements of two cities. The crate is pure: no input or output, no clock, no randomness.

pub mod agreement;
pub mod ties;
