//! Tenants: PL-1, CT-10.

use super::cities;
use crate::{custody, views};
use hansa_chassis::{Act, Desk, Page, ask, bounded, named};
use hansa_journal::Signer;
use hansa_kernel::{Reason, RecordId, RecordName, Refusal, TenantId};
use hansa_proto::register::{
    self as proto, CreateTenantRequest, GetTenantRequest, ListTenantsRequest, ListTenantsResponse,
    RotateTenantKeyRequest,
    tenant_service_server::{TenantService, TenantServiceServer},
};
use hansa_register_domain::{City, Tenant, tenant};
use tonic::{Request, Response, Status};

struct Tenants(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> TenantServiceServer<impl TenantService> {
    bounded!(TenantServiceServer::new(Tenants(desk)))
}

impl Tenants {
    async fn create(&self, act: &Act<CreateTenantRequest>) -> Result<Response<proto::Tenant>, Status> {
        let (journal, key) = (self.0.journal(), custody::new_key());
        let (public, home) = (key.verifying_key().to_bytes(), journal.node().name().to_owned());
        let city = ask(tenant::city_of(&act.request))?;
        let read = match city {
            Some(id) => Some((id, city_of(&self.0, id).await?)),
            None => None,
        };
        let signer = Signer { tenant: TenantId::from_key(&public), key };
        let id = RecordId(signer.tenant.0);
        let home_node = home.clone();
        let founding = move |before: Option<&Tenant>, asked: &CreateTenantRequest, caller: &_, at| {
            if before.is_some() {
                return Err(Refusal::because(Reason::AlreadyExists, "PL-1", "there is such a tenant already")
                    .help("Send it again: each request makes a key of its own."));
            }
            let city = read.as_ref().map(|(id, city)| (*id, city));
            let host = tenant::Host { public_key: &public, home_node: &home_node };
            Ok(tenant::create(asked, city, host, caller, at)?.tenant)
        };
        let kept = custody::kept(journal.node(), &signer, journal.clock().now());
        let command = self.0.make(act, RecordName::new("tenants", id), founding).beside(kept).signed_by(vec![signer]);
        let mut together = Vec::new();
        if let Some(id) = city {
            let joining = move |city: &City, asked: &CreateTenantRequest, caller: &_, at| {
                let host = tenant::Host { public_key: &public, home_node: &home };
                Ok(tenant::create(asked, Some((id, city)), host, caller, at)?.city.map(|(_, c)| c).unwrap_or_default())
            };
            together.push(self.0.on(act, RecordName::new("cities", id), "", joining).into());
        }
        self.0.done_with(act, command, together).await
    }

    /// The old key and the new one sign; the old one's secret half is emptied in the same transaction.
    async fn rotate(&self, act: &Act<RotateTenantKeyRequest>) -> Result<Response<proto::Tenant>, Status> {
        let journal = self.0.journal();
        let name = named::<Tenant>("name", &act.request.name)?;
        let found = ask(journal.load::<Tenant>(&name).await)?;
        let found = ask(found.ok_or_else(|| Refusal::not_found(&name)))?;
        let tenant = TenantId(name.id.0);
        let old = ask(custody::held(journal, tenant, &found.state).await)?;
        let new = Signer { tenant, key: custody::new_key() };
        let (old_public, public) = (old.key.verifying_key().to_bytes(), new.key.verifying_key().to_bytes());
        let (home, now) = (journal.node().name().to_owned(), journal.clock().now());
        let rule = move |state: &Tenant, _: &_, _: &_, at| {
            let host = tenant::Host { public_key: &public, home_node: &home };
            tenant::rotate_key(state, &old_public, host, at)
        };
        let command = self.0.on(act, name, &act.request.etag, rule);
        let command = command.beside(custody::replaced(&old, now)).beside(custody::kept(journal.node(), &new, now));
        self.0.done(act, command.signed_by(vec![old, new])).await
    }
}

async fn city_of(desk: &Desk, id: RecordId) -> Result<City, Status> {
    let found = cities(desk, &[id]).await?.remove(&id);
    ask(found.ok_or_else(|| Refusal::not_found(RecordName::new("cities", id))))
}

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<proto::Tenant>, Status> {
        self.0.get::<Tenant, _>(&request, &request.get_ref().name).await
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let asked = request.get_ref();
        let page = ask(Page::of(asked, &format!("tenants {} {}", asked.kind, asked.city)))?;
        let found = ask(views::tenant::list(self.0.journal().store(), asked, &page).await)?;
        let (tenants, next_page_token) = self.0.listed::<Tenant, _>(&request, &page, found).await?;
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn create_tenant(&self, request: Request<CreateTenantRequest>) -> Result<Response<proto::Tenant>, Status> {
        let act = self.0.open(request)?;
        self.0.once::<Tenant, _>(&act, self.create(&act)).await
    }

    async fn rotate_tenant_key(
        &self,
        request: Request<RotateTenantKeyRequest>,
    ) -> Result<Response<proto::Tenant>, Status> {
        let act = self.0.open(request)?;
        self.0.once::<Tenant, _>(&act, self.rotate(&act)).await
    }
}
