//! What the policies grant a caller on one rpc, as data.

use crate::{Caller, Refusal, Refused, Relation};
use std::sync::Arc;

/// The relations to a record in which a caller may call one rpc (PL-1, PL-2). The command handler computes them from
/// the policy table. The writer checks them against the record that it has loaded.
#[derive(Clone, Debug)]
pub struct Access {
    caller: Arc<Caller>,
    granted: [bool; Relation::ALL.len()],
}

impl Access {
    /// Grants the caller the relations for which `permits` returns true.
    pub fn new(caller: Arc<Caller>, permits: impl Fn(Relation) -> bool) -> Self {
        Self { caller, granted: Relation::ALL.map(permits) }
    }

    /// The caller.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the policies permit the call to a caller with this relation to the record.
    #[must_use]
    pub fn permits(&self, relation: Relation) -> bool {
        self.granted[relation as usize]
    }

    /// Checks the caller's relation to the record `name`.
    ///
    /// # Errors
    /// `NOT_FOUND` if a stranger may not make the call, because a stranger must not learn that the record exists.
    /// `NOT_PERMITTED` under PL-2 if any other relation is not granted.
    pub fn check(&self, relation: Relation, name: &str) -> Refused<()> {
        if self.permits(relation) {
            Ok(())
        } else if relation == Relation::Stranger {
            Err(Refusal::not_found(name))
        } else {
            Err(Refusal::not_permitted(
                "RELATION_NOT_PERMITTED",
                "your role and your tenant's relation to the record do not permit this call",
            )
            .missing(name, format!("your tenant has the relation {} to this record", relation.as_str()))
            .help("Ask a colleague whose role may make this call; `hansa policy` lists the roles."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PersonId, ReasonClass, TenantId};
    use uuid::Uuid;

    #[test]
    fn a_stranger_is_not_told_that_the_record_exists() {
        let caller =
            Caller { tenant: TenantId(Uuid::nil()), person: PersonId(Uuid::nil()), roles: vec![], scopes: vec![] };
        let access = Access::new(Arc::new(caller), |relation| relation == Relation::Owner);
        let reason = |relation| access.check(relation, "cities/x").map_err(|refusal| refusal.class);
        assert_eq!(reason(Relation::Owner), Ok(()));
        assert_eq!(reason(Relation::Party), Err(ReasonClass::NotPermitted));
        assert_eq!(reason(Relation::Stranger), Err(ReasonClass::NotFound));
    }
}
