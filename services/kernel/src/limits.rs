//! Every limit that more than one contract names. Each is enforced at one place and tested there.

use crate::{Reason, Refusal, Refused};

/// Longest text in one language, in characters.
pub const TEXT_CHARS: usize = 10_000;
/// Longest one-line name or title, in characters.
pub const NAME_CHARS: usize = 200;
/// Longest id that people give to a part of a record, as of a segment of a host name.
pub const ID_CHARS: usize = 63;
/// Longest BCP 47 language tag.
pub const LANGUAGE_TAG_CHARS: usize = 35;
/// Most languages of one text.
pub const TEXT_LANGUAGES: usize = 24;
/// Most entries of a repeated field of a command.
pub const LIST_ENTRIES: usize = 100;
/// Longest URI or document reference, in characters.
pub const URI_CHARS: usize = 2_000;
/// Most tenants in the audience of a record.
pub const AUDIENCE_TENANTS: usize = 100;
/// Most changes that one record may collect; beyond it a record is refused further commands.
pub const RECORD_CHANGES: u64 = 10_000;

/// Whether a request brings in no more rows than one may.
///
/// # Errors
/// LIMIT where it does.
pub fn rows(sent: usize, most: usize) -> Refused<()> {
    if sent <= most {
        return Ok(());
    }
    let message = format!("rows: {sent} are more than {most}");
    Err(Refusal::because(Reason::Limit, "PL-4", message).help("Send them in several requests."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pl_4_a_request_with_too_many_rows_is_told_to_come_in_parts() {
        assert_eq!(rows(500, 500), Ok(()));
        let refused = rows(501, 500).map_err(|refusal| (refusal.reason, refusal.rule, refusal.help.is_empty()));
        assert_eq!(refused, Err((Reason::Limit, "PL-4", false)));
    }
}
