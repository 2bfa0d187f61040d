//! Networks and memberships, end to end, in each of the three deployment shapes: criteria, joining, visibility
//! (NW-1 to NW-3).
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_kernel::{Role, time};
use hansa_proto::{
    changes::ListChangesRequest,
    networks::{
        CheckEligibilityRequest, CriterionOutcome, ExpelMembershipRequest, GetMembershipRequest,
        LeaveMembershipRequest, ListMembershipsRequest, ListNetworksRequest, MembershipState, Network,
        ReinstateMembershipRequest, SuspendMembershipRequest, UpdateNetworkRequest,
    },
    register::{CreateTenantRequest, RegimeClass, Tenant, TenantKind},
    types::ResourceView,
};
use hansa_tests::{Caller, Platform, Shape, cities, eventually, networks, request_id, rule, text};
use tonic::Code;
use tonic_types::StatusExt;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const CITIES: [(&str, &str, &str); 3] = [("1", "Dresden", "DE"), ("2", "Tunis", "TN"), ("3", "Lyon", "FR")];

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    members(Platform::start(HANSA, Shape::Embedded).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_postgres_and_nats() {
    members(Platform::start(HANSA, Shape::OneProcess).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_a_service_on_postgres_and_nats() {
    members(Platform::start(HANSA, Shape::ProcessAService).await).await;
}

async fn secretariat(platform: &Platform) -> Caller {
    let tenant =
        Tenant { kind: TenantKind::Secretariat as i32, display_name: "The Hanse".into(), ..Default::default() };
    let request = CreateTenantRequest { tenant: Some(tenant), request_id: request_id(), validate_only: false };
    let tenant = platform.steward().tenants().create_tenant(request).await.unwrap().into_inner().name;
    platform.caller(Some(&tenant), &[Role::Director])
}

async fn listed(caller: &Caller, network: &str, state: MembershipState) -> Vec<String> {
    let request =
        ListMembershipsRequest { network: network.into(), state: state as i32, ..ListMembershipsRequest::default() };
    let answer = caller.memberships().list_memberships(request).await.unwrap().into_inner();
    answer.memberships.into_iter().map(|one| one.city).collect()
}

async fn members(mut platform: Platform) {
    cities::enter(&platform, &CITIES, &[("DE", RegimeClass::LiberalDemocracy)]).await;
    let [dresden, tunis, lyon] = ["1", "2", "3"].map(|key| cities::join(&platform, key));
    let (dresden, tunis, lyon) = (dresden.await, tunis.await, lyon.await);
    let director = secretariat(&platform).await;
    let asks = vec![networks::criterion("region", "country in ['DE', 'FR']"), networks::criterion("port", "port")];
    let network = networks::found(&director, asks).await;
    let request = ListNetworksRequest { view: ResourceView::Full as i32, ..Default::default() };
    let shown = lyon.observer.networks().list_networks(request).await.unwrap().into_inner();
    assert_eq!(shown.networks, vec![network.clone()], "networks are public");

    // The criteria, and their results for a city.
    let check = CheckEligibilityRequest { network: network.name.clone(), city: tunis.city.clone() };
    let checked = eventually("the networks service has the mirror of the city", async || {
        tunis.observer.networks().check_eligibility(check.clone()).await.ok().map(tonic::Response::into_inner)
    })
    .await;
    let outcomes: Vec<_> = checked.results.iter().map(|one| one.outcome()).collect();
    assert_eq!(outcomes, [CriterionOutcome::NotMet, CriterionOutcome::Unknown]);
    assert_eq!((checked.results[0].inputs[0].value.as_deref(), checked.eligible), (Some("TN"), false));
    let refused = eventually("the networks service knows the tenant of the city", async || {
        let status = tunis.mayor.memberships().apply_for_membership(networks::application(&tunis, &network.name)).await;
        status.err().filter(|status| status.code() == Code::FailedPrecondition)
    })
    .await;
    assert_eq!(rule(&refused), "NW-2");
    let missing = refused.get_details_precondition_failure().unwrap().violations;
    assert_eq!((missing[0].subject.as_str(), missing[0].description.as_str()), ("region", "country = TN"));

    // From the application to the list of members.
    let applied = networks::apply(&dresden, &network.name).await;
    assert_eq!((applied.state(), applied.motivation.len()), (MembershipState::Applied, 1));
    assert_eq!(applied.motivation[0].text, "We share the same sea");
    assert_eq!(
        applied.eligibility[1].outcome(),
        CriterionOutcome::Unknown,
        "the secretariat decides on an unknown criterion"
    );
    let get = GetMembershipRequest { name: applied.name.clone() };
    let hidden = lyon.mayor.memberships().get_membership(get.clone()).await.unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound, "only its parties may see an application");
    assert!(listed(&lyon.mayor, &network.name, MembershipState::Unspecified).await.is_empty());
    let member = networks::approve(&director, &applied.name).await;
    assert_eq!(member.state(), MembershipState::Active);
    let public = lyon.mayor.memberships().get_membership(get.clone()).await.unwrap().into_inner();
    assert_eq!((public.state(), public.motivation.len()), (MembershipState::Active, 0));
    assert_eq!(listed(&lyon.mayor, &network.name, MembershipState::Active).await, std::slice::from_ref(&dresden.city));

    platform.crash_and_restart().await;

    // The secretariat suspends and reinstates a member. Only the member itself may leave.
    let why = text("Dues of 2025");
    let suspend = SuspendMembershipRequest { name: applied.name.clone(), reason: why.clone(), ..Default::default() };
    let denied = dresden.mayor.memberships().suspend_membership(suspend.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let suspended = director.memberships().suspend_membership(suspend).await.unwrap().into_inner();
    assert_eq!((suspended.state(), suspended.reason[0].text.as_str()), (MembershipState::Suspended, "Dues of 2025"));
    let reinstate = ReinstateMembershipRequest { name: applied.name.clone(), ..Default::default() };
    director.memberships().reinstate_membership(reinstate).await.unwrap();
    let leave = LeaveMembershipRequest { name: applied.name.clone(), etag: member.etag, ..Default::default() };
    let stale = dresden.mayor.memberships().leave_membership(leave.clone()).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "the etag is stale");
    let leave = LeaveMembershipRequest { etag: String::new(), ..leave };
    let leaving = dresden.mayor.memberships().leave_membership(leave).await.unwrap().into_inner();
    assert_eq!(leaving.state(), MembershipState::NoticeGiven);
    let days = |date: Option<&_>| time::day("date", date).unwrap();
    let (start, end) = (days(leaving.start_date.as_ref()), days(leaving.end_date.as_ref()));
    assert_eq!(end, time::months_later(start, 6), "the membership ends after the notice period of the network");

    // The criteria may change; members stay members.
    let update = UpdateNetworkRequest {
        network: Some(Network { name: network.name.clone(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["criteria".into(), "notice_months".into()] }),
        ..Default::default()
    };
    let open = director.networks().update_network(update.clone()).await.unwrap().into_inner();
    assert_eq!((open.criteria.len(), open.notice_months, open.display_name), (0, 0, network.display_name));
    let foreign = lyon.mayor.networks().update_network(update).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    let tunis_now = networks::apply(&tunis, &network.name).await;
    networks::approve(&director, &tunis_now.name).await;
    let leave = LeaveMembershipRequest { name: tunis_now.name.clone(), ..Default::default() };
    let left = tunis.mayor.memberships().leave_membership(leave).await.unwrap().into_inner();
    assert_eq!(left.state(), MembershipState::Left, "without a notice period the membership ends immediately");
    networks::apply(&tunis, &network.name).await;
    assert!(
        listed(&lyon.mayor, &network.name, MembershipState::Applied).await.is_empty(),
        "only its parties may see an application"
    );
    assert_eq!(listed(&director, &network.name, MembershipState::Applied).await, std::slice::from_ref(&tunis.city));
    networks::approve(&director, &tunis_now.name).await;
    let expel = ExpelMembershipRequest { name: tunis_now.name.clone(), reason: why, ..Default::default() };
    let expelled = director.memberships().expel_membership(expel).await.unwrap().into_inner();
    assert_eq!(expelled.state(), MembershipState::Expelled);
    let again = tunis.mayor.memberships().apply_for_membership(networks::application(&tunis, &network.name)).await;
    assert_eq!(rule(&again.unwrap_err()), "NW-3", "an expelled city may not apply again by itself");

    let history = ListChangesRequest { parent: applied.name, ..Default::default() };
    let changes = dresden.office.changes("networks").list_changes(history.clone()).await.unwrap().into_inner();
    let types: Vec<&str> = changes.changes.iter().filter_map(|change| change.payload_type.rsplit('.').next()).collect();
    let whole = [
        "MembershipApplied",
        "MembershipApproved",
        "MembershipSuspended",
        "MembershipReinstated",
        "MembershipNoticeGiven",
    ];
    assert_eq!(types, whole);
    let seen = lyon.office.changes("networks").list_changes(history).await.unwrap().into_inner();
    assert_eq!(seen.changes.len(), whole.len() - 1, "the public sees all changes except the application");
    platform.stop();
}
