//! What two cities may do together, as pure rules: no input or output, no clock, no randomness.

pub mod agreement;
pub mod ties;
