//! Countries: CT-3.

use crate::views;
use hansa_chassis::{ApiError, ApiResult, Page, row_result, rpc_handlers};
use hansa_kernel::{IntoResource, RecordName, limits};
use hansa_proto::handlers::CountryServiceHandler;
use hansa_proto::register::{
    self as proto, BatchImportCountryFactsRequest, GetCountryRequest, ListCountriesRequest, ListCountriesResponse,
};
use hansa_proto::types::{ResourceView, RowOutcome, RowResults};
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
        let (mut countries, next_page_token) =
            self.queries.list::<Country, _>(&request, &page, ids, ResourceView::Full).await?;
        countries.retain(|country| {
            query.organization.is_empty()
                || country.organizations.iter().any(|m| m.organization == query.organization && m.leave_year == 0)
        });
        // The filter needs the memberships, which the view BASIC leaves out.
        if query.view() != ResourceView::Full {
            countries = countries.into_iter().map(Country::basic).collect();
        }
        Ok(Response::new(ListCountriesResponse { countries, next_page_token }))
    }

    async fn batch_import_country_facts(
        &self,
        request: Request<BatchImportCountryFactsRequest>,
    ) -> ApiResult<RowResults> {
        let context = self.commands.accept(request)?;
        let rows = context.request.rows.clone();
        limits::rows(rows.len(), country::IMPORT_ROWS)?;
        let mut results = Vec::new();
        for (code, rows) in country::by_country(rows) {
            let name = RecordName::new("countries", country::id_of(&code));
            let command = self.commands.create(&context, name.clone(), move |before, _, caller, _| {
                country::import(before, &code, &rows, caller)
            });
            // An import needs no idempotency key: importing the same rows again changes nothing.
            let command = command.idempotent(None);
            let outcome =
                self.journal.submit(command, context.validate_only).await.map(|receipt| match receipt.changes {
                    0 => RowOutcome::Unchanged,
                    changes if changes == receipt.version => RowOutcome::Created,
                    _ => RowOutcome::Updated,
                });
            results.push(row_result(results.len(), name.to_string(), outcome));
        }
        Ok(Response::new(RowResults { rows: results }))
    }
}
