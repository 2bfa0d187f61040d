//! What the service learns from others and from itself, and which cities must be evaluated again because of it (ST-6).

pub mod own;
pub mod partnerships;
pub mod register;

/// The queue of cities to evaluate; its keys are cities' ids, joined or not.
pub const EVALUATE: &str = "evaluate";
/// The queue of countries that changed; each stands for the cities that it bears on.
pub const EVALUATE_COUNTRY: &str = "evaluate-country";
/// The queue of cities that changed in what their partners are judged by; each stands for its partners.
pub const EVALUATE_PARTNERS: &str = "evaluate-partners";
