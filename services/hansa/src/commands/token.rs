//! `hansa token`: issues tokens.

use crate::node;
use hansa_chassis::{Config, role::role_of};
use hansa_journal::{Clock, SystemClock};
use hansa_kernel::{Refusal, TenantId};

/// Issues a token and prints it.
///
/// # Errors
/// If the key cannot be read, a role is unknown, or the issuer refuses the roles, scopes or days.
pub fn run(
    config: &Config,
    tenant: Option<&str>,
    roles: &[String],
    subject: &str,
    scopes: &[String],
    days: i64,
) -> anyhow::Result<()> {
    let keys = node::keys(config)?;
    let tenant = tenant.map_or_else(|| Ok(keys.tenant()), |name| TenantId::parse(name, "tenant"))?;
    let roles = roles
        .iter()
        .map(|name| role_of(name).ok_or_else(|| Refusal::field("role", format!("`{name}` is not a role"))))
        .collect::<Result<Vec<_>, _>>()?;
    println!("{}", node::issuer(&keys).issue(tenant, subject, &roles, scopes, SystemClock.now(), days)?);
    Ok(())
}
