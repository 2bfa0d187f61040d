//! Limits that several parts of the contract share. One place enforces each limit, and a test there covers it.

use crate::{ReasonClass, Refusal, Refused};

/// Maximum length of a text in one language, in characters.
pub const TEXT_CHARS: usize = 10_000;
/// Maximum length of a one-line name or title, in characters.
pub const NAME_CHARS: usize = 200;
/// Maximum length of an id that people give to a part of a record; the same as a host name label's.
pub const ID_CHARS: usize = 63;
/// Maximum length of a BCP 47 language tag.
pub const LANGUAGE_TAG_CHARS: usize = 35;
/// Maximum number of languages per text.
pub const TEXT_LANGUAGES: usize = 24;
/// Maximum number of entries in a repeated field of a command.
pub const LIST_ENTRIES: usize = 100;
/// Maximum length of a media type, in characters.
pub const MEDIA_TYPE_CHARS: usize = 100;
/// Maximum length of a URI or document reference, in characters.
pub const URI_CHARS: usize = 2_000;
/// Maximum number of tenants in a record's audience.
pub const AUDIENCE_TENANTS: usize = 100;
/// Maximum number of changes per record. A record with this many accepts no more commands.
pub const RECORD_CHANGES: u64 = 10_000;

/// Checks the number of rows in one request.
///
/// # Errors
/// `LIMIT` if the request contains more rows than `most`.
pub fn rows(sent: usize, most: usize) -> Refused<()> {
    if sent <= most {
        return Ok(());
    }
    let message = format!("rows: {sent} exceed the limit of {most}");
    Err(Refusal::because(ReasonClass::Limit, "PL-4", "TOO_MANY_ROWS", message).help("Send them in several requests."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pl_4_a_request_with_too_many_rows_is_told_to_come_in_parts() {
        assert_eq!(rows(500, 500), Ok(()));
        let refused = rows(501, 500).map_err(|refusal| (refusal.class, refusal.rule, refusal.help.is_empty()));
        assert_eq!(refused, Err((ReasonClass::Limit, "PL-4", false)));
    }
}
