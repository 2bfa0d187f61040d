//! Personal data (PL-7): texts are sealed before a rule sees them, and can be erased from the store afterwards.

pub(crate) mod erasure;
pub(crate) mod sealing;
