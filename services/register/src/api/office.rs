//! International relations offices: CT-5.

use super::{ask, cities};
use hansa_chassis::{
    Desk,
    limits::{REQUEST_BYTES, RESPONSE_BYTES},
};
use hansa_kernel::{RecordName, Refusal};
use hansa_proto::register::{
    self as proto, GetOfficeRequest, UpdateOfficeRequest,
    office_service_server::{OfficeService, OfficeServiceServer},
};
use hansa_register_domain::{Office, office};
use tonic::{Request, Response, Status};

struct Offices(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> OfficeServiceServer<impl OfficeService> {
    OfficeServiceServer::new(Offices(desk))
        .max_decoding_message_size(REQUEST_BYTES)
        .max_encoding_message_size(RESPONSE_BYTES)
}

#[tonic::async_trait]
impl OfficeService for Offices {
    async fn get_office(&self, request: Request<GetOfficeRequest>) -> Result<Response<proto::Office>, Status> {
        let name = ask(RecordName::parse(&request.get_ref().name, "offices", "name"))?;
        let office = self.0.read::<Office, _>(&request, &name).await?;
        let mut shown = self.0.resolve(vec![office.state.resource(&office.name, &office.etag)]).await?;
        Ok(Response::new(shown.swap_remove(0)))
    }

    async fn update_office(&self, request: Request<UpdateOfficeRequest>) -> Result<Response<proto::Office>, Status> {
        let act = self.0.open(request)?;
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
        let etag = if act.request.etag.is_empty() { asked.etag } else { act.request.etag.clone() };
        let command = self
            .0
            .make(&act, name, move |office, asked, caller, _| office::update(office, (city.id, &entry), asked, caller));
        let receipt = self.0.submit(&act, command.if_head(etag)).await?;
        self.0.answer(&act, receipt.state.resource(&receipt.name, &receipt.etag)).await
    }
}
