//! What all rpc handlers of the services have in common: authenticated requests in, receipts and resources out.
//!
//! A handler names the record and the rule; [`CommandHandler`] and [`QueryHandler`] do the rest.

pub mod commands;
pub mod queries;
mod request;

use crate::policy::Policy;
use hansa_journal::Journal;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub use commands::{CommandContext, CommandHandler, new_id};
pub use queries::QueryHandler;
pub use request::parse_name;

/// The handlers of one service, as its gRPC services need them.
#[derive(Clone, Debug)]
pub struct Handlers {
    /// For rpcs that write.
    pub commands: CommandHandler,
    /// For rpcs that read.
    pub queries: QueryHandler,
    /// The service's journal.
    pub journal: Journal,
    /// Cancelled when the process starts to drain; streams then end.
    pub drain: CancellationToken,
}

impl Handlers {
    /// Creates the handlers of the service that owns the journal.
    #[must_use]
    pub fn new(journal: Journal, policy: Arc<Policy>, drain: CancellationToken) -> Self {
        let queries = QueryHandler::new(journal.clone(), policy.clone());
        Self { commands: CommandHandler::new(journal.clone(), policy), queries, journal, drain }
    }
}

/// Declares the struct that handles the rpcs of a service, with the fields of [`Handlers`] and a conversion from it.
#[macro_export]
macro_rules! rpc_handlers {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            commands: $crate::CommandHandler,
            queries: $crate::QueryHandler,
            journal: ::hansa_journal::Journal,
        }

        impl From<$crate::Handlers> for $name {
            fn from(handlers: $crate::Handlers) -> Self {
                let $crate::Handlers { commands, queries, journal, .. } = handlers;
                Self { commands, queries, journal }
            }
        }
    };
}
