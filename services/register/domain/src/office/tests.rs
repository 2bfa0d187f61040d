//! Rules of offices (CT-5).
#![allow(clippy::unwrap_used)]

use super::*;
use crate::reference::OfficeReference;
use hansa_kernel::{AssuranceLevel, PersonId, Record, Reference, Relation, Role, Stamp, TenantId};
use uuid::Uuid;

fn caller(tenant: u128) -> Caller {
    let (tenant, person) = (TenantId(Uuid::from_u128(tenant)), PersonId(Uuid::from_u128(9)));
    Caller { tenant, person, roles: vec![Role::IrOfficer], scopes: vec!["*".into()] }
}

fn city(joined: bool) -> (RecordId, City) {
    let mut city = City::blank(TenantId(Uuid::from_u128(1)));
    city.tenant = joined.then(|| (caller(2).tenant, chrono::NaiveDate::MIN));
    (RecordId::from_source("geonames", "1"), city)
}

fn asking(office: proto::Office, paths: &[&str]) -> UpdateOfficeRequest {
    let id = city(true).0;
    let name = RecordName::new(Offices::COLLECTION, id_of(id)).to_string();
    let office = proto::Office { name, city: names::city_name(id), ..office };
    let paths = paths.iter().map(ToString::to_string).collect();
    UpdateOfficeRequest { office: Some(office), update_mask: Some(FieldMask { paths }), ..Default::default() }
}

fn office() -> proto::Office {
    proto::Office {
        existence: OfficeExistence::Exists as i32,
        seat: OfficeSeat::MayorsCabinet as i32,
        staff_count: Some(4),
        languages: vec!["fr".into(), "pt-BR".into()],
        ..Default::default()
    }
}

#[test]
fn ct_5_an_office_is_written_by_its_city_alone_once_it_has_joined() {
    let (id, joined) = city(true);
    let command = asking(office(), &["*"]);
    let changes = update(None, (id, &joined), &command, &caller(2)).unwrap();
    let stamp = Stamp {
        version: 1,
        at: chrono::DateTime::UNIX_EPOCH,
        actor: caller(2).actor(None),
        party: Some(caller(2).tenant),
        level: AssuranceLevel::Host,
    };
    let written = Office::fold(None, &changes[0].change, &stamp).unwrap();
    assert_eq!((written.owner(), written.get().city.clone()), (caller(2).tenant, names::city_name(id)));
    assert_eq!(written.relation(&caller(3)), Relation::Stranger);
    assert_eq!(update(Some(&written), (id, &joined), &command, &caller(2)), Ok(vec![]));
    let bytes = postcard::to_stdvec(&written).unwrap();
    assert_eq!(postcard::from_bytes::<Office>(&bytes).unwrap(), written);
    let reference = OfficeReference::fold(None, &changes[0].change, &stamp).unwrap();
    assert_eq!((reference.exists, reference.staff_count, reference.languages.len()), (Some(true), Some(4), 2));

    assert_eq!(update(None, (id, &joined), &command, &caller(3)).unwrap_err().rule, "PL-1");
    assert_eq!(update(None, (id, &city(false).1), &command, &caller(1)).unwrap_err().rule, "CT-5");
}

#[test]
fn ct_5_what_does_not_fit_is_refused() {
    let (id, joined) = city(true);
    let ask = |office, paths: &[&str]| update(None, (id, &joined), &asking(office, paths), &caller(2));
    let none = proto::Office { existence: OfficeExistence::None as i32, ..office() };
    assert_eq!(ask(none.clone(), &["*"]).unwrap_err().rule, "CT-5");
    assert!(ask(none, &["existence"]).is_ok());
    assert!(ask(proto::Office { staff_count: Some(-1), ..office() }, &["staff_count"]).is_err());
    assert!(ask(proto::Office { languages: vec!["fr".into(); 2], ..office() }, &["languages"]).is_err());
    assert!(ask(proto::Office { seat: 99, ..office() }, &["seat"]).is_err());
    assert!(ask(office(), &["budget"]).unwrap_err().help.contains("seat"));
    assert!(ask(office(), &[]).is_err());
}
