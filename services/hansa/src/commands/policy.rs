//! `hansa policy`: prints which roles may call which rpc, evaluated from the policies.

use crate::output;
use hansa_chassis::{policy::Policy, role::role_name};
use std::collections::BTreeMap;

/// Prints the permitted roles for each rpc and relation.
///
/// # Errors
/// If a policy is invalid.
pub fn run(json: bool) -> anyhow::Result<()> {
    let mut policy = Policy::default();
    for (package, text) in crate::node::policies() {
        policy.add(package, text)?;
    }
    let mut rows: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    for (path, role, relation, permitted) in policy.table() {
        if permitted {
            rows.entry((path, relation.as_str())).or_default().push(role_name(role));
        }
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|((rpc, relation), roles)| serde_json::json!({"rpc": rpc, "relation": relation, "roles": roles}))
            .collect();
        return output::print_json(&rows.into());
    }
    let rows = rows.into_iter().map(|((rpc, relation), roles)| vec![rpc, relation.to_owned(), roles.join(", ")]);
    println!("{}", output::table(&["rpc", "relation", "roles"], rows));
    Ok(())
}
