//! Policies: which role may call which rpc with which relation to the record (PL-1, PL-2).
//!
//! They are written in Cedar, one file per service. The product of rpc, role and relation is finite, so the program computes it at
//! its start as a table. A call then costs one lookup, and an auditor can print the whole table.

use crate::role::role_name;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, Schema, ValidationMode, Validator,
};
use hansa_kernel::{Access, Caller, Relation, Role};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use std::{
    collections::HashMap,
    fmt::Write,
    str::FromStr,
    sync::{Arc, LazyLock},
};

/// The policies of a service: packages of the contract, each with its Cedar text.
pub type Policies = &'static [(&'static str, &'static str)];

/// The descriptors of the contract.
pub static CONTRACT: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(hansa_proto::DESCRIPTORS).expect("the build encoded the contract"));

/// Returns all roles that a token can name.
pub fn roles() -> impl Iterator<Item = Role> {
    (1..).map_while(|number| Role::try_from(number).ok())
}

/// Why the policies cannot be used. The program then does not start.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is not a policy.
    #[error("the policies of {0} cannot be parsed: {1}")]
    Unreadable(String, String),
    /// They name an unknown rpc, role or relation, or contradict their schema.
    #[error("the policies of {0} are invalid: {1}")]
    Invalid(String, String),
    /// An rpc that no role may call.
    #[error("no policy permits any role to call {0}")]
    Uncovered(String),
}

/// The permissions of one rpc.
#[derive(Clone, Debug)]
struct Row {
    /// The scope that the token of a program must contain, such as `partnerships.write`.
    scope: String,
    /// Whether the response is a stream.
    streams: bool,
    permitted: HashMap<(Role, Relation), bool>,
}

/// The policy table of a process.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rows: HashMap<String, Row>,
}

/// Returns whether an rpc writes: its request then has `validate_only`.
fn writes(method: &MethodDescriptor) -> bool {
    method.input().get_field_by_name("validate_only").is_some()
}

impl Policy {
    /// Adds the policies of one package, such as `hansa.partnerships.v1`.
    ///
    /// # Errors
    /// If the text is not a policy, names an unknown rpc, role or relation, or leaves an rpc that no role may call.
    pub fn add(&mut self, package: &str, text: &str) -> Result<(), PolicyError> {
        let methods: Vec<MethodDescriptor> = CONTRACT
            .services()
            .filter(|service| service.package_name() == package)
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .collect();
        let area = package.split('.').nth(1).unwrap_or(package);
        let invalid = |why: String| PolicyError::Invalid(package.into(), why);
        let (schema, _) = Schema::from_cedarschema_str(&schema(&methods)).map_err(|e| invalid(e.to_string()))?;
        let policies = PolicySet::from_str(text).map_err(|e| PolicyError::Unreadable(package.into(), e.to_string()))?;
        let outcome = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        if !outcome.validation_passed() {
            return Err(invalid(outcome.validation_errors().map(ToString::to_string).collect::<Vec<_>>().join("; ")));
        }
        // Without the action entities of the schema, a policy on a group of actions would silently never match.
        let entities = schema.action_entities().map_err(|e| invalid(e.to_string()))?;
        for method in methods {
            let row = row(&method, area, &policies, &entities).map_err(invalid)?;
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            if !row.permitted.values().any(|permitted| *permitted) {
                return Err(PolicyError::Uncovered(path));
            }
            self.rows.insert(path, row);
        }
        Ok(())
    }

    /// Returns the relations in which a caller may call an rpc, as data for the writer.
    #[must_use]
    pub fn access(&self, path: &str, caller: &Caller) -> Access {
        let row = self.rows.get(path).filter(|row| in_scope(&row.scope, caller));
        Access::new(Arc::new(caller.clone()), |relation| row.is_some_and(|row| row.permits(caller, relation)))
    }

    /// Returns whether a caller with this relation to a record may call an rpc. An rpc without a policy may not be called.
    #[must_use]
    pub fn permits(&self, path: &str, caller: &Caller, relation: Relation) -> bool {
        self.rows.get(path).is_some_and(|row| in_scope(&row.scope, caller) && row.permits(caller, relation))
    }

    /// Returns whether there is a relation in which a caller may call an rpc.
    #[must_use]
    pub fn may_call(&self, path: &str, caller: &Caller) -> bool {
        Relation::ALL.into_iter().any(|relation| self.permits(path, caller, relation))
    }

    /// Returns whether the table contains an rpc.
    #[must_use]
    pub fn knows(&self, path: &str) -> bool {
        self.rows.contains_key(path)
    }

    /// Returns whether an rpc responds with a stream.
    #[must_use]
    pub fn streams(&self, path: &str) -> bool {
        self.rows.get(path).is_some_and(|row| row.streams)
    }

    /// Returns the roles that may call an rpc in some relation, in the order in which a caller with several roles uses them.
    #[must_use]
    pub fn roles_for(&self, path: &str) -> Vec<Role> {
        let Some(row) = self.rows.get(path) else { return Vec::new() };
        let may =
            |role: &Role| Relation::ALL.iter().any(|relation| row.permitted.get(&(*role, *relation)) == Some(&true));
        roles().filter(may).collect()
    }

    /// Returns the whole table, sorted by rpc, role and relation, for auditors and tests.
    #[must_use]
    pub fn table(&self) -> Vec<(String, Role, Relation, bool)> {
        let mut out: Vec<_> = self
            .rows
            .iter()
            .flat_map(|(path, row)| {
                row.permitted.iter().map(|((role, relation), yes)| (path.clone(), *role, *relation, *yes))
            })
            .collect();
        out.sort();
        out
    }
}

impl Row {
    fn permits(&self, caller: &Caller, relation: Relation) -> bool {
        caller.roles.iter().any(|role| self.permitted.get(&(*role, relation)) == Some(&true))
    }
}

fn in_scope(scope: &str, caller: &Caller) -> bool {
    caller.scopes.iter().any(|granted| granted == "*" || granted == scope)
}

fn action(method: &MethodDescriptor) -> String {
    format!("{}.{}", method.parent_service().name(), method.name())
}

/// Builds the Cedar schema that the policies of a package are validated against.
fn schema(methods: &[MethodDescriptor]) -> String {
    let mut out = String::from("entity Role, Relation;\naction read, write;\n");
    for method in methods {
        let group = if writes(method) { "write" } else { "read" };
        let _ = writeln!(
            out,
            "action \"{}\" in [{group}] appliesTo {{ principal: Role, resource: Relation }};",
            action(method)
        );
    }
    out
}

/// Evaluates the policies for all roles and relations of one rpc.
fn row(method: &MethodDescriptor, area: &str, policies: &PolicySet, entities: &Entities) -> Result<Row, String> {
    let uid = |kind: &str, id: &str| EntityUid::from_str(&format!("{kind}::{id:?}")).map_err(|e| e.to_string());
    let act = uid("Action", &action(method))?;
    let authorizer = Authorizer::new();
    let mut permitted = HashMap::new();
    for role in roles() {
        for relation in Relation::ALL {
            let request = Request::new(
                uid("Role", &role_name(role))?,
                act.clone(),
                uid("Relation", relation.as_str())?,
                Context::empty(),
                None,
            )
            .map_err(|e| e.to_string())?;
            let answer = authorizer.is_authorized(&request, policies, entities);
            permitted.insert((role, relation), answer.decision() == Decision::Allow);
        }
    }
    let scope = format!("{area}.{}", if writes(method) { "write" } else { "read" });
    Ok(Row { scope, streams: method.is_server_streaming(), permitted })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hansa_kernel::{PersonId, TenantId};
    use uuid::Uuid;

    const PACKAGE: &str = "hansa.changes.v1";
    const LIST: &str = "/hansa.changes.v1.ChangeService/ListFeedEntries";

    fn caller(role: Role, scopes: &[&str]) -> Caller {
        Caller {
            tenant: TenantId(Uuid::nil()),
            person: PersonId(Uuid::nil()),
            roles: vec![role],
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    #[test]
    fn a_forbid_on_a_group_of_actions_forbids() {
        let text = r#"
            permit(principal, action, resource == Relation::"owner");
            forbid(principal == Role::"operator", action in [Action::"read"], resource);"#;
        let mut policy = Policy::default();
        policy.add(PACKAGE, text).unwrap();
        assert!(policy.permits(LIST, &caller(Role::Mayor, &["*"]), Relation::Owner));
        assert!(!policy.permits(LIST, &caller(Role::Mayor, &["*"]), Relation::Stranger));
        assert!(!policy.permits(LIST, &caller(Role::Operator, &["*"]), Relation::Owner));
        assert!(!policy.may_call(LIST, &caller(Role::Operator, &["*"])));
    }

    #[test]
    fn a_program_needs_the_scope() {
        let mut policy = Policy::default();
        policy.add(PACKAGE, r#"permit(principal, action, resource == Relation::"owner");"#).unwrap();
        assert!(policy.permits(LIST, &caller(Role::ServiceAccount, &["changes.read"]), Relation::Owner));
        assert!(!policy.permits(LIST, &caller(Role::ServiceAccount, &["partnerships.read"]), Relation::Owner));
        assert!(!policy.permits(LIST, &caller(Role::ServiceAccount, &[]), Relation::Owner));
    }

    #[test]
    fn policies_with_unknown_names_are_refused() {
        let add = |text: &str| Policy::default().add(PACKAGE, text);
        assert!(matches!(add("permit("), Err(PolicyError::Unreadable(..))));
        let typo = r#"permit(principal, action == Action::"ChangeService.ListChange", resource);"#;
        assert!(matches!(add(typo), Err(PolicyError::Invalid(..))));
        let one = r#"permit(principal, action == Action::"ChangeService.ListFeedEntries", resource);"#;
        assert!(matches!(add(one), Err(PolicyError::Uncovered(_))));
        assert!(!Policy::default().may_call(LIST, &caller(Role::Mayor, &["*"])));
    }
}
