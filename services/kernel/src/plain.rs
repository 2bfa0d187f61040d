//! Plain records: the state is the contract's resource, the one change is the resource with its update mask, and the
//! one rule is `validate`. Offices, venues, missions and practices are plain records. A new type needs a message, two
//! changes and an implementation of [`PlainType`]. This module provides fold, history, snapshot and update.

use crate::{
    Audience, Caller, Decision, FoldError, IntoResource, Record, RecordName, Refusal, Refused, Stamp, TenantId, mask,
    record::emit,
};
use hansa_proto::{ChangeSet, Masked, Texts, Timed};
use prost::Message;
use prost_types::FieldMask;
use serde::{Deserialize, Serialize};

/// The definition of one type of plain record.
pub trait PlainType: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The resource message, which is also the record's state.
    type Resource: Message + Masked + Texts + Timed + Default + PartialEq + Send + Sync + 'static;
    /// The collection of its resource names.
    const COLLECTION: &'static str;
    /// Raise this when `validate`, `FIXED` or the message changes the result of a fold.
    const REVISION: u32 = 1;
    /// The fields that callers can write.
    const WRITABLE: &'static [&'static str];
    /// The fields that identify the record or its owner. They are set once, at creation.
    const FIXED: &'static [&'static str];
    /// Whether everyone sees the record (PL-1). If false, only its owner does.
    const PUBLIC: bool = false;
    /// The record's change set, which contains its creation and its update.
    type Change: ChangeSet;

    /// Builds the change that creates the record.
    fn created(resource: Self::Resource) -> Self::Change;

    /// Builds the change that updates the fields of the mask.
    fn updated(resource: Self::Resource, update_mask: FieldMask) -> Self::Change;

    /// Returns the resource that a change writes, and the fields that it writes: all of them if there is no mask.
    fn written(change: &Self::Change) -> Option<(&Self::Resource, Option<&FieldMask>)>;

    /// Returns the fields of the resource that a list shows with view BASIC.
    fn basic(resource: Self::Resource) -> Self::Resource {
        resource
    }

    /// Fills in the output-only fields that follow from the owner.
    fn owned_by(resource: Self::Resource, owner: TenantId) -> Self::Resource {
        let _ = owner;
        resource
    }

    /// Checks the whole resource after an update.
    ///
    /// # Errors
    /// The refusal of the record type's own rule.
    fn validate(resource: &Self::Resource) -> Refused<()>;
}

/// The state of a plain record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Plain<K: PlainType> {
    owner: TenantId,
    #[serde(with = "crate::serde_proto")]
    resource: K::Resource,
}

impl<K: PlainType> Plain<K> {
    /// Returns the resource without its name and etag.
    #[must_use]
    pub fn get(&self) -> &K::Resource {
        &self.resource
    }
}

impl<K: PlainType> IntoResource for Plain<K> {
    type Resource = K::Resource;

    fn to_resource(&self, name: &RecordName, etag: &str, _: &Caller) -> K::Resource {
        K::owned_by(self.resource.clone().named(name.to_string(), etag.to_owned()), self.owner)
    }

    fn basic(resource: K::Resource) -> K::Resource {
        K::basic(resource)
    }
}

impl<K: PlainType> Record for Plain<K> {
    const COLLECTION: &'static str = K::COLLECTION;
    const REVISION: u32 = K::REVISION;
    type Change = K::Change;

    fn fold(before: Option<Self>, change: &K::Change, stamp: &Stamp) -> Result<Self, FoldError> {
        let (from, mask) = K::written(change).ok_or_else(|| FoldError("the change writes nothing".into()))?;
        let mut plain = match before {
            Some(plain) => plain,
            None => {
                let mut resource = K::Resource::default();
                for field in K::FIXED {
                    resource.copy_field(field, from);
                }
                let owner = stamp.party.ok_or_else(|| FoldError("the first change binds no tenant".into()))?;
                Self { owner, resource }
            }
        };
        let written = mask.map_or_else(|| K::WRITABLE.to_vec(), |mask| mask.paths.iter().map(String::as_str).collect());
        for path in written {
            plain.resource.copy_field(path, from);
        }
        Ok(plain)
    }

    fn owner(&self) -> TenantId {
        self.owner
    }

    fn audience(&self) -> Audience {
        Audience::of([self.owner]).and_public(K::PUBLIC)
    }
}

/// Writes the fields of a mask; `*` names all writable fields. `before` is `None` until the first write. The change
/// contains only the fields that differ.
///
/// # Errors
/// `INVALID_FIELD` if the mask is empty or names a field that cannot be written, or if an enum value is unknown;
/// otherwise the refusal of `validate`.
pub fn put<K: PlainType>(
    before: Option<&Plain<K>>,
    asked: &K::Resource,
    mask: Option<&FieldMask>,
) -> Decision<K::Change> {
    if let Some(field) = asked.unknown_enum() {
        return Err(Refusal::field(field, "has an unknown value"));
    }
    let mut next = before.map(|plain| plain.resource.clone()).unwrap_or_default();
    let mut change = K::Resource::default();
    for field in K::FIXED {
        if before.is_none() {
            next.copy_field(field, asked);
        }
        change.copy_field(field, &next);
    }
    let paths = mask::write(&mut next, &mut change, asked, &mask::fields(mask, K::WRITABLE)?);
    K::validate(&next)?;
    match before {
        None => emit(K::created(change)),
        Some(_) if paths.is_empty() => Ok(Vec::new()),
        Some(_) => emit(K::updated(change, FieldMask { paths })),
    }
}
