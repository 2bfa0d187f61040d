//! Steps to found a network and to join it.

use crate::{Caller, cities::City, eventually, request_id, text};
use hansa_proto::networks::{
    ApplyForMembershipRequest, ApproveMembershipRequest, CreateNetworkRequest, Membership, MembershipCriterion,
    Network, NetworkKind, NetworkScope,
};
use tonic::Code;

/// Returns a membership criterion with an id and an expression.
#[must_use]
pub fn criterion(id: &str, expression: &str) -> MembershipCriterion {
    MembershipCriterion { criterion_id: id.into(), title: format!("By {id}"), expression: expression.into() }
}

/// Founds a network of the caller's tenant with the given membership criteria.
pub async fn found(director: &Caller, criteria: Vec<MembershipCriterion>) -> Network {
    let network = Network {
        display_name: "Cities of the Hanse".into(),
        kind: NetworkKind::Multipurpose as i32,
        scope: NetworkScope::Regional as i32,
        purpose: text("Trade and exchange"),
        notice_months: 6,
        criteria,
        ..Default::default()
    };
    let request = CreateNetworkRequest { network: Some(network), request_id: request_id(), validate_only: false };
    director.networks().create_network(request).await.unwrap().into_inner()
}

/// Returns a city's application.
#[must_use]
pub fn application(city: &City, network: &str) -> ApplyForMembershipRequest {
    ApplyForMembershipRequest {
        network: network.into(),
        city: city.city.clone(),
        motivation: text("We share the same sea"),
        request_id: request_id(),
        validate_only: false,
    }
}

/// Submits a city's application. Retries until the networks service knows that the city has joined.
pub async fn apply(city: &City, network: &str) -> Membership {
    let request = application(city, network);
    eventually("the networks service mirrors the city", async || {
        match city.office.memberships().apply_for_membership(request.clone()).await {
            Ok(applied) => Some(applied.into_inner()),
            Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => None,
            Err(status) => panic!("{status:?}"),
        }
    })
    .await
}

/// Approves an application in the name of the secretariat.
pub async fn approve(director: &Caller, membership: &str) -> Membership {
    let request = ApproveMembershipRequest { name: membership.into(), request_id: request_id(), ..Default::default() };
    director.memberships().approve_membership(request).await.unwrap().into_inner()
}
