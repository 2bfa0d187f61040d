//! The formalities of a kind of agreement, from the node's defaults, a country's law or a city's own fact (AG-1).

use super::*;
use hansa_proto::register::{
    AgreementFormalitiesFact, CountryFactsImported, CountryRow, Fact, FactSet, country_change, country_row,
};
use hansa_register_domain::country;

fn law(code: &str, votes: &[AgreementKind]) -> country_change::Change {
    let fact = AgreementFormalitiesFact {
        year: 2020,
        council_vote_kinds: votes.iter().map(|kind| *kind as i32).collect(),
        ceremony_kinds: vec![AgreementKind::Memorandum as i32],
        source: "test".into(),
    };
    let row = CountryRow { country_code: code.into(), fact: Some(country_row::Fact::AgreementFormalities(fact)) };
    country_change::Change::FactsImported(CountryFactsImported { country_code: code.into(), rows: vec![row] })
}

fn own(value: &str) -> city_change::Change {
    let fact = Fact {
        key: "council_vote_kinds".into(),
        value: value.into(),
        source: "test".into(),
        as_of_date: Some(Date { year: 2023, month: 1, day: 1 }),
    };
    FactSet { fact: Some(fact) }.into()
}

/// Returns whether the initiator's council votes, whether the partner's does, and whether a ceremony is required.
async fn asked(house: &House, kind: AgreementKind) -> (bool, bool, bool) {
    let made = house.rpcs.propose_agreement(by(A, Role::Mayor, "ProposeAgreement", proposal(kind, ""))).await;
    let asked = made.unwrap().into_inner().requirements.unwrap();
    (asked.initiator_council_vote, asked.partner_council_vote, asked.ceremony)
}

#[tokio::test]
async fn ag_1_a_countrys_law_and_a_citys_own_fact_change_what_a_kind_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 6, 1)).await;
    let (memorandum, cooperation) = (AgreementKind::Memorandum, AgreementKind::Cooperation);
    assert_eq!(asked(&house, memorandum).await, (false, false, false), "the node's defaults");
    assert_eq!(asked(&house, cooperation).await, (true, true, false));
    let mut register = Register::of_three();
    let country = |code| RecordName::new("countries", country::id_of(code)).to_string();
    register.say_of(country("PT"), 1, &law("PT", &[memorandum]));
    register.say_of(country("FR"), 1, &law("FR", &[AgreementKind::Twinning]));
    register.say(1, 3, &own("memorandum"));
    crate::subscriptions::register::subscription(&house.journal).step(&mut register).await.unwrap();
    assert_eq!(asked(&house, memorandum).await, (true, true, true), "the city's own fact, and the country's law");
    assert_eq!(asked(&house, cooperation).await, (false, false, false));
    register.say(1, 4, &own("none"));
    crate::subscriptions::register::subscription(&house.journal).step(&mut register).await.unwrap();
    assert_eq!(asked(&house, memorandum).await, (false, true, true), "an empty list also overrides the default");
}
