//! Record types and views without their Rust types, as writer, timers and rebuild handle them.

pub(crate) mod erased;
pub(crate) mod view;
pub(crate) mod view_rows;
