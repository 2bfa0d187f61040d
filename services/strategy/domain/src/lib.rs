//! The domain of the strategy service: strategies of cities with their goals, and evaluations by rubrics.
//!
//! The crate does no I/O. The service passes commands, facts and the current time, and gets changes, refusals or
//! results.

pub mod evaluation;
pub mod goal;
pub mod language;
pub mod model;
pub mod portfolio;
pub mod rubric;
pub mod simulate;
pub mod strategy;

pub use evaluation::{Evaluations, evaluate};
pub use goal::{Goal, ToolLink};
pub use portfolio::{CityFact, OfficeFact, PartnerFact, Portfolio, TieFact, TieState};
pub use rubric::{BadRubric, Rubric};
pub use simulate::simulate;
pub use strategy::{DraftFacts, Strategy};
