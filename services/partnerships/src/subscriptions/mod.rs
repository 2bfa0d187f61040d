//! What the service keeps of others' changes and of its own, and what follows from them.

pub mod inheritance;
pub mod register;
pub mod succession;
