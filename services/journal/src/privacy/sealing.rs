//! Seals the texts of a command (PL-7).

use crate::crypto::node_key::random_bytes;
use hansa_kernel::{
    Refusal, Refused,
    limits::TEXT_CHARS,
    seal::{Sealed, seal},
};
use hansa_proto::{Texts, types::LocalizedText};

/// Replaces every text of a command by its seal and returns the sealed values. Seals that the caller sent are dropped, because
/// they would stand for texts that the node has not seen.
///
/// # Errors
/// `INVALID_FIELD` if a text is longer than `TEXT_CHARS` characters.
pub fn seal_texts(message: &mut impl Texts) -> Refused<Vec<Sealed>> {
    let mut sealed = Vec::new();
    let mut refusal = None;
    message.visit_texts(&mut |text: &mut LocalizedText| {
        text.seal.clear();
        if text.text.chars().count() > TEXT_CHARS {
            refusal = Some(Refusal::field("text", format!("is longer than {TEXT_CHARS} characters")));
        } else if !text.text.trim().is_empty() {
            let one = seal(std::mem::take(&mut text.text).as_bytes(), random_bytes());
            text.seal = one.seal.to_vec();
            sealed.push(one);
        }
    });
    refusal.map_or(Ok(sealed), Err)
}
