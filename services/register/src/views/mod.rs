//! The rows by which the register's records are found.

pub mod city;
pub mod country;
pub mod tenant;
