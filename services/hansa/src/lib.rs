//! A node: its services, opened and connected. The program runs it; a simulation moves it step by step.

pub mod node;
