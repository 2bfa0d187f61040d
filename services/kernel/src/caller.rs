//! Who calls, and how the caller stands to a record.

use crate::{PersonId, Role, TenantId};
use hansa_proto::types::Actor;

/// An authenticated caller, as its token says (PL-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant for which the caller acts.
    pub tenant: TenantId,
    /// The person or program, opaque.
    pub person: PersonId,
    /// What the caller is to its tenant; at least one.
    pub roles: Vec<Role>,
    /// The scopes of the token, such as `partnerships.read`; `*` is all. People's tokens have `*`.
    pub scopes: Vec<String>,
}

impl Caller {
    /// Whether the caller has the role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The first role among `roles` that the caller has: the one in which it acts.
    #[must_use]
    pub fn acting_as(&self, roles: &[Role]) -> Option<Role> {
        roles.iter().copied().find(|role| self.has(*role))
    }

    /// As it stands in a change: with the role in which the caller acted, by default its first.
    #[must_use]
    pub fn actor(&self, role: Option<Role>) -> Actor {
        Actor {
            tenant: self.tenant.name(),
            person: self.person.to_string(),
            role: role.or_else(|| self.roles.first().copied()).unwrap_or_default() as i32,
        }
    }
}

/// How a caller's tenant stands to a record. The policies of a service are written over role and relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// The record is the tenant's own.
    Owner,
    /// The tenant is one of the parties.
    Party,
    /// The tenant is a member of the record's owner (of a network, say).
    Member,
    /// None of these, but the record is public.
    Public,
    /// None of these: for this caller the record does not exist.
    Stranger,
}

impl Relation {
    /// All relations, to enumerate policies.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Party, Self::Member, Self::Public, Self::Stranger];

    /// As policies and audits call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Party => "party",
            Self::Member => "member",
            Self::Public => "public",
            Self::Stranger => "stranger",
        }
    }
}
