//! Agreements follow the successor of a city that was merged or split (CT-11).

use super::*;
use hansa_proto::{
    register::{CityJoined, CityMerged},
    types::Tombstone,
};
use prost::{Message, Name};

const C: TenantId = TenantId(Uuid::from_u128(0xe));

async fn merged(house: &House, register: &mut Register, on: Date) {
    register.say(2, 3, &CityMerged { successor: city_name(3), effective_date: Some(on) }.into());
    crate::subscriptions::register::subscription(&house.journal).step(register).await.unwrap();
}

/// Runs the inheritance queue and returns the number of cities processed.
async fn follow(house: &House) -> usize {
    crate::inherit(&house.journal).step().await.unwrap()
}

async fn parties(house: &House, name: &str) -> [RecordId; 2] {
    let cities = house.load(name).await.cities();
    [cities.initiator, cities.partner]
}

#[tokio::test]
async fn ct_11_agreements_follow_and_the_successor_takes_them_over_when_it_joins() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 6, 1)).await;
    let kind = AgreementKind::Memorandum;
    let in_force = concluded(&house, kind, "").await;
    let proposed =
        house.rpcs.propose_agreement(by(A, Role::Mayor, "ProposeAgreement", proposal(kind, ""))).await.unwrap();
    let proposed = proposed.into_inner().name;
    let mut register = Register::of_three();
    merged(&house, &mut register, Date { year: 2024, month: 5, day: 1 }).await;
    assert_eq!((follow(&house).await, follow(&house).await), (1, 0));
    for name in [&in_force, &proposed] {
        assert_eq!(parties(&house, name).await, [city(1), city(3)]);
    }
    assert_eq!(house.types(&in_force).await.last().unwrap(), "PartySucceeded");
    house.journal.mark(crate::subscriptions::queues::INHERIT, [city(2).0]).await.unwrap();
    let before = house.types(&in_force).await;
    follow(&house).await;
    assert_eq!(house.types(&in_force).await, before, "once");

    let claim = || p::ClaimAgreementRequest { name: in_force.clone(), ..Default::default() };
    let stranger = house.rpcs.claim_agreement(by(C, Role::Mayor, "ClaimAgreement", claim())).await.unwrap_err();
    assert_eq!(stranger.code(), Code::NotFound);
    register.say(3, 2, &CityJoined { tenant: C.name() }.into());
    crate::subscriptions::register::subscription(&house.journal).step(&mut register).await.unwrap();
    house.rpcs.claim_agreement(by(C, Role::Mayor, "ClaimAgreement", claim())).await.unwrap();
    let taken = house.load(&in_force).await.tenants();
    assert_eq!((taken.initiator, taken.partner), (Some(A), Some(C)));
    house.rebuilt().await;
}

#[tokio::test]
async fn ct_11_a_succession_that_lies_ahead_comes_with_its_day() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 6, 1)).await;
    let name = concluded(&house, AgreementKind::Memorandum, "").await;
    merged(&house, &mut Register::of_three(), Date { year: 2024, month: 9, day: 1 }).await;
    let mut ending = crate::inherit_daily(&house.journal);
    assert_eq!((ending.step().await.unwrap(), follow(&house).await), (0, 1));
    assert_eq!(parties(&house, &name).await, [city(1), city(2)], "not yet");
    house.clock.set(day(2024, 9, 1));
    assert_eq!((ending.step().await.unwrap(), follow(&house).await), (1, 1));
    assert_eq!(parties(&house, &name).await, [city(1), city(3)]);
}

#[tokio::test]
async fn ct_11_nobody_follows_a_successor_that_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path(), day(2024, 6, 1)).await;
    let name = concluded(&house, AgreementKind::Memorandum, "").await;
    let mut register = Register::of_three();
    register.tell(city_name(3), 2, &Tombstone::full_name(), Tombstone::default().encode_to_vec());
    merged(&house, &mut register, Date { year: 2024, month: 5, day: 1 }).await;
    assert_eq!((follow(&house).await, follow(&house).await), (1, 0), "the city leaves the queue");
    assert_eq!(parties(&house, &name).await, [city(1), city(2)]);
}
