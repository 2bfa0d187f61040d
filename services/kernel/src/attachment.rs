//! Attachments: references to documents that are kept elsewhere.

use crate::{
    limits::{MEDIA_TYPE_CHARS, NAME_CHARS},
    refusal::{Refusal, Refused},
    text,
};
use hansa_proto::types::Attachment;

/// The length of a SHA-256, in bytes.
const SHA256_BYTES: usize = 32;

/// Checks an attachment. A missing one is valid.
///
/// # Errors
/// `FIELD_INVALID` if it names neither address nor title, or if a field is too long or malformed.
pub fn optional(field: &str, attachment: Option<&Attachment>) -> Refused<()> {
    let Some(attachment) = attachment else { return Ok(()) };
    if attachment.uri.trim().is_empty() && attachment.display_name.trim().is_empty() {
        return Err(Refusal::field(field, "needs a `uri` or a `display_name`"));
    }
    text::reference(&format!("{field}.uri"), &attachment.uri)?;
    text::short(&format!("{field}.display_name"), &attachment.display_name, NAME_CHARS)?;
    text::short(&format!("{field}.media_type"), &attachment.media_type, MEDIA_TYPE_CHARS)?;
    if attachment.size_bytes < 0 {
        return Err(Refusal::field(format!("{field}.size_bytes"), "is negative"));
    }
    if !attachment.sha256.is_empty() && attachment.sha256.len() != SHA256_BYTES {
        return Err(Refusal::field(format!("{field}.sha256"), format!("must have {SHA256_BYTES} bytes")));
    }
    Ok(())
}

/// Checks a required attachment.
///
/// # Errors
/// `FIELD_INVALID` if it is missing; otherwise as [`optional`].
pub fn required(field: &str, attachment: Option<&Attachment>) -> Refused<()> {
    match attachment {
        None => Err(Refusal::field(field, "is required")),
        some => optional(field, some),
    }
}

/// Returns an attachment that consists of an address.
#[must_use]
pub fn link(uri: impl Into<String>) -> Attachment {
    Attachment { uri: uri.into(), ..Attachment::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_needs_an_address_or_a_title_within_its_limits() {
        let titled = |display_name: &str| Attachment { display_name: display_name.into(), ..Attachment::default() };
        assert!(optional("document", None).is_ok() && required("document", None).is_err());
        assert!(optional("document", Some(&link("https://example.org/1"))).is_ok());
        assert!(required("document", Some(&titled("Deliberation 12/2024"))).is_ok());
        let good = link("https://example.org/1");
        let bad = [
            Attachment::default(),
            link("x".repeat(2_001)),
            titled(&"x".repeat(201)),
            titled("two\nlines"),
            Attachment { media_type: "x".repeat(101), ..good.clone() },
            Attachment { size_bytes: -1, ..good.clone() },
            Attachment { sha256: vec![0; 31], ..good },
        ];
        for attachment in bad {
            let refusal = optional("document", Some(&attachment)).unwrap_err();
            assert!(refusal.missing[0].subject.starts_with("document"), "{attachment:?}");
        }
    }
}
