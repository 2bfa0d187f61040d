//! The subscriptions of the service: they keep the mirrors, and enqueue the cities that a change affects (ST-6).

pub mod own;
pub mod partnerships;
pub mod register;

/// The work queue of cities to evaluate. The keys are ids of cities, joined or not.
pub const EVALUATE: &str = "evaluate";
/// The work queue of changed countries. Its worker enqueues the cities that a country affects.
pub const EVALUATE_COUNTRY: &str = "evaluate-country";
/// The work queue of cities whose change affects their partners. Its worker enqueues the partners.
pub const EVALUATE_PARTNERS: &str = "evaluate-partners";
