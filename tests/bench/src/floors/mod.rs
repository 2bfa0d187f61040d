//! Floors: minimal implementations of the measured work, without Hansa's code.

pub mod echo;
pub mod pgbench;
pub mod sample;
pub mod sqlite;
pub mod stream;
