//! Tests of the rules of countries (CT-3, AG-1).
#![allow(clippy::unwrap_used)]

use super::*;
use crate::reference::CountryReference;
use hansa_kernel::{AssuranceLevel, PersonId, Reference, Role};
use uuid::Uuid;

fn steward() -> Caller {
    let (tenant, person) = (TenantId(Uuid::from_u128(1)), PersonId(Uuid::from_u128(9)));
    Caller { tenant, person, roles: vec![Role::Steward], scopes: vec!["*".into()] }
}

fn regime(year: i32, class: RegimeClass, source: &str) -> CountryRow {
    let (scheme, regime_class) = (RegimeScheme::Row as i32, class as i32);
    let regime = RegimeFact { scheme, year, regime_class, value: "2".into(), source: source.into() };
    CountryRow { country_code: "FR".into(), fact: Some(Fact::Regime(regime)) }
}

fn fold(before: Option<Country>, decision: Decision<Change>) -> Country {
    let caller = steward();
    let stamp = Stamp {
        version: 1,
        at: chrono::DateTime::UNIX_EPOCH,
        actor: caller.actor(None),
        party: None,
        level: AssuranceLevel::Host,
    };
    let changes = decision.unwrap();
    assert_eq!(changes.len(), 1);
    Country::fold(before, &changes[0].change, &stamp).unwrap()
}

fn year(year: i32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, 6, 1).unwrap()
}

#[test]
fn ct_3_democratic_is_the_class_of_the_latest_year_not_after_the_date() {
    let rows = [
        regime(1990, RegimeClass::ElectoralAutocracy, "ROW"),
        regime(2000, RegimeClass::ElectoralDemocracy, "ROW"),
        regime(2020, RegimeClass::ClosedAutocracy, "ROW"),
    ];
    let country = fold(None, import(None, "FR", &rows, &steward()));
    let asked = [1989, 1990, 1999, 2000, 2019, 2020, 2100].map(|y| country.democratic_at(year(y)));
    assert_eq!(asked, [None, Some(false), Some(false), Some(true), Some(true), Some(false), Some(false)]);

    let change = import(None, "FR", &rows, &steward()).unwrap().remove(0).change;
    let stamp = Stamp {
        version: 1,
        at: chrono::DateTime::UNIX_EPOCH,
        actor: steward().actor(None),
        party: None,
        level: AssuranceLevel::Host,
    };
    let reference = CountryReference::fold(None, &change, &stamp).unwrap();
    assert_eq!([1989, 1990, 1999, 2000, 2019, 2020, 2100].map(|y| reference.democratic_at(year(y))), asked);
}

#[test]
fn ct_3_known_facts_change_nothing_and_a_correction_is_a_change_of_its_own() {
    let rows =
        [regime(2000, RegimeClass::ElectoralDemocracy, "ROW"), regime(2001, RegimeClass::LiberalDemocracy, "ROW")];
    let country = fold(None, import(None, "FR", &rows, &steward()));
    assert_eq!(import(Some(&country), "FR", &rows, &steward()), Ok(vec![]));
    let newer = [rows[0].clone(), regime(2001, RegimeClass::ElectoralDemocracy, "ROW v15")];
    let decision = import(Some(&country), "FR", &newer, &steward());
    let Change::FactsImported(change) = &decision.as_ref().unwrap()[0].change;
    assert_eq!(change.rows.len(), 1);
    let country = fold(Some(country), decision);
    let resource = country.resource(&RecordName::new(Country::COLLECTION, id_of("FR")), "");
    assert_eq!(resource.regimes.iter().map(|r| r.source.as_str()).collect::<Vec<_>>(), ["ROW", "ROW v15"]);
    let bytes = postcard::to_stdvec(&country).unwrap();
    assert_eq!(postcard::from_bytes::<Country>(&bytes).unwrap(), country);
}

#[test]
fn ct_3_a_fact_without_source_year_or_fitting_class_is_refused() {
    for bad in [
        regime(2000, RegimeClass::ElectoralDemocracy, ""),
        regime(20, RegimeClass::ElectoralDemocracy, "ROW"),
        regime(2000, RegimeClass::Free, "ROW"),
        CountryRow { country_code: "DE".into(), ..regime(2000, RegimeClass::ElectoralDemocracy, "ROW") },
        CountryRow { country_code: "FR".into(), fact: None },
    ] {
        let refusal = import(None, "FR", &[bad], &steward()).unwrap_err();
        assert_eq!(refusal.rule, "CT-3");
        assert!(refusal.message.starts_with("row 0"));
    }
    let observer = Caller { roles: vec![Role::Observer], ..steward() };
    assert_eq!(import(None, "FR", &[], &observer).unwrap_err().rule, "CT-10");
}

#[test]
fn rows_are_gathered_by_country_in_order() {
    let of = |code: &str| CountryRow { country_code: code.into(), fact: None };
    let all = by_country(vec![of("FR"), of("DE"), of("FR")]);
    assert_eq!(all.iter().map(|(code, rows)| (code.as_str(), rows.len())).collect::<Vec<_>>(), [("FR", 2), ("DE", 1)]);
}

// AG-1.
#[test]
fn ct_3_what_a_law_asks_before_an_agreement_is_kept_by_year_and_names_known_kinds() {
    let row = |year, votes: &[i32]| {
        let council_vote_kinds = votes.to_vec();
        let fact = AgreementFormalitiesFact { year, council_vote_kinds, source: "test".into(), ..Default::default() };
        CountryRow { country_code: "FR".into(), fact: Some(Fact::AgreementFormalities(fact)) }
    };
    for bad in [row(2020, &[9]), row(2020, &[0]), row(2020, &[3, 3]), row(1, &[])] {
        assert_eq!(import(None, "FR", &[bad], &steward()).unwrap_err().rule, "CT-3");
    }
    let country = fold(None, import(None, "FR", &[row(2010, &[]), row(2020, &[3])], &steward()));
    assert_eq!(country.resource(&RecordName::new("countries", id_of("FR")), "").agreement_formalities.len(), 2);
    assert!(import(Some(&country), "FR", &[row(2020, &[3])], &steward()).unwrap().is_empty());
}
