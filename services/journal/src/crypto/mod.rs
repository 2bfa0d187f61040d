//! The node's key, and the tenants' keys that it wraps.

pub(crate) mod key_wrapping;
pub(crate) mod node_key;
