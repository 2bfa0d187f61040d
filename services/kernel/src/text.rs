//! Checks of texts that callers send.

use crate::{
    limits::{ID_CHARS, LANGUAGE_TAG_CHARS, NAME_CHARS, TEXT_CHARS, TEXT_LANGUAGES, URI_CHARS},
    refusal::{Refusal, Refused},
};
use hansa_proto::types::LocalizedText;

/// Returns the start of a caller's text without control characters, safe to quote in a refusal.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

/// Checks a one-line name: not empty, no control characters, at most `NAME_CHARS` characters.
///
/// # Errors
/// `INVALID_FIELD` if the name breaks one of these limits.
pub fn name(field: &str, text: &str) -> Refused<()> {
    line(field, text, NAME_CHARS)
}

/// Checks an id that people give to a part of a record: lower-case letters, digits and hyphens, a letter first.
///
/// # Errors
/// `INVALID_FIELD` if the id has another form or is too long.
pub fn id(field: &str, id: &str) -> Refused<()> {
    let well_formed = id.len() <= ID_CHARS
        && id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if well_formed {
        return Ok(());
    }
    let what = format!("`{}` is not an id of lower-case letters, digits and hyphens", excerpt(id));
    Err(Refusal::field(field, format!("{what}, at most {ID_CHARS} long")))
}

/// Checks a URI or a reference to a document. An empty text is valid.
///
/// # Errors
/// `INVALID_FIELD` if the text is blank, too long or contains control characters.
pub fn reference(field: &str, text: &str) -> Refused<()> {
    short(field, text, URI_CHARS)
}

/// Checks an optional line of text. An empty text is valid.
///
/// # Errors
/// `FIELD_INVALID` if the text is blank, longer than `most` characters or contains control characters.
pub fn short(field: &str, text: &str, most: usize) -> Refused<()> {
    if text.is_empty() { Ok(()) } else { line(field, text, most) }
}

fn line(field: &str, text: &str, most: usize) -> Refused<()> {
    if text.trim().is_empty() {
        return Err(Refusal::field(field, "is required"));
    }
    if text.chars().count() > most {
        return Err(Refusal::field(field, format!("is longer than {most} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::field(field, "contains control characters"));
    }
    Ok(())
}

/// Checks the form of a BCP 47 language tag. It does not look the tag up.
///
/// # Errors
/// `INVALID_FIELD` if the tag is malformed.
pub fn language(field: &str, tag: &str) -> Refused<()> {
    let well_formed = !tag.is_empty()
        && tag.len() <= LANGUAGE_TAG_CHARS
        && tag.split('-').all(|part| (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric()))
        && tag
            .split('-')
            .next()
            .is_some_and(|first| first.len() >= 2 && first.chars().all(|c| c.is_ascii_alphabetic()));
    if well_formed { Ok(()) } else { Err(Refusal::field(field, format!("`{}` is not a language tag", excerpt(tag)))) }
}

/// Checks a required text in several languages: at least one language, each once, each with its text (PL-6).
///
/// # Errors
/// `INVALID_FIELD` if the text is missing or [`optional`] refuses it.
pub fn required(field: &str, texts: &[LocalizedText]) -> Refused<()> {
    if texts.is_empty() {
        return Err(Refusal::field(field, "is required"));
    }
    optional(field, texts)
}

/// Checks an optional text in several languages: each language once, each with its text (PL-6).
///
/// # Errors
/// `INVALID_FIELD` if there are too many languages, or one is malformed, repeated, empty or too long.
pub fn optional(field: &str, texts: &[LocalizedText]) -> Refused<()> {
    if texts.len() > TEXT_LANGUAGES {
        return Err(Refusal::field(field, format!("has more than {TEXT_LANGUAGES} languages")));
    }
    for (i, text) in texts.iter().enumerate() {
        let field = format!("{field}[{i}]");
        if !text.language_code.is_empty() {
            language(&format!("{field}.language_code"), &text.language_code)?;
        }
        if text.text.trim().is_empty() && text.seal.is_empty() {
            return Err(Refusal::field(format!("{field}.text"), "is required"));
        }
        if text.text.chars().count() > TEXT_CHARS {
            return Err(Refusal::field(format!("{field}.text"), format!("is longer than {TEXT_CHARS} characters")));
        }
        if texts[..i].iter().any(|other| other.language_code == text.language_code) {
            return Err(Refusal::field(format!("{field}.language_code"), "is repeated"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(language: &str, text: &str) -> LocalizedText {
        LocalizedText { language_code: language.into(), text: text.into(), ..Default::default() }
    }

    #[test]
    fn pl_6_texts_are_bounded_and_each_language_stands_once() {
        assert!(required("reason", &[]).is_err());
        assert!(required("reason", &[text("fr", "Parce que")]).is_ok());
        assert!(required("reason", &[text("fr", " ")]).is_err());
        assert!(required("reason", &[text("fr", "a"), text("fr", "b")]).is_err());
        assert!(required("reason", &[text("fr!", "a")]).is_err());
        assert!(required("reason", &[text("", &"x".repeat(TEXT_CHARS))]).is_ok());
        assert!(required("reason", &[text("", &"x".repeat(TEXT_CHARS + 1))]).is_err());
        let many: Vec<_> = (0..=TEXT_LANGUAGES).map(|i| text(&format!("a{}", (b'a' + i as u8) as char), "x")).collect();
        assert!(optional("reason", &many).is_err());
        assert!(optional("reason", &many[..TEXT_LANGUAGES]).is_ok());
    }

    #[test]
    fn names_and_tags_are_checked() {
        assert!(name("title", "Paris").is_ok());
        assert!(name("title", &"x".repeat(NAME_CHARS + 1)).is_err());
        assert!(name("title", "a\nb").is_err());
        assert!(reference("uri", "").is_ok() && reference("uri", &"x".repeat(URI_CHARS + 1)).is_err());
        for tag in ["fr", "pt-BR", "zh-Hant-TW"] {
            assert!(language("l", tag).is_ok(), "{tag}");
        }
        for tag in ["", "f", "12", "fr_FR", "fr--x", &"a".repeat(LANGUAGE_TAG_CHARS + 1)] {
            assert!(language("l", tag).is_err(), "{tag}");
        }
        assert_eq!(excerpt("a\u{7}b"), "ab…");
    }
}
