//! Floors: what the machine does when only the work itself is done.

pub mod echo;
pub mod pgbench;
pub mod sample;
pub mod sqlite;
pub mod stream;
