//! The rules of the register: cities, countries, tenants, international relations offices. Pure: every clock, id and
//! neighbour comes in as an argument.
//!
//! One noun, one file. What other services may keep of a record is in [`mod@reference`]; readers of published files in
//! [`import`]; a few real places to try things with in [`sample`].

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
