//! The contract of Hansa as Rust code: messages, and with the feature `grpc` clients, servers and handler traits. It contains no
//! logic.
//!
//! The build implements the traits below for every message that they fit.
#![allow(
    clippy::assigning_clones,
    clippy::doc_lazy_continuation,
    clippy::doc_markdown,
    clippy::large_enum_variant,
    missing_docs,
    rustdoc::all
)]
#![allow(clippy::match_single_binding, clippy::single_match, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/contract.rs"));
include!(concat!(env!("OUT_DIR"), "/derived.rs"));

pub use hansa::changes::v1 as changes;
pub use hansa::networks::v1 as networks;
pub use hansa::partnerships::v1 as partnerships;
pub use hansa::register::v1 as register;
pub use hansa::strategy::v1 as strategy;
pub use hansa::r#type::v1 as types;

/// One handler trait per gRPC service, and the adapters that serve them.
#[cfg(feature = "grpc")]
pub mod handlers {
    /// The largest messages that a gRPC service accepts and sends.
    #[derive(Clone, Copy, Debug)]
    pub struct MessageSizes {
        /// Largest request, in bytes.
        pub request_bytes: usize,
        /// Largest response, in bytes.
        pub response_bytes: usize,
    }

    include!(concat!(env!("OUT_DIR"), "/handlers.rs"));
}

impl From<&str> for types::Attachment {
    /// Returns an attachment that consists of an address.
    fn from(uri: &str) -> Self {
        Self { uri: uri.to_owned(), ..Self::default() }
    }
}

/// Stores an optional time as seconds and nanoseconds.
mod stored_time {
    use prost_types::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error> {
        time.as_ref().map(|t| (t.seconds, t.nanos)).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let parts = Option::<(i64, i32)>::deserialize(from)?;
        Ok(parts.map(|(seconds, nanos)| Timestamp { seconds, nanos }))
    }
}

/// The encoded descriptors of the whole contract, with comments and options: for reflection, transcoding and tests.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Visits every text of a message, at any depth: to seal texts of commands and to resolve them in responses (PL-7).
pub trait Texts {
    /// Calls `visit` with each text.
    fn visit_texts(&mut self, visit: &mut dyn FnMut(&mut types::LocalizedText));
}

/// What every write request contains besides its content (PL-4).
pub trait WriteRequest {
    /// Returns the request id: a UUID that makes the request idempotent, or an empty text.
    fn request_id(&self) -> &str;
    /// Returns whether the request is only validated.
    fn validate_only(&self) -> bool;
    /// Returns the etag that the caller has read, from the request or from the resource in it; empty if it is not checked.
    fn etag(&self) -> &str;
    /// Returns the field that names the record, and the name; empty if the request creates one.
    fn target(&self) -> (&'static str, &str);
    /// Returns the request without its id: the content by which a reused id is detected.
    fn without_id(self) -> Self;
}

/// A resource whose fields an update mask can name.
pub trait Masked: Clone {
    /// Copies one field from another resource. Returns `false` if there is no such field.
    fn copy_field(&mut self, path: &str, from: &Self) -> bool;
    /// Returns the first enum field whose number is unknown.
    fn unknown_enum(&self) -> Option<&'static str>;
    /// Returns the resource with this name and etag.
    fn named(self, name: String, etag: String) -> Self;
}

/// A resource that shows when it was created and when it last changed.
pub trait Timed {
    /// Returns the resource with these times.
    fn with_times(self, create_time: prost_types::Timestamp, update_time: prost_types::Timestamp) -> Self;
}

/// A request for one page of a list.
pub trait Paged {
    /// Returns the requested page size, not yet clamped.
    fn page_size(&self) -> i32;
    /// Returns the page token; empty for the first page.
    fn page_token(&self) -> &str;
    /// Returns the encoded request without paging: a page token is only valid for the same query.
    fn query(&self) -> Vec<u8>;
}

/// Changes that can be merged into the resource of their record: each field that both have, by name and type.
pub trait ApplyTo<R>: ChangeSet {
    /// Copies the fields of the change into the resource.
    fn apply_to(&self, resource: &mut R);
}

/// The closed set of changes of one record type.
pub trait ChangeSet: Texts + Clone + Send + Sync + Sized + 'static {
    /// The full protobuf names of all changes.
    const TYPES: &'static [&'static str];
    /// Returns the full protobuf name of this change.
    fn type_name(&self) -> &'static str;
    /// Returns the encoded change.
    fn payload(&self) -> Vec<u8>;
    /// Decodes a change; `None` if the set does not contain the type.
    ///
    /// # Errors
    /// If the payload cannot be decoded.
    fn decode(type_name: &str, payload: &[u8]) -> Result<Option<Self>, prost::DecodeError>;
}
