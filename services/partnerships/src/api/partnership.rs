//! What becomes of an agreement once it is concluded: AG-6 to AG-10, AG-14.

use super::{Agreements, Answer};
use crate::views;
use hansa_chassis::{Act, Desk, Page, ask, bounded, named, timeless};
use hansa_journal::{Loaded, Receipt};
use hansa_kernel::{Caller, Decision, Moment, Reason, RecordName, Refusal, Refused};
use hansa_partnerships_domain::agreement::{self, Agreement, Change};
use hansa_proto::{
    Texts, WriteRequest,
    partnerships::{
        AgreementOutcome, ConfirmRenewalRequest, ConfirmRevitalisationRequest, EndAgreementRequest,
        EndAgreementsRequest, EndAgreementsResponse, LiftSuspensionRequest, ListActivitiesRequest,
        ListActivitiesResponse, RecordActivityRequest, RenewAgreementRequest, RevitaliseAgreementRequest,
        SetCommitteeRequest, SuspendAgreementRequest, SuspendAgreementsRequest, SuspendAgreementsResponse,
        partnership_service_server::{PartnershipService, PartnershipServiceServer},
    },
};
use prost::Message;
use tonic::{Request, Response, Status};

/// Most agreements that one decision reaches.
const DECISION_AGREEMENTS: usize = 2_000;
/// Agreements that are looked for at once.
const AGREEMENTS_A_PAGE: u64 = 1_000;

/// The gRPC service.
pub fn server(desk: Desk) -> PartnershipServiceServer<impl PartnershipService> {
    bounded!(PartnershipServiceServer::new(Agreements(desk)))
}

#[tonic::async_trait]
impl PartnershipService for Agreements {
    async fn record_activity(&self, request: Request<RecordActivityRequest>) -> Answer {
        self.0.step(request, agreement::record_activity).await
    }

    async fn list_activities(
        &self,
        request: Request<ListActivitiesRequest>,
    ) -> Result<Response<ListActivitiesResponse>, Status> {
        let asked = request.get_ref();
        let name = named::<Agreement>("parent", &asked.parent)?;
        let page = ask(Page::of(asked, &format!("activities {name}")))?;
        let agreement = self.0.read::<Agreement, _>(&request, &name).await?;
        let skip = page.after.as_ref().and_then(|keys| keys.first()?.parse().ok()).unwrap_or(0_usize);
        let most = usize::try_from(page.size).unwrap_or(usize::MAX);
        let caller = self.0.caller(&request)?;
        let activities = ask(agreement.state.activities_for(&caller, name.id, skip, most))?;
        let (after, count) = (skip.saturating_add(activities.len()), agreement.state.activity_count());
        let activities = self.0.resolve(activities).await?;
        let next_page_token = page.next((after < count).then(|| vec![after.to_string()]));
        Ok(Response::new(ListActivitiesResponse { activities, next_page_token }))
    }

    async fn set_committee(&self, request: Request<SetCommitteeRequest>) -> Answer {
        self.0.step(request, timeless(agreement::set_committee)).await
    }

    async fn revitalise_agreement(&self, request: Request<RevitaliseAgreementRequest>) -> Answer {
        self.0.step(request, timeless(agreement::revitalise)).await
    }

    async fn confirm_revitalisation(&self, request: Request<ConfirmRevitalisationRequest>) -> Answer {
        self.0.step(request, agreement::confirm_revitalisation).await
    }

    async fn renew_agreement(&self, request: Request<RenewAgreementRequest>) -> Answer {
        self.0.step(request, timeless(agreement::renew)).await
    }

    async fn confirm_renewal(&self, request: Request<ConfirmRenewalRequest>) -> Answer {
        self.0.step(request, agreement::confirm_renewal).await
    }

    async fn suspend_agreement(&self, request: Request<SuspendAgreementRequest>) -> Answer {
        self.0.step(request, agreement::suspend).await
    }

    async fn lift_suspension(&self, request: Request<LiftSuspensionRequest>) -> Answer {
        self.0.step(request, agreement::lift_suspension).await
    }

    async fn end_agreement(&self, request: Request<EndAgreementRequest>) -> Answer {
        self.0.step(request, agreement::end).await
    }

    async fn end_agreements(
        &self,
        request: Request<EndAgreementsRequest>,
    ) -> Result<Response<EndAgreementsResponse>, Status> {
        let act = self.0.open(request)?;
        let country = &act.request.country_code;
        let outcomes = decide(&self.0, &act, country, agreement::end_each, agreement::end).await?;
        Ok(Response::new(EndAgreementsResponse { outcomes }))
    }

    async fn suspend_agreements(
        &self,
        request: Request<SuspendAgreementsRequest>,
    ) -> Result<Response<SuspendAgreementsResponse>, Status> {
        let act = self.0.open(request)?;
        let country = &act.request.country_code;
        let outcomes = decide(&self.0, &act, country, agreement::suspend_each, agreement::suspend).await?;
        Ok(Response::new(SuspendAgreementsResponse { outcomes }))
    }
}

/// The agreements of the caller's city with cities of a country, in a steady order, whatever their state.
async fn with_country<Q>(desk: &Desk, act: &Act<Q>, country: &str) -> Refused<Vec<Loaded<Agreement>>> {
    let mut found = Vec::new();
    let mut after: Option<Vec<String>> = None;
    loop {
        let store = desk.journal().store();
        let page = views::agreement::own_with(store, &act.caller, country, after.as_deref(), AGREEMENTS_A_PAGE).await?;
        found.extend(desk.journal().load_each::<Agreement>(&page.ids).await?);
        if found.len() > DECISION_AGREEMENTS {
            let message = format!("the agreements with {country} are more than {DECISION_AGREEMENTS}");
            return Err(Refusal::because(Reason::Limit, "AG-10", message)
                .help("Decide on each by itself: EndAgreement, SuspendAgreement."));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

/// One decision over all agreements with a country: a command a record, each decided for itself.
async fn decide<Q, P>(
    desk: &Desk,
    act: &Act<Q>,
    country: &str,
    each: fn(&Q, &RecordName) -> P,
    rule: fn(&Agreement, &P, &Caller, Moment) -> Decision<Change>,
) -> Result<Vec<AgreementOutcome>, Status>
where
    P: WriteRequest + Texts + Message + 'static,
{
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return ask(Err(Refusal::field("country_code", "is not an ISO 3166-1 alpha-2 code")));
    }
    let mut found = ask(with_country(desk, act, country).await)?;
    let reached = |one: &Loaded<Agreement>| one.state.reached_by(act.caller.tenant, country);
    // A repetition finds that its first coming has done its work: those records are asked again, and answer as before.
    found.retain(|one| act.repeatable() || reached(one));
    let mut commands = Vec::with_capacity(found.len());
    for one in &found {
        let part = ask(act.part(one.name.id, each(&act.request, &one.name)))?;
        commands.push(desk.on(&part, one.name.clone(), "", rule));
    }
    let receipts = desk.journal().submit_each(commands, act.validate_only).await;
    let answers = found.iter().zip(receipts);
    let shown = answers.filter(|(one, receipt)| reached(one) || receipt.as_ref().is_ok_and(|r| r.repeated));
    Ok(shown.map(|(one, receipt)| outcome(&one.name, receipt)).collect())
}

fn outcome(name: &RecordName, receipt: Result<Receipt<Agreement>, Refusal>) -> AgreementOutcome {
    let refusal = receipt.err().map(|refusal| refusal.to_string());
    AgreementOutcome { name: name.to_string(), done: refusal.is_none(), refusal: refusal.unwrap_or_default() }
}
