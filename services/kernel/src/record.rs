//! Records: private state that changes fold into, and the properties that the journal needs.

use crate::{Caller, RecordName, Refusal, Relation, TenantId, text};
use chrono::{DateTime, Utc};
use hansa_proto::{
    ChangeSet, Texts, Timed,
    types::{self, Actor, AssuranceLevel, LocalizedText, Tombstone},
};
use serde::{Serialize, de::DeserializeOwned};

/// The outcome of a rule: the changes to append, or a refusal. An empty list means that the state is already as
/// requested.
pub type Decision<C> = Result<Vec<Emitted<C>>, Refusal>;

/// A change that a rule decided, with the party that it binds and its assurance level.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted<C> {
    /// The change.
    pub change: C,
    /// The tenant that the change binds; the caller's tenant if `None`.
    pub party: Option<TenantId>,
    /// The assurance level.
    pub level: AssuranceLevel,
}

impl<C> Emitted<C> {
    /// Returns a change that binds the caller's own tenant, made on the platform.
    pub fn new(change: impl Into<C>) -> Self {
        Self { change: change.into(), party: None, level: AssuranceLevel::Host }
    }

    /// Returns a change that another tenant attests or that was made on paper.
    pub fn at_level(change: impl Into<C>, party: Option<TenantId>, level: AssuranceLevel) -> Self {
        Self { change: change.into(), party, level }
    }
}

/// Returns the usual decision of a rule: one change by the caller's own tenant.
///
/// # Errors
/// Never. The return type is a `Decision` so that a rule can end with this call.
pub fn emit<C>(change: impl Into<C>) -> Decision<C> {
    Ok(vec![Emitted::new(change)])
}

/// Returns the last change of a deleted record, which contains the reason (PL-8).
///
/// # Errors
/// `INVALID_FIELD` under PL-8 if there is no valid reason.
pub fn tombstone(reason: &[LocalizedText]) -> Result<Tombstone, Refusal> {
    text::required("reason", reason)
        .map_err(|refusal| refusal.under("PL-8").help("State why the record is deleted."))?;
    Ok(Tombstone { reason: reason.to_vec() })
}

/// The facts about a change, other than its content, that a fold may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    /// Position in the record's history, from 1.
    pub version: u64,
    /// Time of the change, as the authority claims it.
    pub at: DateTime<Utc>,
    /// The actor who made the change.
    pub actor: Actor,
    /// The tenant that the change binds.
    pub party: Option<TenantId>,
    /// The assurance level.
    pub level: AssuranceLevel,
}

/// A change that cannot follow the state before it. Rules never produce such a change, so the journal freezes the
/// record and reports it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FoldError(pub String);

/// The tenants that may see a record (PL-1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Whether every tenant and the public see the record.
    pub public: bool,
    /// The tenants that always see the record, sorted, without duplicates.
    pub tenants: Vec<TenantId>,
}

impl Audience {
    /// Returns an audience of only these tenants.
    #[must_use]
    pub fn of(tenants: impl IntoIterator<Item = TenantId>) -> Self {
        let mut tenants: Vec<_> = tenants.into_iter().collect();
        tenants.sort_unstable();
        tenants.dedup();
        Self { public: false, tenants }
    }

    /// Returns the same audience with the public flag set.
    #[must_use]
    pub fn and_public(mut self, public: bool) -> Self {
        self.public = public;
        self
    }

    /// Returns the relation of a tenant to the record of `owner` with this audience.
    #[must_use]
    pub fn relation(&self, owner: TenantId, tenant: TenantId) -> Relation {
        if tenant == owner {
            Relation::Owner
        } else if self.tenants.binary_search(&tenant).is_ok() {
            Relation::Party
        } else if self.public {
            Relation::Public
        } else {
            Relation::Stranger
        }
    }

    /// Returns whether the tenant may see the record.
    #[must_use]
    pub fn includes(&self, tenant: TenantId) -> bool {
        self.public || self.tenants.binary_search(&tenant).is_ok()
    }

    /// Converts to the message of an envelope.
    #[must_use]
    pub fn to_proto(&self) -> types::Audience {
        types::Audience {
            is_public: self.public,
            tenants: self.tenants.iter().map(|t| t.name()).collect(),
            groups: Vec::new(),
        }
    }

    /// Converts from the message of an envelope.
    ///
    /// # Errors
    /// `INVALID_FIELD` if a tenant's name is malformed.
    pub fn from_proto(audience: &types::Audience) -> Result<Self, Refusal> {
        let tenants = audience.tenants.iter().map(|t| TenantId::parse(t, "audience.tenants"));
        Ok(Self::of(tenants.collect::<Result<Vec<_>, _>>()?).and_public(audience.is_public))
    }
}

/// The part of a change that the public may see if its record is public (PL-1).
#[derive(Clone, Debug, PartialEq)]
pub enum Disclosed<C> {
    /// The whole change, with its signatures.
    Whole,
    /// A part of the change, without actor and signatures: checking a signature needs the whole change.
    Part(C),
    /// No part of the change.
    Hidden,
}

impl<C> Disclosed<C> {
    /// Converts the part.
    pub fn map<D>(self, part: impl FnOnce(C) -> D) -> Disclosed<D> {
        match self {
            Self::Whole => Disclosed::Whole,
            Self::Part(one) => Disclosed::Part(part(one)),
            Self::Hidden => Disclosed::Hidden,
        }
    }
}

/// A type of record. Its state is private to its domain crate and may change shape at any time: a snapshot stores its
/// `REVISION`, and the journal ignores a snapshot of another revision and folds the changes again.
pub trait Record: Serialize + DeserializeOwned + Clone + Send + Sync + Sized + 'static {
    /// The collection of the records' resource names, such as `agreements`; unique across services.
    const COLLECTION: &'static str;
    /// Raise this when the state's shape or its fold changes.
    const REVISION: u32;
    /// The record's change set.
    type Change: ChangeSet;

    /// Returns the state after a change. `before` is `None` for the first change.
    ///
    /// # Errors
    /// A [`FoldError`] if the change cannot follow the state.
    fn fold(before: Option<Self>, change: &Self::Change, stamp: &Stamp) -> Result<Self, FoldError>;

    /// Returns the tenant that owns the record. Its home node is the authority.
    fn owner(&self) -> TenantId;

    /// Returns the current audience. Only a tombstone may shrink it.
    fn audience(&self) -> Audience;

    /// Returns the part of a change for readers who see the record only because it is public.
    fn disclosed(change: &Self::Change) -> Disclosed<Self::Change> {
        let _ = change;
        Disclosed::Whole
    }

    /// Returns the part of the tombstone for these readers (PL-8).
    #[must_use]
    fn tombstone_disclosed() -> Disclosed<Tombstone> {
        Disclosed::Whole
    }

    /// Returns the relation of the caller's tenant to the record.
    fn relation(&self, caller: &Caller) -> Relation {
        self.audience().relation(self.owner(), caller.tenant)
    }

    /// Returns the time at which the record next changes by itself. The journal then calls `on_due` exactly once.
    fn due(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// Returns the changes that are due at `due`, a time that `due()` returned. They must move `due()` on.
    fn on_due(&self, due: DateTime<Utc>) -> Vec<Emitted<Self::Change>> {
        let _ = due;
        Vec::new()
    }
}

/// A record that the contract exposes as a resource.
pub trait IntoResource: Record {
    /// The resource message.
    type Resource: Texts + Timed;

    /// Converts the state to the resource that the caller may see, with its name and etag.
    fn to_resource(&self, name: &RecordName, etag: &str, caller: &Caller) -> Self::Resource;

    /// Returns the fields of the resource that a list shows with view BASIC (AIP-157): all, unless the record type says
    /// otherwise.
    fn basic(resource: Self::Resource) -> Self::Resource {
        resource
    }
}

/// The state that a service mirrors of another service's records. It is defined in the owner's domain crate, so
/// services depend only on each other's domain crates.
pub trait Reference: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The collection of the records, such as `cities`.
    const COLLECTION: &'static str;
    /// Raise this when the shape or the fold changes. The mirror is then folded again from the changes.
    const REVISION: u32;
    /// The records' change set.
    type Change: ChangeSet;

    /// Returns the mirrored state after a change. `before` is `None` for the first change.
    ///
    /// # Errors
    /// A [`FoldError`] if the change cannot follow the state. The record then goes into quarantine.
    fn fold(before: Option<Self>, change: &Self::Change, stamp: &Stamp) -> Result<Self, FoldError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_audience_is_sorted_and_includes_its_tenants_alone() {
        let [a, b, c] = [3, 1, 2].map(|n| TenantId(Uuid::from_u128(n)));
        let audience = Audience::of([a, b, a]);
        assert_eq!(audience.tenants, vec![b, a]);
        assert!(audience.includes(a) && audience.includes(b) && !audience.includes(c));
        assert!(audience.clone().and_public(true).includes(c));
        assert_eq!(Audience::from_proto(&audience.to_proto()), Ok(audience));
    }
}
