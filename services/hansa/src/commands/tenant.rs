//! `hansa tenant`: creates and lists tenants.

use crate::{api::request_id, cli::Tenant, output, session::Session};
use hansa_proto::register::{self as proto, CreateTenantRequest, ListTenantsRequest, TenantKind};

/// Creates or lists tenants.
///
/// # Errors
/// If a call fails.
pub async fn run(session: &Session, what: Tenant, json: bool) -> anyhow::Result<()> {
    match what {
        Tenant::Join { city } => {
            let tenant = proto::Tenant { kind: TenantKind::City as i32, city, ..Default::default() };
            create(session, tenant, json).await
        }
        Tenant::Create { name, kind } => {
            let kind = TenantKind::from_str_name(&format!("TENANT_KIND_{}", kind.to_uppercase())).unwrap_or_default();
            create(session, proto::Tenant { kind: kind as i32, display_name: name, ..Default::default() }, json).await
        }
        Tenant::List => list(session, json).await,
    }
}

async fn create(session: &Session, tenant: proto::Tenant, json: bool) -> anyhow::Result<()> {
    let request = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
    let made = session.api.tenants().create_tenant(request).await?.into_inner();
    if json {
        return output::print_json(&output::json(&made)?);
    }
    println!("{} is {}", made.display_name, made.name);
    let role = if made.kind() == TenantKind::City { "mayor" } else { "director" };
    println!("Issue tokens for its people: hansa token --tenant {} --role {role} --subject NAME", made.name);
    Ok(())
}

async fn list(session: &Session, json: bool) -> anyhow::Result<()> {
    let mut tenants = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTenantsRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = session.api.tenants().list_tenants(request).await?.into_inner();
        tenants.extend(page.tenants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if json {
        let tenants = tenants.iter().map(output::json).collect::<Result<Vec<_>, _>>()?;
        return output::print_json(&tenants.into());
    }
    let rows = tenants.into_iter().map(|tenant| {
        let kind = tenant.kind().as_str_name().trim_start_matches("TENANT_KIND_").to_lowercase();
        vec![tenant.display_name, kind, tenant.name, tenant.city]
    });
    println!("{}", output::table(&["name", "kind", "tenant", "city"], rows));
    Ok(())
}
