//! International relations offices: CT-5.

use super::cities;
use hansa_chassis::{Act, Desk, ask, bounded};
use hansa_kernel::{RecordName, Refusal};
use hansa_proto::{
    WriteRequest,
    register::{
        self as proto, GetOfficeRequest, UpdateOfficeRequest,
        office_service_server::{OfficeService, OfficeServiceServer},
    },
};
use hansa_register_domain::{Office, office};
use tonic::{Request, Response, Status};

struct Offices(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> OfficeServiceServer<impl OfficeService> {
    bounded!(OfficeServiceServer::new(Offices(desk)))
}

#[tonic::async_trait]
impl OfficeService for Offices {
    async fn get_office(&self, request: Request<GetOfficeRequest>) -> Result<Response<proto::Office>, Status> {
        self.0.get::<Office, _>(&request, &request.get_ref().name).await
    }

    async fn update_office(&self, request: Request<UpdateOfficeRequest>) -> Result<Response<proto::Office>, Status> {
        let act = self.0.open(request)?;
        self.0.once::<Office, _>(&act, self.update(&act)).await
    }
}

impl Offices {
    async fn update(&self, act: &Act<UpdateOfficeRequest>) -> Result<Response<proto::Office>, Status> {
        let asked = act.request.office.clone().unwrap_or_default();
        let city = ask(RecordName::parse(&asked.city, "cities", "office.city"))?;
        let name = RecordName::new("offices", office::id_of(city.id));
        if !asked.name.is_empty() && asked.name != name.as_str() {
            return Err(hansa_chassis::to_status(&Refusal::field("office.name", "is not the office of this city")));
        }
        let found = cities(&self.0, &[city.id]).await?.remove(&city.id);
        let entry = ask(found.ok_or_else(|| Refusal::not_found(&city)))?;
        // Whether it is there is the city's own matter: to others it never is, whatever else they send.
        if entry.tenant().is_some_and(|tenant| tenant != act.caller.tenant) {
            return ask(Err(Refusal::not_found(&name)));
        }
        let command = self
            .0
            .make(act, name, move |office, asked, caller, _| office::update(office, (city.id, &entry), asked, caller));
        self.0.done(act, command.if_head(act.request.etag())).await
    }
}
