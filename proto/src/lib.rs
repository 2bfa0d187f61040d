//! The contract of Hansa as Rust: messages, and with the feature `grpc` clients and servers. No logic stands here.
//!
//! The traits below are implemented by the build for every message they fit, so that none can be forgotten.
#![allow(
    clippy::assigning_clones,
    clippy::doc_lazy_continuation,
    clippy::doc_markdown,
    clippy::large_enum_variant,
    missing_docs,
    rustdoc::all
)]
#![allow(clippy::match_single_binding, clippy::single_match)] // a set of one change, or of none with texts

include!(concat!(env!("OUT_DIR"), "/contract.rs"));
include!(concat!(env!("OUT_DIR"), "/derived.rs"));

pub use hansa::changes::v1 as changes;
pub use hansa::networks::v1 as networks;
pub use hansa::partnerships::v1 as partnerships;
pub use hansa::register::v1 as register;
pub use hansa::strategy::v1 as strategy;
pub use hansa::r#type::v1 as types;

/// The encoded descriptors of the whole contract, with comments and options: for reflection, transcoding and tests.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Reaches every text of a message, at any depth: to seal them on the way in and to resolve them on the way out (PL-7).
pub trait Texts {
    /// Calls `visit` with each text.
    fn visit_texts(&mut self, visit: &mut dyn FnMut(&mut types::LocalizedText));
}

/// What every command carries beside its content (PL-4).
pub trait WriteRequest {
    /// A UUID chosen by the caller; a request that is sent twice has effect once.
    fn request_id(&self) -> &str;
    /// Whether to answer as if it were done, and do nothing.
    fn validate_only(&self) -> bool;
    /// The head that the caller read, here or in the resource that it brings; empty where it does not care.
    fn etag(&self) -> &str;
    /// The field that names the record that it is about, and the name; empty where it makes one.
    fn target(&self) -> (&'static str, &str);
    /// The same request without its id: what a repetition is compared by.
    fn without_id(self) -> Self;
}

/// A resource whose fields can be written by name, as an update mask names them.
pub trait Masked: Clone {
    /// Takes one field over from another. `false` where there is no such field.
    fn copy_field(&mut self, path: &str, from: &Self) -> bool;
    /// The first field that holds a number which its enum does not know.
    fn unknown_enum(&self) -> Option<&'static str>;
    /// The same, with its name and head.
    fn named(self, name: String, etag: String) -> Self;
}

/// A request for one page of a list.
pub trait Paged {
    /// As asked, not yet clamped.
    fn page_size(&self) -> i32;
    /// Empty for the first page.
    fn page_token(&self) -> &str;
}

/// Changes that write what they say onto the resource of their record: each field that both have, by name and type.
pub trait Onto<R>: ChangeSet {
    /// Writes it.
    fn write_onto(&self, resource: &mut R);
}

/// The closed set of changes of one kind of record.
pub trait ChangeSet: Texts + Clone + Send + Sync + Sized + 'static {
    /// The full protobuf names of all members.
    const TYPES: &'static [&'static str];
    /// The full protobuf name of this one.
    fn type_name(&self) -> &'static str;
    /// Its bytes.
    fn payload(&self) -> Vec<u8>;
    /// The change of that name; `None` where the set has no such name.
    ///
    /// # Errors
    /// Where the bytes are no such message.
    fn decode(type_name: &str, payload: &[u8]) -> Result<Option<Self>, prost::DecodeError>;
}
