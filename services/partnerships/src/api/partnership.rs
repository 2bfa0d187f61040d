//! The rpcs for agreements in force: activities, committees, renewal, suspension and ending (AG-6 to AG-10, AG-14).

use super::Agreements;
use crate::views;
use hansa_chassis::{ApiError, ApiResult, CommandContext, Page, parse_name, row_result};
use hansa_journal::{Loaded, Receipt};
use hansa_kernel::{Caller, Decision, Moment, ReasonClass, RecordName, Refusal, Refused};
use hansa_partnerships_domain::agreement::{self, Agreement, Change};
use hansa_proto::handlers::PartnershipServiceHandler;
use hansa_proto::types::{RowOutcome, RowResult, RowResults};
use hansa_proto::{
    Texts, WriteRequest,
    partnerships::{
        self as proto, ConfirmRenewalRequest, ConfirmRevitalizationRequest, CreateActivityRequest, EndAgreementRequest,
        EndAgreementsRequest, GetActivityRequest, LiftSuspensionRequest, ListActivitiesRequest, ListActivitiesResponse,
        ProposeRenewalRequest, ProposeRevitalizationRequest, SetCommitteeRequest, SuspendAgreementRequest,
        SuspendAgreementsRequest,
    },
};
use prost::Message;
use tonic::{Request, Response};

/// Maximum number of agreements per decision.
const DECISION_AGREEMENTS: usize = 2_000;
/// Number of agreements per database query.
const AGREEMENTS_PER_PAGE: u64 = 1_000;

impl PartnershipServiceHandler for Agreements {
    type Error = ApiError;

    async fn create_activity(&self, request: Request<CreateActivityRequest>) -> ApiResult<proto::Activity> {
        let context = self.commands.accept(request)?;
        let name = parse_name::<Agreement>("parent", &context.request.parent)?;
        let command = self.commands.update(&context, name.clone(), "", agreement::create_activity);
        let receipt = self.journal.submit(command, context.validate_only).await?;
        let activity = receipt.state.activity(name.id, receipt.version).ok_or_else(|| Refusal::not_found(&name))?;
        self.commands.resolve(&context, activity).await
    }

    async fn get_activity(&self, request: Request<GetActivityRequest>) -> ApiResult<proto::Activity> {
        let (agreement, version) = RecordName::parse_numbered(&request.get_ref().name, "activities", "name")?;
        let agreement = parse_name::<Agreement>("name", agreement.as_str())?;
        let missing = || Refusal::not_found(format!("{}/activities/{version}", agreement.as_str()));
        let loaded = self.queries.load::<Agreement, _>(&request, &agreement).await?;
        let caller = self.queries.caller(&request)?;
        loaded.state.activities_for(&caller, agreement.id, 0, 0)?;
        let activity = loaded.state.activity(agreement.id, version).ok_or_else(missing)?;
        Ok(Response::new(self.queries.resolve(vec![activity]).await?.swap_remove(0)))
    }

    async fn list_activities(&self, request: Request<ListActivitiesRequest>) -> ApiResult<ListActivitiesResponse> {
        let query = request.get_ref();
        let name = parse_name::<Agreement>("parent", &query.parent)?;
        let page = Page::of(query)?;
        let agreement = self.queries.load::<Agreement, _>(&request, &name).await?;
        let skip = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0_usize);
        let most = usize::try_from(page.size).unwrap_or(usize::MAX);
        let caller = self.queries.caller(&request)?;
        let activities = agreement.state.activities_for(&caller, name.id, skip, most)?;
        let (after, count) = (skip.saturating_add(activities.len()), agreement.state.activity_count());
        let activities = self.queries.resolve(activities).await?;
        let next_page_token = page.next_token((after < count).then(|| vec![after.to_string()]));
        Ok(Response::new(ListActivitiesResponse { activities, next_page_token }))
    }

    async fn set_committee(&self, request: Request<SetCommitteeRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::set_committee).await
    }

    async fn propose_revitalization(
        &self,
        request: Request<ProposeRevitalizationRequest>,
    ) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::revitalize).await
    }

    async fn confirm_revitalization(
        &self,
        request: Request<ConfirmRevitalizationRequest>,
    ) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::confirm_revitalization).await
    }

    async fn propose_renewal(&self, request: Request<ProposeRenewalRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::renew).await
    }

    async fn confirm_renewal(&self, request: Request<ConfirmRenewalRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::confirm_renewal).await
    }

    async fn suspend_agreement(&self, request: Request<SuspendAgreementRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::suspend).await
    }

    async fn lift_suspension(&self, request: Request<LiftSuspensionRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::lift_suspension).await
    }

    async fn end_agreement(&self, request: Request<EndAgreementRequest>) -> ApiResult<proto::Agreement> {
        self.commands.execute(request, agreement::end).await
    }

    async fn end_agreements(&self, request: Request<EndAgreementsRequest>) -> ApiResult<RowResults> {
        let context = self.commands.accept(request)?;
        let country = &context.request.country_code;
        let rows = self.decide_each(&context, country, agreement::end_each, agreement::end).await?;
        Ok(Response::new(RowResults { rows }))
    }

    async fn suspend_agreements(&self, request: Request<SuspendAgreementsRequest>) -> ApiResult<RowResults> {
        let context = self.commands.accept(request)?;
        let country = &context.request.country_code;
        let rows = self.decide_each(&context, country, agreement::suspend_each, agreement::suspend).await?;
        Ok(Response::new(RowResults { rows }))
    }
}

impl Agreements {
    /// Returns the agreements of the caller's tenant with cities of a country, in any state, ordered by id.
    async fn with_country(&self, caller: &Caller, country: &str) -> Refused<Vec<Loaded<Agreement>>> {
        let mut found = Vec::new();
        let mut after: Option<Vec<String>> = None;
        loop {
            let store = self.journal.store();
            let page =
                views::agreement::own_with(store, caller, country, after.as_deref(), AGREEMENTS_PER_PAGE).await?;
            found.extend(self.journal.load_each::<Agreement>(&page.ids).await?);
            if found.len() > DECISION_AGREEMENTS {
                let message = format!("there are more than {DECISION_AGREEMENTS} agreements with {country}");
                return Err(Refusal::because(ReasonClass::Limit, "AG-10", "TOO_MANY_AGREEMENTS", message)
                    .help("Decide on each agreement separately with EndAgreement or SuspendAgreement."));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// Applies one decision to all agreements with a country: one independent command per agreement.
    async fn decide_each<Q, P>(
        &self,
        context: &CommandContext<Q>,
        country: &str,
        part: fn(&Q, &RecordName) -> P,
        rule: fn(&Agreement, &P, &Caller, Moment) -> Decision<Change>,
    ) -> Result<Vec<RowResult>, ApiError>
    where
        P: WriteRequest + Texts + Message + 'static,
    {
        if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(Refusal::field("country_code", "is not an ISO 3166-1 alpha-2 code").into());
        }
        let mut found = self.with_country(&context.caller, country).await?;
        let is_reached = |one: &Loaded<Agreement>| one.state.reached_by(context.caller.tenant, country);
        // When a client retries the request, the first attempt may already have changed some agreements. Their commands
        // are submitted again and replay their receipts.
        found.retain(|one| context.is_idempotent() || is_reached(one));
        let mut commands = Vec::with_capacity(found.len());
        for one in &found {
            let part = context.part(one.name.id, part(&context.request, &one.name))?;
            commands.push(self.commands.update(&part, one.name.clone(), "", rule));
        }
        let receipts = self.journal.submit_each(commands, context.validate_only).await;
        let results = found.iter().zip(receipts);
        let decided = results.filter(|(one, receipt)| is_reached(one) || receipt.as_ref().is_ok_and(|r| r.replayed));
        Ok(decided.enumerate().map(|(index, (one, receipt))| outcome(index, &one.name, receipt)).collect())
    }
}

fn outcome(index: usize, name: &RecordName, receipt: Result<Receipt<Agreement>, Refusal>) -> RowResult {
    row_result(index, name.to_string(), receipt.map(|_| RowOutcome::Updated))
}
