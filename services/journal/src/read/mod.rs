//! The read side of a journal: records, histories, feeds, texts, erasures and the rebuild of everything derived.

pub(crate) mod erasures;
pub(crate) mod feed;
pub(crate) mod rebuild;
pub(crate) mod records;
pub(crate) mod texts;
