//! The views of the service.

pub mod joined_city;
pub mod strategy;
pub mod tie;
