//! Well-formed requests, generated from their descriptors.

use crate::{request_id, text, today};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use std::collections::HashMap;

/// Maximum depth of filled messages.
const DEPTH: usize = 5;

/// Returns a request in which every field has a valid value. `known` supplies texts by field name. Commands only
/// validate.
#[must_use]
pub fn fill(descriptor: &MessageDescriptor, known: &HashMap<&str, String>) -> DynamicMessage {
    message(descriptor, known, DEPTH)
}

/// Sets a text by its path, such as `city.name`.
///
/// # Panics
/// If the message has no such field.
pub fn set(message: &mut DynamicMessage, path: &str, value: &str) {
    match path.split_once('.') {
        None => message.set_field_by_name(path, Value::String(value.to_owned())),
        Some((first, rest)) => {
            let field = message.descriptor().get_field_by_name(first).expect("the path names a field");
            set(message.get_field_mut(&field).as_message_mut().expect("the path leads through messages"), rest, value);
        }
    }
}

fn message(descriptor: &MessageDescriptor, known: &HashMap<&str, String>, depth: usize) -> DynamicMessage {
    if descriptor.full_name() == "hansa.type.v1.LocalizedText" {
        return dynamic(descriptor, &text("Words.")[0]);
    }
    if descriptor.full_name() == "google.type.Date" {
        return dynamic(descriptor, &today());
    }
    let mut filled = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        // Of a oneof, only the first field is set.
        let chosen = field.containing_oneof().and_then(|choice| choice.fields().next());
        if chosen.is_some_and(|first| first != field) || (depth == 0 && field.kind().as_message().is_some()) {
            continue;
        }
        if let Some(value) = value(&field, descriptor, known, depth) {
            let value = if field.is_list() { Value::List(vec![value]) } else { value };
            filled.set_field(&field, value);
        }
    }
    filled
}

fn dynamic<M: prost_reflect::prost::Message>(descriptor: &MessageDescriptor, message: &M) -> DynamicMessage {
    DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice()).expect("a message of the contract")
}

fn value(
    field: &FieldDescriptor,
    within: &MessageDescriptor,
    known: &HashMap<&str, String>,
    depth: usize,
) -> Option<Value> {
    if let Some(known) = known.get(field.name()).filter(|_| field.kind() == Kind::String) {
        return Some(Value::String(known.clone()));
    }
    Some(match field.kind() {
        Kind::Message(inner) => Value::Message(message(&inner, known, depth - 1)),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::Bool => Value::Bool(field.name() == "validate_only"),
        Kind::String => match field.name() {
            "request_id" => Value::String(request_id()),
            "name" if within.name() == "WatchFeedRequest" => Value::String("feeds/partnerships".into()),
            "etag" | "page_token" | "name" => return None,
            "paths" if within.full_name() == "google.protobuf.FieldMask" => Value::String("*".into()),
            _ => Value::String("words".into()),
        },
        Kind::Bytes => return None,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 if field.name() == "page_size" => Value::I32(1_000),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(1),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(1),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(1),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(0),
        Kind::Float => Value::F32(1.0),
        Kind::Double => Value::F64(1.0),
    })
}
