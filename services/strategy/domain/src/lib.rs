//! What a city wants of its diplomacy, and how it stands: strategies with their goals, and evaluations by rubrics.
//!
//! All of it is pure. The service hands in commands, facts and the moment; it gets changes, refusals or results.

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
