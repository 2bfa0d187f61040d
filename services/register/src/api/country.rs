//! Countries: CT-3.

use crate::views;
use hansa_chassis::{Desk, Page, ask, bounded};
use hansa_kernel::{RecordName, limits};
use hansa_proto::register::{
    self as proto, BatchImportCountryFactsRequest, BatchImportCountryFactsResponse, GetCountryRequest, ImportOutcome,
    ImportedRow, ListCountriesRequest, ListCountriesResponse,
    country_service_server::{CountryService, CountryServiceServer},
};
use hansa_register_domain::{Country, country};
use tonic::{Request, Response, Status};

struct Countries(Desk);

/// The gRPC service.
pub fn server(desk: Desk) -> CountryServiceServer<impl CountryService> {
    bounded!(CountryServiceServer::new(Countries(desk)))
}

#[tonic::async_trait]
impl CountryService for Countries {
    async fn get_country(&self, request: Request<GetCountryRequest>) -> Result<Response<proto::Country>, Status> {
        self.0.get::<Country, _>(&request, &request.get_ref().name).await
    }

    async fn list_countries(
        &self,
        request: Request<ListCountriesRequest>,
    ) -> Result<Response<ListCountriesResponse>, Status> {
        let asked = request.get_ref();
        let page = ask(Page::of(asked, &format!("countries {} {}", asked.country_code, asked.organisation)))?;
        let found = ask(views::country::list(self.0.journal().store(), asked, &page).await)?;
        let (mut countries, next_page_token) = self.0.listed::<Country, _>(&request, &page, found).await?;
        countries.retain(|country| {
            asked.organisation.is_empty()
                || country.organisations.iter().any(|m| m.organisation == asked.organisation && m.left_year == 0)
        });
        Ok(Response::new(ListCountriesResponse { countries, next_page_token }))
    }

    async fn batch_import_country_facts(
        &self,
        request: Request<BatchImportCountryFactsRequest>,
    ) -> Result<Response<BatchImportCountryFactsResponse>, Status> {
        let act = self.0.open(request)?;
        let rows = act.request.rows.clone();
        ask(limits::rows(rows.len(), country::IMPORT_ROWS))?;
        let mut countries = Vec::new();
        for (code, rows) in country::by_country(rows) {
            let name = RecordName::new("countries", country::id_of(&code));
            let before = ask(self.0.journal().load::<Country>(&name).await)?.map(|country| country.version);
            let command = self
                .0
                .make(&act, name.clone(), move |country, _, caller, _| country::import(country, &code, &rows, caller));
            let outcome = match self.0.journal().submit(command.once(None), act.validate_only).await {
                Err(refusal) => (ImportOutcome::Refused, refusal.to_string()),
                Ok(_) if before.is_none() => (ImportOutcome::Created, String::new()),
                Ok(receipt) if before == Some(receipt.version) => (ImportOutcome::Unchanged, String::new()),
                Ok(_) => (ImportOutcome::Updated, String::new()),
            };
            countries.push(ImportedRow { name: name.to_string(), outcome: outcome.0 as i32, reason: outcome.1 });
        }
        Ok(Response::new(BatchImportCountryFactsResponse { countries }))
    }
}
