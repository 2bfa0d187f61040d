//! Identifiers. They are random and ordered by time (UUIDv7), or derived from the thing that they identify. No id
//! derives from a host.

use crate::refusal::{Refusal, Refused};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// Namespace of ids that derive from source ids, so that two nodes that import the same file derive the same ids.
const SOURCES: Uuid = Uuid::from_u128(0x6861_6e73_6100_5000_8000_736f_7572_6365);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

id!(
    /// The id of a record, unique across collections and nodes.
    RecordId
);
id!(
    /// The id of a tenant: a municipality, a secretariat, an organizer. It contains a hash of the tenant's first key.
    TenantId
);
id!(
    /// The opaque id of a person or program. The same subject of the same tenant always has the same id.
    PersonId
);

impl RecordId {
    /// Derives the id of the record that `source` calls `key`, such as (`geonames`, `3041563`).
    #[must_use]
    pub fn from_source(source: &str, key: &str) -> Self {
        Self(Uuid::new_v5(&SOURCES, format!("{source}:{key}").as_bytes()))
    }

    /// Derives the id of a record that exists once per other record, such as a city's strategy office.
    #[must_use]
    pub fn of(self, what: &str) -> Self {
        Self(Uuid::new_v5(&self.0, what.as_bytes()))
    }
}

impl TenantId {
    /// Derives a tenant's id from its first public key.
    #[must_use]
    pub fn from_key(public_key: &[u8; 32]) -> Self {
        let hash = Sha256::digest(public_key);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Self(Uuid::new_v8(bytes))
    }

    /// Returns the resource name, `tenants/{tenant}`.
    #[must_use]
    pub fn name(self) -> String {
        format!("tenants/{self}")
    }

    /// Parses `tenants/{tenant}`.
    ///
    /// # Errors
    /// `INVALID_FIELD` if `name` is not such a name.
    pub fn parse(name: &str, field: &str) -> Refused<Self> {
        RecordName::parse(name, "tenants", field).map(|n| Self(n.id.0))
    }
}

impl PersonId {
    /// Derives the id of the person that `issuer` calls `subject`. The id differs per tenant.
    #[must_use]
    pub fn derive(tenant: TenantId, issuer: &str, subject: &str) -> Self {
        Self(Uuid::new_v5(&tenant.0, format!("{issuer}\n{subject}").as_bytes()))
    }
}

/// The resource name of a record (AIP-122): pairs of collection and id. The last pair is the record's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName {
    path: String,
    /// The record's own id: the last segment.
    pub id: RecordId,
}

impl RecordName {
    /// Returns a top-level name, such as `agreements/{id}`.
    #[must_use]
    pub fn new(collection: &str, id: RecordId) -> Self {
        Self { path: format!("{collection}/{id}"), id }
    }

    /// Returns a name below this one, such as `networks/{network}/memberships/{id}`.
    #[must_use]
    pub fn below(&self, collection: &str, id: RecordId) -> Self {
        Self { path: format!("{}/{collection}/{id}", self.path), id }
    }

    /// Parses a top-level name of one collection. The refusal names `field`.
    ///
    /// # Errors
    /// `INVALID_FIELD` if `name` is not such a name.
    pub fn parse(name: &str, collection: &str, field: &str) -> Refused<Self> {
        let bad = || {
            Refusal::field(field, format!("`{}` is not a name like {collection}/{{uuid}}", crate::text::excerpt(name)))
        };
        let id = name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')).ok_or_else(bad)?;
        Ok(Self::new(collection, RecordId(canonical_uuid(id).ok_or_else(bad)?)))
    }

    /// Parses any record name: pairs of collection and UUID, at most three pairs.
    ///
    /// # Errors
    /// `INVALID_FIELD` if `name` is not such a name.
    pub fn parse_any(name: &str, field: &str) -> Refused<Self> {
        let bad = || Refusal::field(field, format!("`{}` is not the name of a record", crate::text::excerpt(name)));
        let parts: Vec<&str> = name.split('/').collect();
        if !parts.len().is_multiple_of(2) || parts.len() > 6 {
            return Err(bad());
        }
        let mut id = None;
        for pair in parts.chunks(2) {
            if pair[0].is_empty() || !pair[0].chars().all(|c| c.is_ascii_alphabetic()) {
                return Err(bad());
            }
            id = Some(canonical_uuid(pair[1]).ok_or_else(bad)?);
        }
        Ok(Self { path: name.to_owned(), id: RecordId(id.ok_or_else(bad)?) })
    }

    /// Parses the name of a numbered part of a record, such as `agreements/{agreement}/changes/7`.
    ///
    /// # Errors
    /// `INVALID_FIELD` if `name` is not such a name.
    pub fn parse_numbered(name: &str, part: &str, field: &str) -> Refused<(Self, u64)> {
        let bad = || Refusal::field(field, format!("must be `{{record}}/{part}/{{number}}`"));
        let (rest, number) = name.rsplit_once('/').ok_or_else(bad)?;
        let record = rest.strip_suffix(part).and_then(|rest| rest.strip_suffix('/')).ok_or_else(bad)?;
        let number: u64 = number.parse().ok().filter(|number| *number > 0).ok_or_else(bad)?;
        Ok((Self::parse_any(record, field)?, number))
    }

    /// Returns the last collection of the name: the kind of the record.
    #[must_use]
    pub fn collection(&self) -> &str {
        self.path.rsplit('/').nth(1).unwrap_or_default()
    }

    /// Returns the whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Returns the name of one change of the record, `{record}/changes/{version}`.
    #[must_use]
    pub fn change(&self, version: u64) -> String {
        format!("{}/changes/{version}", self.path)
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Parses a UUID in the one accepted spelling, hyphenated and lower case.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.hyphenated().to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_a_source_are_the_same_everywhere() {
        let id = RecordId::from_source("geonames", "2988507");
        assert_eq!(id, RecordId::from_source("geonames", "2988507"));
        assert_eq!(id.to_string(), "771a9d10-74a7-574d-9a19-8fe990fcf036");
        assert_ne!(id, RecordId::from_source("geonames", "2988508"));
    }

    #[test]
    fn names_are_read_in_one_spelling_only() {
        let id = RecordId::from_source("a", "b");
        let name = format!("agreements/{id}");
        assert_eq!(RecordName::parse(&name, "agreements", "name").unwrap().id, id);
        for bad in [
            "",
            "agreements/",
            "agreements",
            "cities/x",
            &name.to_uppercase(),
            &format!("{name}/"),
            &format!("agreements/{{{id}}}"),
        ] {
            assert!(RecordName::parse(bad, "agreements", "name").is_err(), "{bad}");
            assert!(RecordName::parse_any(bad, "name").is_err(), "{bad}");
        }
        let child = RecordName::parse(&name, "agreements", "name").unwrap().below("notes", id);
        assert_eq!(RecordName::parse_any(child.as_str(), "name").unwrap(), child);
        assert_eq!(child.collection(), "notes");
    }
}
