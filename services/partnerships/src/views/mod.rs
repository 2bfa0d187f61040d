//! The views of the service.

pub mod agreement;
pub mod ended_city;
