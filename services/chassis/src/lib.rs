//! What every service runs on: configuration, telemetry, tokens, policies, limits, the gRPC server, and the handlers that all rpcs
//! have in common.
//!
//! A service describes itself with a [`ServiceBuilder`]. The binary decides which services run together, and on what.
#![allow(clippy::result_large_err)]

pub mod auth_layer;
pub mod changes;
pub mod config;
pub mod config_report;
pub mod discovery;
pub mod handler;
pub mod issuer_address;
pub mod jwks;
pub mod limits;
pub mod load_shed;
mod metrics;
pub mod module;
pub mod page;
pub mod panics;
pub mod policy;
pub mod role;
pub mod rows;
mod rpc_metrics;
pub mod server;
pub mod status;
pub mod telemetry;
pub mod token;

pub use config::Config;
pub use handler::{CommandContext, CommandHandler, Handlers, QueryHandler, new_id, parse_name, queries::with_times};
pub use module::{Module, ServiceBuilder, ServiceContext, ServiceType};
pub use page::Page;
pub use policy::Policies;
pub use rows::{row_failure, row_result, row_status, undecided};
pub use status::{ApiError, ApiResult, to_status};
