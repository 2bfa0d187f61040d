//! The rows by which strategies, ties and joined cities are found.

pub mod joined_city;
pub mod strategy;
pub mod tie;
