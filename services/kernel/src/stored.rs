//! A message of the contract within a record's state: it is stored as its own bytes, so that nothing copies its fields.
//! Use it as `#[serde(with = "hansa_kernel::stored")]`.

use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Writes it.
///
/// # Errors
/// As the format says.
pub fn serialize<M: Message, S: Serializer>(message: &M, serializer: S) -> Result<S::Ok, S::Error> {
    message.encode_to_vec().serialize(serializer)
}

/// Reads it.
///
/// # Errors
/// Where the bytes are no such message.
pub fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(deserializer: D) -> Result<M, D::Error> {
    let bytes = Vec::<u8>::deserialize(deserializer)?;
    M::decode(bytes.as_slice()).map_err(D::Error::custom)
}
