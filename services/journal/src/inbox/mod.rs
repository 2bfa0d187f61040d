//! The inbox: a subscription applies the changes of another service once and in the order of each record.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod jetstream;
pub(crate) mod mirror;
pub(crate) mod mirror_cache;
pub(crate) mod source;
pub(crate) mod subscription;
pub(crate) mod worker;
