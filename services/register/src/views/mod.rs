//! The views (projections) of the service and their list queries.

pub mod city;
pub mod country;
pub mod tenant;
