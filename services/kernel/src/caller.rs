//! The authenticated caller and its relation to a record.

use crate::{PersonId, Role, TenantId};
use hansa_proto::types::Actor;

/// An authenticated caller, as described by its token (PL-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant for which the caller acts.
    pub tenant: TenantId,
    /// The person or program, as an opaque id.
    pub person: PersonId,
    /// The caller's roles in its tenant; at least one.
    pub roles: Vec<Role>,
    /// The scopes of the token, such as `partnerships.read`; `*` grants all scopes. Tokens of people have `*`.
    pub scopes: Vec<String>,
}

impl Caller {
    /// Whether the caller has the role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Returns the first of `roles` that the caller has. The caller acts in this role.
    #[must_use]
    pub fn acting_as(&self, roles: &[Role]) -> Option<Role> {
        roles.iter().copied().find(|role| self.has(*role))
    }

    /// Returns the actor to store in a change. The role defaults to the caller's first.
    #[must_use]
    pub fn actor(&self, role: Option<Role>) -> Actor {
        Actor {
            tenant: self.tenant.name(),
            person: self.person.to_string(),
            role: role.or_else(|| self.roles.first().copied()).unwrap_or_default() as i32,
        }
    }
}

/// The relation of the caller's tenant to a record. The policies of a service are written over role and relation.
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
    /// None of these. For this caller the record does not exist.
    Stranger,
}

impl Relation {
    /// All relations, to enumerate policies.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Party, Self::Member, Self::Public, Self::Stranger];

    /// Returns the relation's name in policies and audits.
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
