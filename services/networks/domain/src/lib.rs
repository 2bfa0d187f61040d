//! The domain of networks: networks of cities, membership criteria and memberships (NW-1 to NW-3). The crate is pure:
//! it does no I/O.

pub mod criteria;
pub mod membership;
pub mod network;

pub use membership::Membership;
pub use network::Network;
