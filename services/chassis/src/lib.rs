//! The running gear of a service: configuration, telemetry, tokens, policy, the gRPC server, limits, drain.
//!
//! A service is a [`Module`]: it says what it mounts. Which modules run together, and on what, is decided by the binary.
#![allow(clippy::result_large_err)]

mod calls;
pub mod changes;
pub mod config;
pub mod desk;
pub mod discovery;
pub mod guard;
pub mod keyset;
pub mod limits;
mod metrics;
pub mod module;
pub mod page;
pub mod panics;
pub mod places;
pub mod policy;
pub mod server;
pub mod settings;
pub mod status;
pub mod telemetry;
pub mod token;
pub mod usual;

pub use config::Config;
pub use desk::{Act, Desk};
pub use module::Module;
pub use page::Page;
pub use status::{ask, to_status};
pub use usual::{named, timeless};

/// A gRPC service with the limits on messages that all have.
#[macro_export]
macro_rules! bounded {
    ($service:expr) => {
        $service
            .max_decoding_message_size($crate::limits::REQUEST_BYTES)
            .max_encoding_message_size($crate::limits::RESPONSE_BYTES)
    };
}
