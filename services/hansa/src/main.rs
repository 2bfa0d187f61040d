//! Hansa.
fn main() {}
