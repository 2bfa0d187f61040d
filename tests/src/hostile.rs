//! Hostile requests, generated from message descriptors and a seed.

use crate::filler::fill;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
    prost::{
        Message,
        encoding::{WireType, encode_key, encode_varint},
    },
};
use std::collections::HashMap;

/// A pseudo-random number generator (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// Creates a generator from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap_or(0)
    }

    /// Returns one of `these`.
    pub fn of<'a, T>(&mut self, these: &'a [T]) -> &'a T {
        &these[self.below(these.len())]
    }
}

/// Texts that often expose defects in parsers and validators.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "\u{feff}",
    "\u{202e}drawkcab",
    "e\u{301}\u{301}\u{301}",
    "👩‍👩‍👧‍👦",
    "'; DROP TABLE changes; --",
    "%s%n%x",
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "cities/",
    "cities/-",
    "cities/00000000-0000-0000-0000-000000000000",
    "agreements/00000000-0000-0000-0000-000000000000/changes/1",
    "agreements/ffffffff-ffff-ffff-ffff-ffffffffffff",
    "tenants/nobody",
    "feeds/nothing",
    "feeds/register",
    "feeds/strategy",
    "-1",
    "9223372036854775808",
    "1e999",
    "NaN",
    "DE",
    "de",
    "xx-verylongsubtagthatisnone",
    "*",
    "eyJxdWVzdGlvbiI6IiIsImFmdGVyIjpbXX0",
    "AAAA",
];
const NUMBERS: &[i64] = &[0, 1, -1, 2, 50, 1_000, 1_001, 10_000, 9_999_999, i32::MAX as i64, i32::MIN as i64];
const WIDE: &[i64] = &[i64::MAX, i64::MIN, 1 << 53, 1 << 32];
/// Maximum length of a huge text, in characters.
const HUGE: usize = 300_000;

/// A way to damage a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A message whose fields all have random values.
    Random,
    /// A well-formed message, except for a few fields.
    Spoilt,
    /// A well-formed message that is truncated.
    Cut,
    /// A well-formed message with flipped bits.
    Turned,
    /// Fields with the wrong wire type.
    Mistyped,
    /// Texts that are not UTF-8.
    Unreadable,
    /// Deeply nested groups.
    Deep,
    /// A well-formed message with one text or list that is far too long.
    Huge,
    /// Random bytes.
    Noise,
}

/// All kinds of harm.
pub const HARMS: [Harm; 9] = [
    Harm::Random,
    Harm::Spoilt,
    Harm::Cut,
    Harm::Turned,
    Harm::Mistyped,
    Harm::Unreadable,
    Harm::Deep,
    Harm::Huge,
    Harm::Noise,
];

/// Returns the bytes of a request for an rpc, damaged in the given way.
#[must_use]
pub fn request(dice: &mut Dice, method: &MethodDescriptor, harm: Harm, known: &HashMap<&str, String>) -> Vec<u8> {
    let input = method.input();
    match harm {
        Harm::Random => random(dice, &input, known, 6).encode_to_vec(),
        Harm::Spoilt => spoilt(dice, &input, known).encode_to_vec(),
        Harm::Cut => {
            let mut whole = fill(&input, known).encode_to_vec();
            whole.truncate(dice.below(whole.len()));
            whole
        }
        Harm::Turned => {
            let mut whole = fill(&input, known).encode_to_vec();
            for _ in 0..=dice.below(4) {
                if let Some(at) = (!whole.is_empty()).then(|| dice.below(whole.len())) {
                    whole[at] ^= 1 << dice.below(8);
                }
            }
            whole
        }
        Harm::Mistyped => mistyped(dice, &input),
        Harm::Unreadable => unreadable(dice, &input),
        Harm::Deep => deep(dice, &input),
        Harm::Huge => huge(dice, &input, known),
        Harm::Noise => (0..dice.below(400)).map(|_| dice.roll().to_le_bytes()[0]).collect(),
    }
}

/// Returns one copy of the message for each of its texts, at any depth, with that text replaced.
#[must_use]
pub fn with_each_text(message: &DynamicMessage, text: &str) -> Vec<DynamicMessage> {
    let mut out = Vec::new();
    for (field, value) in message.fields() {
        let changed: Vec<Value> = match value {
            Value::String(_) => vec![Value::String(text.to_owned())],
            Value::Message(inner) => with_each_text(inner, text).into_iter().map(Value::Message).collect(),
            Value::List(items) => match items.first() {
                Some(Value::String(_)) => vec![Value::List(vec![Value::String(text.to_owned())])],
                Some(Value::Message(inner)) => {
                    let changed = with_each_text(inner, text).into_iter();
                    changed.map(|inner| Value::List(vec![Value::Message(inner)])).collect()
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        for value in changed {
            let mut message = message.clone();
            message.set_field(&field, value);
            out.push(message);
        }
    }
    out
}

fn text(dice: &mut Dice, known: &HashMap<&str, String>) -> String {
    match dice.below(6) {
        0 => "x".repeat(dice.below(5_000)),
        1 => char::from_u32(u32::try_from(dice.below(0x11_0000)).unwrap_or(0)).unwrap_or('x').to_string(),
        2 => crate::request_id(),
        3 if !known.is_empty() => {
            let mut names: Vec<&String> = known.values().collect();
            names.sort();
            (*dice.of(&names)).clone()
        }
        _ => (*dice.of(TEXTS)).to_owned(),
    }
}

fn value(dice: &mut Dice, field: &FieldDescriptor, known: &HashMap<&str, String>, depth: usize) -> Value {
    let wide = |dice: &mut Dice| if dice.below(3) == 0 { *dice.of(WIDE) } else { *dice.of(NUMBERS) };
    match field.kind() {
        Kind::Message(inner) => Value::Message(random(dice, &inner, known, depth.saturating_sub(1))),
        Kind::Enum(_) => Value::EnumNumber(i32::try_from(*dice.of(NUMBERS)).unwrap_or(-7)),
        // Always validate only: a command that takes effect would change the records under test.
        Kind::Bool => Value::Bool(field.name() == "validate_only" || dice.below(2) == 0),
        Kind::String => Value::String(text(dice, known)),
        Kind::Bytes => Value::Bytes((0..dice.below(100)).map(|_| dice.roll().to_le_bytes()[0]).collect()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(i32::try_from(*dice.of(NUMBERS)).unwrap_or(i32::MAX)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(wide(dice)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::try_from(*dice.of(NUMBERS)).unwrap_or(u32::MAX)),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(wide(dice).cast_unsigned()),
        Kind::Float => Value::F32(*dice.of(&[0.0, f32::NAN, f32::INFINITY, -1e30])),
        Kind::Double => Value::F64(*dice.of(&[0.0, f64::NAN, f64::INFINITY, -1e300])),
    }
}

fn random(dice: &mut Dice, of: &MessageDescriptor, known: &HashMap<&str, String>, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        let inner = field.kind().as_message().is_some();
        if field.is_map() || (depth == 0 && inner) || dice.below(4) == 0 && field.name() != "validate_only" {
            continue;
        }
        let value = if field.is_list() {
            let most = if inner { 4 } else { 8 };
            Value::List((0..dice.below(most)).map(|_| value(dice, &field, known, depth)).collect())
        } else {
            value(dice, &field, known, depth)
        };
        message.set_field(&field, value);
    }
    message
}

fn spoilt(dice: &mut Dice, of: &MessageDescriptor, known: &HashMap<&str, String>) -> DynamicMessage {
    let mut message = fill(of, known);
    for _ in 0..=dice.below(2) {
        spoil(dice, &mut message, known);
    }
    message
}

/// Replaces one field by a random value, at any depth.
fn spoil(dice: &mut Dice, message: &mut DynamicMessage, known: &HashMap<&str, String>) {
    let fields: Vec<FieldDescriptor> = prost_reflect::ReflectMessage::descriptor(message).fields().collect();
    let Some(field) = (!fields.is_empty()).then(|| dice.of(&fields).clone()) else { return };
    if field.name() == "validate_only" || field.is_map() {
        return;
    }
    let within = match message.get_field_mut(&field) {
        Value::Message(inner) => Some(inner),
        Value::List(items) => items.first_mut().and_then(Value::as_message_mut),
        _ => None,
    };
    match within {
        Some(inner) if dice.below(4) > 0 => spoil(dice, inner, known),
        _ => {
            let count = if field.is_list() { 1 + dice.below(3) } else { 1 };
            let mut values: Vec<Value> = (0..count).map(|_| value(dice, &field, known, 3)).collect();
            let value = if field.is_list() { Value::List(values) } else { values.swap_remove(0) };
            message.set_field(&field, value);
        }
    }
}

/// Encodes every field with a random wire type.
fn mistyped(dice: &mut Dice, of: &MessageDescriptor) -> Vec<u8> {
    let mut out = Vec::new();
    for field in of.fields() {
        match dice.below(3) {
            0 => {
                encode_key(field.number(), WireType::Varint, &mut out);
                encode_varint(dice.roll(), &mut out);
            }
            1 => {
                encode_key(field.number(), WireType::SixtyFourBit, &mut out);
                out.extend(dice.roll().to_le_bytes());
            }
            _ => {
                encode_key(field.number(), WireType::ThirtyTwoBit, &mut out);
                out.extend(&dice.roll().to_le_bytes()[..4]);
            }
        }
    }
    out
}

fn unreadable(dice: &mut Dice, of: &MessageDescriptor) -> Vec<u8> {
    let mut out = Vec::new();
    let bad: &[&[u8]] = &[&[0xff, 0xfe], &[0xc0, 0x80], &[0xed, 0xa0, 0x80], &[0xf8, 0x88, 0x80, 0x80, 0x80]];
    for field in of.fields().filter(|field| field.kind() == Kind::String || field.kind().as_message().is_some()) {
        let bytes = dice.of(bad);
        encode_key(field.number(), WireType::LengthDelimited, &mut out);
        encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
    }
    out
}

/// Encodes nested groups of an unknown field, and a field whose length exceeds the message.
fn deep(dice: &mut Dice, of: &MessageDescriptor) -> Vec<u8> {
    let (levels, mut out) = (1 + dice.below(20_000), Vec::new());
    for _ in 0..levels {
        encode_key(15, WireType::StartGroup, &mut out);
    }
    for _ in 0..if dice.below(2) == 0 { levels } else { 0 } {
        encode_key(15, WireType::EndGroup, &mut out);
    }
    if let Some(field) = of.fields().next() {
        encode_key(field.number(), WireType::LengthDelimited, &mut out);
        encode_varint(dice.roll(), &mut out);
    }
    out
}

/// Encodes a well-formed message with one field that is far too long.
fn huge(dice: &mut Dice, of: &MessageDescriptor, known: &HashMap<&str, String>) -> Vec<u8> {
    let mut message = fill(of, known);
    let fields: Vec<FieldDescriptor> = of.fields().filter(|f| f.is_list() || f.kind() == Kind::String).collect();
    let Some(field) = (!fields.is_empty()).then(|| dice.of(&fields).clone()) else { return Vec::new() };
    let value = if field.is_list() {
        let one = message.get_field(&field).as_list().and_then(|items| items.first().cloned());
        Value::List(one.into_iter().cycle().take(20_000).collect())
    } else {
        Value::String("ä".repeat(dice.below(HUGE)))
    };
    message.set_field(&field, value);
    let mut bytes = message.encode_to_vec();
    bytes.truncate(4 * 1024 * 1024 - 1);
    bytes
}
