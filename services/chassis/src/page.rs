//! Pages of lists: keyset tokens, opaque and bound to the question they came from (AIP-158).

use crate::limits::{PAGE_DEFAULT, PAGE_MOST};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hansa_kernel::{Refusal, envelope};
use hansa_proto::Paged;
use serde::{Deserialize, Serialize};

/// Where a list goes on: the sort keys of the last row that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageToken {
    question: String,
    /// The sort keys, most significant first.
    pub after: Vec<String>,
}

/// A page as asked, within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows at most.
    pub size: u64,
    /// Where it goes on; `None` for the first page.
    pub after: Option<Vec<String>>,
    question: String,
}

impl Page {
    /// Reads a request. `question` is everything else that was asked: a token goes on with the same question alone.
    ///
    /// # Errors
    /// INVALID_FIELD for a negative size, or a token that is not from this list.
    pub fn of(request: &impl Paged, question: &str) -> Result<Self, Refusal> {
        let size = u64::try_from(request.page_size()).map_err(|_| Refusal::field("page_size", "is negative"))?;
        let size = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MOST) };
        let question = hex::encode(&envelope::hash(question.as_bytes())[..8]);
        let after = match request.page_token() {
            "" => None,
            token => Some(read(token, &question).ok_or_else(|| {
                Refusal::field("page_token", "is not from this list").help("Leave it empty to begin again.")
            })?),
        };
        Ok(Self { size, after, question })
    }

    /// The token after the last row's keys; empty where there is no more.
    #[must_use]
    pub fn next(&self, after: Option<Vec<String>>) -> String {
        let Some(after) = after else { return String::new() };
        let token = PageToken { question: self.question.clone(), after };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }
}

fn read(token: &str, question: &str) -> Option<Vec<String>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let token: PageToken = serde_json::from_slice(&bytes).ok()?;
    (token.question == question).then_some(token.after)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Asked(i32, String);

    impl Paged for Asked {
        fn page_size(&self) -> i32 {
            self.0
        }

        fn page_token(&self) -> &str {
            &self.1
        }
    }

    #[test]
    fn sizes_are_clamped_and_tokens_belong_to_their_question() {
        let page = Page::of(&Asked(0, String::new()), "country=FR").unwrap();
        assert_eq!((page.size, &page.after), (PAGE_DEFAULT, &None));
        assert_eq!(Page::of(&Asked(i32::MAX, String::new()), "").unwrap().size, PAGE_MOST);
        assert!(Page::of(&Asked(-1, String::new()), "").is_err());
        let token = page.next(Some(vec!["Lyon".into(), "id".into()]));
        let again = Page::of(&Asked(5, token.clone()), "country=FR").unwrap();
        assert_eq!(again.after, Some(vec!["Lyon".to_owned(), "id".to_owned()]));
        assert!(Page::of(&Asked(5, token), "country=DE").is_err());
        assert!(Page::of(&Asked(5, "nonsense".into()), "").is_err());
        assert_eq!(page.next(None), "");
    }
}
