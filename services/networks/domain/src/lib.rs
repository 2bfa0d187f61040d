//! Networks of cities, what they ask of their members, and memberships (NW-1 to NW-3). All of it is pure.

pub mod criteria;
pub mod membership;
pub mod network;

pub use membership::Membership;
pub use network::Network;
