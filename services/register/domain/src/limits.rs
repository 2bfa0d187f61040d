//! Limits that several files use.

/// Maximum number of municipalities in a metropolis.
pub const CONSTITUENTS: usize = 500;
