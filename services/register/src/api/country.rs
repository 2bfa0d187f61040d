//! Countries: CT-3.

use crate::views;
use hansa_chassis::{ApiError, ApiResult, Page, rpc_handlers};
use hansa_kernel::{RecordName, limits};
use hansa_proto::handlers::CountryServiceHandler;
use hansa_proto::register::{
    self as proto, BatchImportCountryFactsRequest, BatchImportCountryFactsResponse, GetCountryRequest, ImportOutcome,
    ImportedRow, ListCountriesRequest, ListCountriesResponse,
};
use hansa_register_domain::{Country, country};
use tonic::{Request, Response};

rpc_handlers!(
    /// Handles the rpcs of `CountryService`.
    Countries
);

impl CountryServiceHandler for Countries {
    type Error = ApiError;

    async fn get_country(&self, request: Request<GetCountryRequest>) -> ApiResult<proto::Country> {
        self.queries.get::<Country, _>(&request, &request.get_ref().name).await
    }

    async fn list_countries(&self, request: Request<ListCountriesRequest>) -> ApiResult<ListCountriesResponse> {
        let query = request.get_ref();
        let page = Page::of(query)?;
        let ids = views::country::list(self.journal.store(), query, &page).await?;
        let (mut countries, next_page_token) = self.queries.list::<Country, _>(&request, &page, ids).await?;
        countries.retain(|country| {
            query.organisation.is_empty()
                || country.organisations.iter().any(|m| m.organisation == query.organisation && m.left_year == 0)
        });
        Ok(Response::new(ListCountriesResponse { countries, next_page_token }))
    }

    async fn batch_import_country_facts(
        &self,
        request: Request<BatchImportCountryFactsRequest>,
    ) -> ApiResult<BatchImportCountryFactsResponse> {
        let context = self.commands.accept(request)?;
        let rows = context.request.rows.clone();
        limits::rows(rows.len(), country::IMPORT_ROWS)?;
        let mut countries = Vec::new();
        for (code, rows) in country::by_country(rows) {
            let name = RecordName::new("countries", country::id_of(&code));
            let command = self.commands.create(&context, name.clone(), move |before, _, caller, _| {
                country::import(before, &code, &rows, caller)
            });
            // An import needs no idempotency key: importing the same rows again changes nothing.
            let command = command.idempotent(None);
            let outcome = match self.journal.submit(command, context.validate_only).await {
                Err(refusal) => (ImportOutcome::Refused, refusal.to_string()),
                Ok(receipt) if receipt.changes == 0 => (ImportOutcome::Unchanged, String::new()),
                Ok(receipt) if receipt.changes == receipt.version => (ImportOutcome::Created, String::new()),
                Ok(_) => (ImportOutcome::Updated, String::new()),
            };
            countries.push(ImportedRow { name: name.to_string(), outcome: outcome.0 as i32, reason: outcome.1 });
        }
        Ok(Response::new(BatchImportCountryFactsResponse { countries }))
    }
}
