//! Tests of the rules of networks (NW-1, NW-2).
#![allow(clippy::unwrap_used)]

use super::*;
use crate::criteria::tests::criterion;
use hansa_kernel::{AssuranceLevel, Audience, Record, Stamp, TenantId};
use hansa_proto::{networks::CreateNetworkRequest, types::Actor};
use uuid::Uuid;

fn hanse() -> proto::Network {
    proto::Network {
        display_name: "Cities of the Hanse".into(),
        kind: NetworkKind::Multipurpose as i32,
        scope: NetworkScope::Regional as i32,
        notice_months: 6,
        ..Default::default()
    }
}

fn asking(network: proto::Network) -> Result<Vec<Change>, Refusal> {
    let request = CreateNetworkRequest { network: Some(network), ..Default::default() };
    found(&request).map(|changes| changes.into_iter().map(|one| one.change).collect())
}

fn stamp() -> Stamp {
    Stamp {
        version: 1,
        at: chrono::DateTime::UNIX_EPOCH,
        actor: Actor::default(),
        party: Some(TenantId(Uuid::from_u128(1))),
        level: AssuranceLevel::Host,
    }
}

#[test]
fn nw_1_a_network_is_public_and_its_founders() {
    let changes = asking(hanse()).unwrap();
    let network = Network::fold(None, &changes[0], &stamp()).unwrap();
    assert_eq!(network.get(), &hanse());
    assert_eq!(network.owner(), TenantId(Uuid::from_u128(1)));
    assert_eq!(network.audience(), Audience::of([network.owner()]).and_public(true));
}

#[test]
fn nw_1_what_it_is_must_be_said() {
    type Break = fn(&mut proto::Network);
    let cases: [(Break, &str, &str); 6] = [
        (|n| n.display_name.clear(), "PL-4", "network.display_name"),
        (|n| n.kind = 0, "NW-1", "network.kind"),
        (|n| n.scope = 0, "NW-1", "network.scope"),
        (|n| n.notice_months = NOTICE_MONTHS + 1, "NW-3", "network.notice_months"),
        (|n| n.notice_months = -1, "NW-3", "network.notice_months"),
        (|n| n.criteria = vec![criterion("size", "residents > 5")], "NW-2", "network.criteria[0].expression"),
    ];
    for (wrong, rule, field) in cases {
        let mut network = hanse();
        wrong(&mut network);
        let refusal = asking(network).unwrap_err();
        assert_eq!((refusal.rule, refusal.missing[0].subject.as_str()), (rule, field));
    }
}

#[test]
fn nw_2_criteria_change_alone_and_what_is_as_before_changes_nothing() {
    let network = Network::fold(None, &asking(hanse()).unwrap()[0], &stamp()).unwrap();
    let mut asked = UpdateNetworkRequest {
        network: Some(proto::Network { criteria: vec![criterion("port", "port")], ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["criteria".into()] }),
        ..Default::default()
    };
    let changes = update(&network, &asked).unwrap();
    let after = Network::fold(Some(network), &changes[0].change, &stamp()).unwrap();
    assert_eq!(after.get().criteria.len(), 1);
    assert_eq!(after.get().display_name, hanse().display_name);
    assert_eq!(update(&after, &asked), Ok(vec![]));
    asked.update_mask = Some(FieldMask { paths: vec!["name".into()] });
    assert_eq!(update(&after, &asked).unwrap_err().missing[0].subject, "update_mask");
}
