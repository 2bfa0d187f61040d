//! The names of the service's work queues. The names are stored and must not change.

/// Cities whose agreements must pass to a successor (CT-11).
pub const INHERIT: &str = "inherit";
/// Agreements whose predecessor must be superseded (AG-3).
pub const SUPERSEDE: &str = "supersede";
