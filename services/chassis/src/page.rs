//! Pages of lists (AIP-158): keyset page tokens, opaque to the caller and only valid for the query that returned them.

use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hansa_kernel::{Refusal, Refused, TenantId, envelope};
use hansa_proto::Paged;
use serde::{Deserialize, Serialize};

/// The content of a page token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PageToken {
    /// The hash of the query that the token continues.
    query_hash: String,
    /// The sort keys of the last row, most significant first.
    after: Vec<String>,
}

/// The requested page, within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most rows to return.
    pub size: u64,
    /// The sort keys of the last row of the previous page; `None` for the first page.
    pub after: Option<Vec<String>>,
    query_hash: String,
}

impl Page {
    /// Reads the page that a request asks for. A page size of 0 stands for `PAGE_DEFAULT`; it is capped at `PAGE_MAX`.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the size is negative, or the token belongs to another query.
    pub fn of(request: &impl Paged) -> Refused<Self> {
        Self::of_query(request, request.query())
    }

    /// Like `of`, for a list whose result depends on the caller's tenant.
    ///
    /// # Errors
    /// As `of`.
    pub fn of_tenant(request: &impl Paged, tenant: TenantId) -> Refused<Self> {
        Self::of_version(request, tenant.0.as_bytes())
    }

    /// Like `of`, for a list over one version of something, such as the etag of a record: a token is only valid for that version.
    ///
    /// # Errors
    /// As `of`.
    pub fn of_version(request: &impl Paged, version: &[u8]) -> Refused<Self> {
        let mut query = request.query();
        query.extend(version);
        Self::of_query(request, query)
    }

    fn of_query(request: &impl Paged, query: Vec<u8>) -> Refused<Self> {
        let size = u64::try_from(request.page_size()).map_err(|_| Refusal::field("page_size", "is negative"))?;
        let size = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MAX) };
        let query_hash = hex::encode(&envelope::hash(&query)[..8]);
        let after = match request.page_token() {
            "" => None,
            token => Some(decode(token, &query_hash).ok_or_else(|| {
                Refusal::field("page_token", "is not from this list").help("Leave it empty to start again.")
            })?),
        };
        Ok(Self { size, after, query_hash })
    }

    /// Returns the token of the page after these sort keys; empty if there are no more rows.
    #[must_use]
    pub fn next_token(&self, after: Option<Vec<String>>) -> String {
        let Some(after) = after else { return String::new() };
        let token = PageToken { query_hash: self.query_hash.clone(), after };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }
}

fn decode(token: &str, query_hash: &str) -> Option<Vec<String>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let token: PageToken = serde_json::from_slice(&bytes).ok()?;
    (token.query_hash == query_hash).then_some(token.after)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use uuid::Uuid;

    struct List(i32, String, &'static str);

    impl Paged for List {
        fn page_size(&self) -> i32 {
            self.0
        }

        fn page_token(&self) -> &str {
            &self.1
        }

        fn query(&self) -> Vec<u8> {
            self.2.into()
        }
    }

    #[test]
    fn sizes_are_clamped_and_tokens_belong_to_their_query() {
        let page = Page::of(&List(0, String::new(), "country=FR")).unwrap();
        assert_eq!((page.size, &page.after), (PAGE_DEFAULT, &None));
        assert_eq!(Page::of(&List(i32::MAX, String::new(), "")).unwrap().size, PAGE_MAX);
        assert!(Page::of(&List(-1, String::new(), "")).is_err());
        let token = page.next_token(Some(vec!["Lyon".into(), "id".into()]));
        let again = Page::of(&List(5, token.clone(), "country=FR")).unwrap();
        assert_eq!(again.after, Some(vec!["Lyon".to_owned(), "id".to_owned()]));
        assert!(Page::of(&List(5, token.clone(), "country=DE")).is_err());
        assert!(Page::of_tenant(&List(5, token, "country=FR"), TenantId(Uuid::nil())).is_err());
        assert!(Page::of(&List(5, "nonsense".into(), "")).is_err());
        assert_eq!(page.next_token(None), "");
    }
}
