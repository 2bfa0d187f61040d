//! A node: its open and connected services. The binary runs it; the simulation test executes it step by step.

pub mod node;
