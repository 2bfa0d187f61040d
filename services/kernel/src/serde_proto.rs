//! Serde adapter for a protobuf message inside a record's state. It stores the message's encoded bytes, so the state
//! need not copy its fields. Use it as `#[serde(with = "hansa_kernel::serde_proto")]`.

use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Serializes a message as its encoded bytes.
///
/// # Errors
/// The serializer's error.
pub fn serialize<M: Message, S: Serializer>(message: &M, serializer: S) -> Result<S::Ok, S::Error> {
    message.encode_to_vec().serialize(serializer)
}

/// Deserializes a message from its encoded bytes.
///
/// # Errors
/// The deserializer's error, or its custom error if the bytes do not decode as the message.
pub fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(deserializer: D) -> Result<M, D::Error> {
    let bytes = Vec::<u8>::deserialize(deserializer)?;
    M::decode(bytes.as_slice()).map_err(D::Error::custom)
}
