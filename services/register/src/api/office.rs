//! International relations offices: CT-5.

use hansa_chassis::{ApiError, ApiResult, CommandContext, rpc_handlers};
use hansa_kernel::{RecordName, Refusal};
use hansa_proto::handlers::OfficeServiceHandler;
use hansa_proto::{
    WriteRequest,
    register::{self as proto, GetOfficeRequest, UpdateOfficeRequest},
};
use hansa_register_domain::{Office, office};
use tonic::Request;

rpc_handlers!(
    /// Handles the rpcs of `OfficeService`.
    Offices
);

impl OfficeServiceHandler for Offices {
    type Error = ApiError;

    async fn get_office(&self, request: Request<GetOfficeRequest>) -> ApiResult<proto::Office> {
        self.queries.get::<Office, _>(&request, &request.get_ref().name).await
    }

    async fn update_office(&self, request: Request<UpdateOfficeRequest>) -> ApiResult<proto::Office> {
        let context = self.commands.accept(request)?;
        self.commands.replay_or::<Office, _>(&context, self.update(&context)).await
    }
}

impl Offices {
    async fn update(&self, context: &CommandContext<UpdateOfficeRequest>) -> ApiResult<proto::Office> {
        let office = context.request.office.clone().unwrap_or_default();
        let city = RecordName::parse(&office.city, "cities", "office.city")?;
        let name = RecordName::new("offices", office::id_of(city.id));
        if !office.name.is_empty() && office.name != name.as_str() {
            return Err(Refusal::field("office.name", "is not the office of this city").into());
        }
        let entry = super::city(&self.journal, city.id).await?;
        // Check this before the rule: another tenant must not learn from any refusal whether the city has an office.
        if entry.tenant().is_some_and(|tenant| tenant != context.caller.tenant) {
            return Err(Refusal::not_found(&name).into());
        }
        let command = self.commands.create(context, name, move |before, request, caller, _| {
            office::update(before, (city.id, &entry), request, caller)
        });
        self.commands.respond(context, command.if_match(context.request.etag())).await
    }
}
