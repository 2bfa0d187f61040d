//! The journal of a service: an event-sourced store with outbox, inbox, timers and work queues.
//!
//! A service submits commands to its [`Journal`]. The one writer decides them with the rules of the domain, and commits changes,
//! states, view rows and idempotency keys in one transaction. The relay publishes committed changes to the broker; a
//! [`Subscription`] of another service applies each of them once and in order.
//!
//! The modules depend on each other downward only: `inbox`, `outbox`, `read` and `workers` on `journal`, then `write`, `core`,
//! `record` and `privacy`, `store`, and the leaves. `tests/architecture.rs` checks this.

pub mod clock;
mod core;
mod crypto;
mod inbox;
mod journal;
pub mod limits;
mod metrics;
mod outbox;
mod panics;
mod privacy;
mod read;
mod record;
mod store;
pub mod trace;
mod workers;
mod write;

pub use clock::{Clock, ManualClock, SystemClock};
pub use crypto::node_key::{NodeKeys, random_bytes};
pub use inbox::{
    jetstream::JetStreamSource,
    mirror::{Invalidates, Mirrors, QueueKey},
    source::{Delivery, JournalSource, Source},
    subscription::Subscription,
    worker::SubscriptionWorker,
};
pub use journal::{BoxedCommand, Journal, JournalBuilder};
pub use outbox::{broker::Bus, relay::Relay};
pub use privacy::{
    erasure::{Erasing, Erasure},
    sealing::seal_texts,
};
pub use read::{
    feed::FeedEntry,
    rebuild::Rebuilt,
    records::{Health, Loaded, PastChange},
};
pub use record::view::{FilterExt, PageOfIds, View, keyset};
pub use store::{
    Backend, Store,
    batch::is_any_of,
    connection::Connection,
    error::{JournalError, StoreError, is_away},
    migration::Migration,
    migrations::migrations,
    tables,
};
pub use workers::{
    work_queue::PendingKey,
    worker::{Worker, run_worker},
};
pub use write::command::{Author, Command, IdempotencyKey, Receipt, Signer, Target};
