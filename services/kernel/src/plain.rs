//! Plain records: the state is the contract's resource, the change is the resource with its mask, the rule is one
//! `validate`. An office is one, and so are venues, missions, practices. A new one is its message, its change, and an
//! implementation of [`Kind`]; fold, history, snapshot and update are here.

use crate::{
    Audience, Caller, Decision, Misfit, Record, RecordName, Refusal, Refused, Shown, Stamp, TenantId, mask,
    record::happened,
};
use hansa_proto::{ChangeSet, Masked, Texts};
use prost::Message;
use prost_types::FieldMask;
use serde::{Deserialize, Serialize};

/// A kind of plain record.
pub trait Kind: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The message of the contract that it is.
    type Resource: Message + Masked + Texts + Default + PartialEq + Send + Sync + 'static;
    /// The collection of its resource names.
    const COLLECTION: &'static str;
    /// Raised whenever `validate`, `FIXED` or the message changes what a fold gives.
    const REVISION: u32 = 1;
    /// Fields that can be written.
    const WRITABLE: &'static [&'static str];
    /// Fields that say whose or what it is: written once, the same for life.
    const FIXED: &'static [&'static str];
    /// Whether everyone sees it (PL-1); its owner alone where not.
    const PUBLIC: bool = false;
    /// The change set of its one change.
    type Change: ChangeSet;

    /// The change that writes some fields.
    fn changed(resource: Self::Resource, update_mask: FieldMask) -> Self::Change;

    /// What a change writes, and which fields of it.
    fn written(change: &Self::Change) -> Option<(&Self::Resource, &FieldMask)>;

    /// Whether it may stand so.
    ///
    /// # Errors
    /// As its rules say.
    fn validate(resource: &Self::Resource) -> Refused<()>;
}

/// The state of a plain record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Plain<K: Kind> {
    owner: TenantId,
    #[serde(with = "crate::stored")]
    resource: K::Resource,
}

impl<K: Kind> Plain<K> {
    /// What it holds, without its name and head.
    #[must_use]
    pub fn get(&self) -> &K::Resource {
        &self.resource
    }
}

impl<K: Kind> Shown for Plain<K> {
    type Resource = K::Resource;

    fn shown(&self, name: &RecordName, etag: &str, _: &Caller) -> K::Resource {
        self.resource.clone().named(name.to_string(), etag.to_owned())
    }
}

impl<K: Kind> Record for Plain<K> {
    const COLLECTION: &'static str = K::COLLECTION;
    const REVISION: u32 = K::REVISION;
    type Change = K::Change;

    fn fold(before: Option<Self>, change: &K::Change, stamp: &Stamp) -> Result<Self, Misfit> {
        let (from, mask) = K::written(change).ok_or_else(|| Misfit("the change writes nothing".into()))?;
        let mut plain = match before {
            Some(plain) => plain,
            None => {
                let mut resource = K::Resource::default();
                for field in K::FIXED {
                    resource.copy_field(field, from);
                }
                let owner = stamp.party.ok_or_else(|| Misfit("nobody is bound by the first change".into()))?;
                Self { owner, resource }
            }
        };
        for path in &mask.paths {
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

/// Writes the fields of a mask; `*` is all that can be written. `before` is `None` until it is first written. The change
/// holds what is new alone.
///
/// # Errors
/// INVALID_FIELD for a mask that is empty or names what cannot be written, or a value that is not known; what `validate`
/// refuses.
pub fn put<K: Kind>(before: Option<&Plain<K>>, asked: &K::Resource, mask: Option<&FieldMask>) -> Decision<K::Change> {
    if let Some(field) = asked.unknown_enum() {
        return Err(Refusal::field(field, "holds a value that is not known"));
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
    if paths.is_empty() && before.is_some() {
        Ok(Vec::new())
    } else {
        happened(K::changed(change, FieldMask { paths }))
    }
}
