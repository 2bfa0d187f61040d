//! Types that all services of Hansa share. The crate is pure: no input or output, no clock, no randomness.

pub mod access;
pub mod attachment;
pub mod caller;
pub mod council_vote;
pub mod envelope;
pub mod id;
pub mod limits;
pub mod mask;
pub mod money;
pub mod plain;
pub mod record;
pub mod refusal;
pub mod seal;
pub mod serde_proto;
pub mod text;
pub mod time;

pub use access::Access;
pub use caller::{Caller, Relation};
pub use hansa_proto::types::{AssuranceLevel, ReasonClass, Role};
pub use id::{PersonId, RecordId, RecordName, TenantId};
pub use plain::Plain;
pub use record::{Audience, Decision, Disclosed, Emitted, FoldError, IntoResource, Record, Reference, Stamp};
pub use refusal::{Refusal, Refused};
pub use time::Moment;
