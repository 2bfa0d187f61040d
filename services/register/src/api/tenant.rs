//! Tenants: PL-1, CT-10.

use crate::{tenant_keys, views};
use hansa_chassis::{ApiError, ApiResult, CommandContext, Page, parse_name, rpc_handlers};
use hansa_journal::Signer;
use hansa_kernel::{ReasonClass, RecordId, RecordName, Refusal, TenantId};
use hansa_proto::handlers::TenantServiceHandler;
use hansa_proto::register::{
    self as proto, CreateTenantRequest, GetTenantRequest, ListTenantsRequest, ListTenantsResponse,
    RotateTenantKeyRequest, UpdateTenantRequest,
};
use hansa_register_domain::{City, Tenant, tenant};
use tonic::{Request, Response};

rpc_handlers!(
    /// Handles the rpcs of `TenantService`.
    Tenants
);

impl Tenants {
    async fn create(&self, context: &CommandContext<CreateTenantRequest>) -> ApiResult<proto::Tenant> {
        let (journal, key) = (&self.journal, tenant_keys::new_key());
        let (public, home) = (key.verifying_key().to_bytes(), journal.node().name().to_owned());
        let city = tenant::city_of(&context.request)?;
        let read = match city {
            Some(id) => Some((id, super::city(&self.journal, id).await?)),
            None => None,
        };
        let signer = Signer { tenant: TenantId::from_key(&public), key };
        let id = RecordId(signer.tenant.0);
        let home_node = home.clone();
        let found = move |before: Option<&Tenant>, request: &CreateTenantRequest, caller: &_, now| {
            if before.is_some() {
                return Err(Refusal::because(
                    ReasonClass::AlreadyExists,
                    "PL-1",
                    "TENANT_EXISTS",
                    "the tenant exists already",
                )
                .help("Send the request again; each request generates a new key."));
            }
            let city = read.as_ref().map(|(id, city)| (*id, city));
            let host = tenant::Host { public_key: &public, home_node: &home_node };
            Ok(tenant::create(request, city, host, caller, now)?.tenant)
        };
        let row = tenant_keys::stored(journal.node(), &signer, journal.clock().now());
        let command =
            self.commands.create(context, RecordName::new("tenants", id), found).side_row(row).signed_by(vec![signer]);
        let mut together = Vec::new();
        if let Some(id) = city {
            let join = move |city: &City, request: &CreateTenantRequest, caller: &_, now| {
                let host = tenant::Host { public_key: &public, home_node: &home };
                Ok(tenant::create(request, Some((id, city)), host, caller, now)?
                    .city
                    .map(|(_, c)| c)
                    .unwrap_or_default())
            };
            together.push(self.commands.update(context, RecordName::new("cities", id), "", join).into());
        }
        self.commands.respond_atomically(context, command, together).await
    }

    /// Replaces the tenant's key. Both keys sign the change. The journal deletes the secret of the old key in the same
    /// transaction.
    async fn rotate(&self, context: &CommandContext<RotateTenantKeyRequest>) -> ApiResult<proto::Tenant> {
        let journal = &self.journal;
        let name = parse_name::<Tenant>("name", &context.request.name)?;
        let found = journal.load::<Tenant>(&name).await?.ok_or_else(|| Refusal::not_found(&name))?;
        let tenant = TenantId(name.id.0);
        let old = tenant_keys::load(journal, tenant, &found.state).await?;
        let new = Signer { tenant, key: tenant_keys::new_key() };
        let (old_public, public) = (old.key.verifying_key().to_bytes(), new.key.verifying_key().to_bytes());
        let (home, now) = (journal.node().name().to_owned(), journal.clock().now());
        let rule = move |state: &Tenant, _: &_, _: &_, now| {
            let host = tenant::Host { public_key: &public, home_node: &home };
            tenant::rotate_key(state, &old_public, host, now)
        };
        let command = self.commands.update(context, name, &context.request.etag, rule);
        let command =
            command.side_row(tenant_keys::replaced(&old, now)).side_row(tenant_keys::stored(journal.node(), &new, now));
        self.commands.respond(context, command.signed_by(vec![old, new])).await
    }
}

impl TenantServiceHandler for Tenants {
    type Error = ApiError;

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> ApiResult<proto::Tenant> {
        self.queries.get::<Tenant, _>(&request, &request.get_ref().name).await
    }

    async fn list_tenants(&self, request: Request<ListTenantsRequest>) -> ApiResult<ListTenantsResponse> {
        let query = request.get_ref();
        let page = Page::of(query)?;
        let ids = views::tenant::list(self.journal.store(), query, &page).await?;
        let (tenants, next_page_token) =
            self.queries.list::<Tenant, _>(&request, &page, ids, request.get_ref().view()).await?;
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn create_tenant(&self, request: Request<CreateTenantRequest>) -> ApiResult<proto::Tenant> {
        let context = self.commands.accept(request)?;
        self.commands.replay_or::<Tenant, _>(&context, self.create(&context)).await
    }

    async fn update_tenant(&self, request: Request<UpdateTenantRequest>) -> ApiResult<proto::Tenant> {
        self.commands.execute(request, tenant::update).await
    }

    async fn rotate_tenant_key(&self, request: Request<RotateTenantKeyRequest>) -> ApiResult<proto::Tenant> {
        let context = self.commands.accept(request)?;
        self.commands.replay_or::<Tenant, _>(&context, self.rotate(&context)).await
    }
}
