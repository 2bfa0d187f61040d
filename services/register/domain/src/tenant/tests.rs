//! Rules of tenants (PL-1, CT-10).
#![allow(clippy::unwrap_used)]

use super::*;
use hansa_kernel::{AssuranceLevel, PersonId, ReasonClass, Role};
use hansa_proto::register::{CityRow, SourceRegister};
use uuid::Uuid;

fn steward() -> Caller {
    let (tenant, person) = (TenantId(Uuid::from_u128(1)), PersonId(Uuid::from_u128(9)));
    Caller { tenant, person, roles: vec![Role::Steward], scopes: vec!["*".into()] }
}

fn now() -> Moment {
    Moment::at(DateTime::from_timestamp(1_750_000_000, 0).unwrap())
}

fn stamp(version: u64) -> Stamp {
    Stamp { version, at: now().now, actor: steward().actor(None), party: None, level: AssuranceLevel::Host }
}

fn lyon() -> (RecordId, City) {
    let row = CityRow {
        source_register: SourceRegister::Geonames as i32,
        source_key: "2996944".into(),
        display_name: "Lyon".into(),
        country_code: "FR".into(),
        tier: 1,
        ..Default::default()
    };
    let changes = city::import(None, &row, "GeoNames", &steward(), now()).unwrap();
    (city::row_id(&row).unwrap(), City::fold(None, &changes[0].change, &stamp(1)).unwrap())
}

fn asking(kind: TenantKind, display_name: &str, city: &str) -> CreateTenantRequest {
    let tenant =
        proto::Tenant { kind: kind as i32, display_name: display_name.into(), city: city.into(), ..Default::default() };
    CreateTenantRequest { tenant: Some(tenant), ..Default::default() }
}

const HOST: Host = Host { public_key: &[7; 32], home_node: "nodes/a" };

#[test]
fn ct_10_a_citys_tenant_takes_its_entry_over() {
    let (id, city) = lyon();
    let command = asking(TenantKind::City, "", &names::city_name(id));
    let founding = create(&command, Some((id, &city)), HOST, &steward(), now()).unwrap();
    assert_eq!(founding.id, TenantId::from_key(&[7; 32]));
    let tenant = Tenant::fold(None, &founding.tenant[0].change, &stamp(1)).unwrap();
    assert_eq!((tenant.owner(), tenant.display_name(), tenant.city()), (founding.id, "Lyon", Some(id)));
    assert!(tenant.audience().public && tenant.key() == Some([7; 32]));
    let bytes = postcard::to_stdvec(&tenant).unwrap();
    assert_eq!(postcard::from_bytes::<Tenant>(&bytes).unwrap(), tenant);

    let city = City::fold(Some(city), &founding.city.unwrap().1[0].change, &stamp(2)).unwrap();
    assert_eq!(city.owner(), founding.id);
    let other = Host { public_key: &[8; 32], ..HOST };
    let refusal = create(&command, Some((id, &city)), other, &steward(), now()).unwrap_err();
    assert_eq!((refusal.rule, refusal.class), ("CT-10", ReasonClass::AlreadyExists));
}

#[test]
fn pl_1_a_tenant_is_of_one_kind_and_only_a_city_names_a_city() {
    let (id, city) = lyon();
    let name = names::city_name(id);
    let ask = |command| create(&command, Some((id, &city)), HOST, &steward(), now());
    let secretariat = ask(asking(TenantKind::Secretariat, "A network", "")).unwrap();
    assert!(secretariat.city.is_none());
    assert_eq!(ask(asking(TenantKind::Secretariat, "A network", &name)).unwrap_err().rule, "PL-1");
    assert_eq!(ask(asking(TenantKind::Unspecified, "x", "")).unwrap_err().rule, "PL-1");
    assert!(ask(asking(TenantKind::Organizer, "", "")).is_err(), "an organizer needs a name");
    assert!(ask(asking(TenantKind::City, "x", "")).is_err());
    let command = asking(TenantKind::City, "x", &name);
    assert_eq!(create(&command, None, HOST, &steward(), now()).unwrap_err().class, ReasonClass::NotFound);
    let mayor = Caller { roles: vec![Role::Mayor], ..steward() };
    assert_eq!(create(&command, Some((id, &city)), HOST, &mayor, now()).unwrap_err().rule, "CT-10");
}

#[test]
fn pl_5_the_host_replaces_a_key_that_it_holds_and_the_id_stays() {
    let founding = create(&asking(TenantKind::Secretariat, "A network", ""), None, HOST, &steward(), now()).unwrap();
    let tenant = Tenant::fold(None, &founding.tenant[0].change, &stamp(1)).unwrap();
    let new = Host { public_key: &[8; 32], ..HOST };
    let emitted = rotate_key(&tenant, HOST.public_key, new, now()).unwrap();
    let rotated = Tenant::fold(Some(tenant.clone()), &emitted[0].change, &stamp(2)).unwrap();
    assert_eq!((rotated.key(), rotated.owner()), (Some([8; 32]), founding.id));
    let log = rotated.resource(&RecordName::new("tenants", RecordId(founding.id.0)), "").identity_log;
    assert_eq!((log.len(), log[1].sequence, log[1].act()), (2, 2, IdentityAct::Rotated));
    let stale = rotate_key(&rotated, HOST.public_key, new, now()).unwrap_err();
    assert_eq!(stale.class, ReasonClass::Stale, "another rotation came first");
    assert!(Tenant::fold(Some(rotated.clone()), &emitted[0].change, &stamp(3)).is_err(), "a key cannot be used twice");
    let mut full = rotated.clone();
    full.log = vec![rotated.log[1].clone(); IDENTITY_ENTRIES];
    assert_eq!(rotate_key(&full, &[8; 32], HOST, now()).unwrap_err().class, ReasonClass::Limit);
    let mut own = rotated;
    own.log[1].custody = KeyCustody::Tenant;
    assert_eq!(rotate_key(&own, &[8; 32], HOST, now()).unwrap_err().rule, "PL-5");
}
