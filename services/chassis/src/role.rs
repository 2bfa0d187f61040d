//! The names of roles in tokens and policies.

use hansa_kernel::Role;

/// The roles of the node itself, above all tenants: steward, auditor, operator.
pub const NODE_ROLES: [Role; 3] = [Role::Steward, Role::Auditor, Role::Operator];

/// Returns the name of a role in tokens and policies, such as `ir_officer`.
#[must_use]
pub fn role_name(role: Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// Returns the role with this name.
#[must_use]
pub fn role_of(name: &str) -> Option<Role> {
    Role::from_str_name(&format!("ROLE_{}", name.to_uppercase())).filter(|role| *role != Role::Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_name_and_back() {
        for role in (1..=13).filter_map(|n| Role::try_from(n).ok()) {
            assert_eq!(role_of(&role_name(role)), Some(role));
        }
        assert_eq!(role_of("unspecified"), None);
    }
}
