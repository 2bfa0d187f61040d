//! What a record is: private state that changes fold into, and what the journal must know of it.

use crate::{Caller, RecordName, Refusal, Relation, TenantId, text};
use chrono::{DateTime, Utc};
use hansa_proto::{
    ChangeSet, Texts,
    types::{self, Actor, AssuranceLevel, LocalizedText, Tombstone},
};
use serde::{Serialize, de::DeserializeOwned};

/// What a rule answers: what happens, or why not. No changes means that all is already as asked.
pub type Decision<C> = Result<Vec<Happened<C>>, Refusal>;

/// A change that a rule decided, with whom it binds and how strongly.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened<C> {
    /// What happened.
    pub change: C,
    /// The tenant that is bound; the caller's own where it is `None`.
    pub party: Option<TenantId>,
    /// How strongly.
    pub level: AssuranceLevel,
}

impl<C> Happened<C> {
    /// An act of the caller's own tenant, made on the platform.
    pub fn new(change: impl Into<C>) -> Self {
        Self { change: change.into(), party: None, level: AssuranceLevel::Host }
    }

    /// An act that is attested, or was made on paper.
    pub fn at_level(change: impl Into<C>, party: Option<TenantId>, level: AssuranceLevel) -> Self {
        Self { change: change.into(), party, level }
    }
}

/// One change by the caller's own tenant: the usual answer of a rule.
///
/// # Errors
/// Never; it is a `Decision` for the caller's convenience.
pub fn happened<C>(change: impl Into<C>) -> Decision<C> {
    Ok(vec![Happened::new(change)])
}

/// The last change of a record that is deleted (PL-8): it says why.
///
/// # Errors
/// INVALID_FIELD by PL-8 without a reason.
pub fn tombstone(reason: &[LocalizedText]) -> Result<Tombstone, Refusal> {
    text::required("reason", reason).map_err(|refusal| refusal.under("PL-8").help("Say why it is deleted."))?;
    Ok(Tombstone { reason: reason.to_vec() })
}

/// What a fold may know of a change beside its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    /// Place in the record's history, from 1.
    pub version: u64,
    /// When it happened, as the authority claims.
    pub at: DateTime<Utc>,
    /// Who acted.
    pub actor: Actor,
    /// The tenant that is bound by it.
    pub party: Option<TenantId>,
    /// How strongly.
    pub level: AssuranceLevel,
}

/// A change that cannot follow the state before it. It cannot come from a rule: the record is frozen and reported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

/// Who may see a record (PL-1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Every tenant, and the public.
    pub public: bool,
    /// The tenants that see it in any case, sorted, without doubles.
    pub tenants: Vec<TenantId>,
}

impl Audience {
    /// These tenants, and nobody else.
    #[must_use]
    pub fn of(tenants: impl IntoIterator<Item = TenantId>) -> Self {
        let mut tenants: Vec<_> = tenants.into_iter().collect();
        tenants.sort_unstable();
        tenants.dedup();
        Self { public: false, tenants }
    }

    /// The same tenants, and everyone.
    #[must_use]
    pub fn and_public(mut self, public: bool) -> Self {
        self.public = public;
        self
    }

    /// Whether the tenant may see the record.
    #[must_use]
    pub fn includes(&self, tenant: TenantId) -> bool {
        self.public || self.tenants.binary_search(&tenant).is_ok()
    }

    /// As it stands in an envelope.
    #[must_use]
    pub fn to_proto(&self) -> types::Audience {
        types::Audience { public: self.public, tenants: self.tenants.iter().map(|t| t.name()).collect() }
    }

    /// As read from an envelope.
    ///
    /// # Errors
    /// Where a tenant's name is malformed.
    pub fn from_proto(audience: &types::Audience) -> Result<Self, Refusal> {
        let tenants = audience.tenants.iter().map(|t| TenantId::parse(t, "audience.tenants"));
        Ok(Self::of(tenants.collect::<Result<Vec<_>, _>>()?).and_public(audience.public))
    }
}

/// What of a change everyone may see, once its record is public (PL-1).
#[derive(Clone, Debug, PartialEq)]
pub enum Disclosed<C> {
    /// All of it, as it was signed.
    Whole,
    /// This much of it, without signatures, which would show the rest, and without who acted.
    Part(C),
    /// Nothing.
    Hidden,
}

impl<C> Disclosed<C> {
    /// The part, as something else.
    pub fn map<D>(self, part: impl FnOnce(C) -> D) -> Disclosed<D> {
        match self {
            Self::Whole => Disclosed::Whole,
            Self::Part(one) => Disclosed::Part(part(one)),
            Self::Hidden => Disclosed::Hidden,
        }
    }
}

/// A kind of record. Its state is private to its domain crate and may change shape at any time: a snapshot carries
/// `REVISION`, and one of another revision is ignored and folded again.
pub trait Record: Serialize + DeserializeOwned + Clone + Send + Sync + Sized + 'static {
    /// The collection of its resource names, such as `agreements`; unique across services.
    const COLLECTION: &'static str;
    /// Raised whenever the state's shape or fold changes.
    const REVISION: u32;
    /// What can happen to it.
    type Change: ChangeSet;

    /// The state after a change; `before` is `None` for the first.
    ///
    /// # Errors
    /// Where the change cannot follow.
    fn fold(before: Option<Self>, change: &Self::Change, stamp: &Stamp) -> Result<Self, Misfit>;

    /// The tenant whose record it is; its home node is the authority.
    fn owner(&self) -> TenantId;

    /// Who may see it now. It never shrinks but by a tombstone.
    fn audience(&self) -> Audience;

    /// What of a change those see who read the record because it is public, and for no other reason.
    fn disclosed(change: &Self::Change) -> Disclosed<Self::Change> {
        let _ = change;
        Disclosed::Whole
    }

    /// What of its tombstone those see (PL-8).
    #[must_use]
    fn tombstone_disclosed() -> Disclosed<Tombstone> {
        Disclosed::Whole
    }

    /// How the caller's tenant stands to it.
    fn relation(&self, caller: &Caller) -> Relation {
        let audience = self.audience();
        if caller.tenant == self.owner() {
            Relation::Owner
        } else if audience.tenants.binary_search(&caller.tenant).is_ok() {
            Relation::Party
        } else if audience.public {
            Relation::Public
        } else {
            Relation::Stranger
        }
    }

    /// When it next has something to do by itself; the journal then calls `on_due` exactly once.
    fn due(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// What time itself does to it at `due`, an instant that `due()` named. The answer must move `due()` on.
    fn on_due(&self, due: DateTime<Utc>) -> Vec<Happened<Self::Change>> {
        let _ = due;
        Vec::new()
    }
}

/// A record that the contract shows as a resource.
pub trait Shown: Record {
    /// The resource.
    type Resource: Texts;

    /// As the contract shows it to a caller who may see it, with its name and the head of its history.
    fn shown(&self, name: &RecordName, etag: &str, caller: &Caller) -> Self::Resource;
}

/// What services keep of a record that is another's. It stands in the owner's domain crate, so that services know each
/// other's domains alone.
pub trait Reference: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The collection of the records, such as `cities`.
    const COLLECTION: &'static str;
    /// Raised whenever its shape or fold changes: what is kept is then folded anew.
    const REVISION: u32;
    /// What can happen to the records.
    type Change: ChangeSet;

    /// What is kept after a change; `before` is `None` for the first.
    ///
    /// # Errors
    /// Where the change cannot follow: the record is put into quarantine.
    fn fold(before: Option<Self>, change: &Self::Change, stamp: &Stamp) -> Result<Self, Misfit>;
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
