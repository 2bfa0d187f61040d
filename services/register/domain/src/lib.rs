//! The rules of the register: cities, countries, tenants and international relations offices. The rules are pure: time,
//! ids and other records are arguments.
//!
//! Each kind of record has its own file. [`mod@reference`] defines the mirrors that other services keep, [`import`]
//! reads published files, and [`sample`] contains a few real places for demonstrations.

pub mod city;
pub mod country;
mod date;
pub mod fact;
pub mod import;
mod limits;
mod names;
pub mod office;
pub mod reference;
mod rights;
pub mod sample;
pub mod size;
pub mod succession;
pub mod tenant;
pub mod term;
pub mod tier;

pub use city::City;
pub use country::Country;
pub use office::Office;
pub use tenant::Tenant;
