//! The views of the service.

pub mod city;
pub mod country;
pub mod tenant;
