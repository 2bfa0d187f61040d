//! The journal: changes on record, and everything that moves because of them.
//!
//! A service hands commands to its [`Journal`]; the journal decides them with the rules of the domain and commits changes,
//! state, views and request ids in one transaction. Nothing else writes. What was committed travels to other services over
//! the bus; [`subscription`] applies it there once and in order.

mod applying;
mod beside;
mod bulk;
mod bus;
pub mod clock;
mod command;
mod connection;
mod custody;
mod daily;
mod erasure;
mod feed;
mod following;
mod job;
mod journal;
pub mod keys;
mod kind;
pub mod limits;
mod lines;
mod lookup;
mod marks;
mod metrics;
mod migrations;
pub mod mirror;
mod output;
mod panics;
mod queue;
mod read;
mod rebuild;
mod relay;
mod remembered;
mod schema;
mod seals;
mod slots;
mod source;
mod store;
mod stream;
pub mod subscription;
pub mod tables;
mod timers;
pub mod trace;
mod view;
mod vitals;
pub mod worker;
mod writer;

pub use bulk::among;
pub use bus::Bus;
pub use clock::{Clock, ManualClock, SystemClock};
pub use command::{Author, Command, Receipt, RequestKey, Signer};
pub use connection::Connection;
pub use erasure::{Erasing, Erasure};
pub use feed::FeedEntry;
pub use journal::{Journal, JournalBuilder, Together};
pub use keys::NodeKeys;
pub use migrations::migrations;
pub use mirror::{Mirror, Mirrors};
pub use queue::Waiting;
pub use read::{Health, Loaded, PastChange};
pub use rebuild::Rebuilt;
pub use relay::Relay;
pub use schema::Step;
pub use seals::seal_texts;
pub use store::{Backend, Store, StoreError, is_away, storage};
pub use stream::StreamSource;
pub use view::{Asked, Found, View, keyset};
pub use worker::Worker;
