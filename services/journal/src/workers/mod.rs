//! Background workers: timers, work queues, daily checks and health metrics.

pub(crate) mod daily;
pub(crate) mod health_metrics;
pub(crate) mod timers;
pub(crate) mod work_queue;
pub(crate) mod worker;
