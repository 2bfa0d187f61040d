//! Tests of the rules of cities (CT-1, CT-2, CT-4, CT-10, CT-11, CT-13, PL-4, PL-8).
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{fact, succession, term};
use chrono::{DateTime, NaiveDate};
use hansa_kernel::{AssuranceLevel, PersonId, Record, RecordName, Role, Stamp};
use hansa_proto::register::{
    CityRow, CityTier, EndMayorTermRequest, Fact as FactMessage, GlobalDesignation, Identifier, MayorTerm,
    MergeCitiesRequest, RecordMayorTermRequest, RetractCityRequest, SetFactRequest, SourceRegister, SplitCityRequest,
    SuccessionKind, TermEndReason,
};
use hansa_proto::types::LocalizedText;
use hansa_proto::types::RowOutcome;
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) fn caller(tenant: u128, role: Role) -> Caller {
    let person = PersonId(Uuid::from_u128(9));
    Caller { tenant: TenantId(Uuid::from_u128(tenant)), person, roles: vec![role], scopes: vec!["*".into()] }
}

pub(super) fn steward() -> Caller {
    caller(1, Role::Steward)
}

pub(super) fn mayor() -> Caller {
    caller(2, Role::Mayor)
}

pub(super) fn ymd(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

pub(super) fn on(year: i32, month: u32, day: u32) -> Option<hansa_proto::google::r#type::Date> {
    Some(time::date(ymd(year, month, day)))
}

pub(super) fn now() -> Moment {
    Moment::at(DateTime::from_timestamp(1_750_000_000, 0).unwrap())
}

pub(super) fn id(key: &str) -> RecordId {
    RecordId::from_source("geonames", key)
}

pub(super) fn row(key: &str, name: &str) -> CityRow {
    CityRow {
        source_register: SourceRegister::Geonames as i32,
        source_key: key.into(),
        display_name: name.into(),
        country_code: "FR".into(),
        subdivision_code: "84".into(),
        tier: CityTier::Municipality as i32,
        population: Some(500_000),
        location: Some(fields::degrees((4_574_846, 484_671))),
        time_zone: "Europe/Paris".into(),
    }
}

/// A city under test, with its full history.
#[derive(Clone, Default)]
pub(super) struct Run {
    pub(super) state: Option<City>,
    pub(super) history: Vec<(Change, Stamp)>,
}

impl Run {
    pub(super) fn imported(key: &str, name: &str) -> Self {
        let mut run = Self::default();
        let decision = import(None, &row(key, name), "GeoNames", &steward(), now());
        run.take(decision, &steward()).unwrap();
        run
    }

    pub(super) fn city(&self) -> &City {
        self.state.as_ref().unwrap()
    }

    pub(super) fn take(&mut self, decision: Decision<Change>, by: &Caller) -> Result<usize, Refusal> {
        let changes = decision?;
        let many = changes.len();
        for emitted in changes {
            let stamp = Stamp {
                version: self.history.len() as u64 + 1,
                at: now().now,
                actor: by.actor(None),
                party: None,
                level: AssuranceLevel::Host,
            };
            self.state = Some(City::fold(self.state.take(), &emitted.change, &stamp).unwrap());
            self.history.push((emitted.change, stamp));
        }
        Ok(many)
    }

    pub(super) fn joined(mut self) -> Self {
        let decision = join(self.city(), mayor().tenant, &steward(), now());
        self.take(decision, &steward()).unwrap();
        self
    }

    pub(super) fn replayed(&self) -> Option<City> {
        self.history.iter().fold(None, |state, (change, stamp)| Some(City::fold(state, change, stamp).unwrap()))
    }
}

pub(super) fn renaming(name: &str, date: Option<hansa_proto::google::r#type::Date>) -> RenameCityRequest {
    RenameCityRequest { display_name: name.into(), effective_date: date, ..Default::default() }
}

pub(super) fn updating(city: proto::City, paths: &[&str]) -> UpdateCityRequest {
    let paths = paths.iter().map(ToString::to_string).collect();
    UpdateCityRequest { city: Some(city), update_mask: Some(FieldMask { paths }), ..Default::default() }
}

#[test]
fn every_field_that_can_be_written_is_one_of_the_contract_and_has_a_bit_of_its_own() {
    let run = Run::imported("1", "Lyon");
    let shown = run.city().resource(&RecordName::new("cities", id("1")), "");
    for field in fields::WRITABLE {
        run.city().clone().apply(field, &shown).unwrap();
        assert!(proto::City::default().copy_field(field, &shown), "{field}");
    }
    let bits = fields::WRITABLE.iter().fold(fields::NAME, |bits, field| bits | fields::bit(field));
    assert_eq!(bits.count_ones() as usize, fields::WRITABLE.len() + 1);
    assert!(run.city().clone().apply("display_name", &shown).is_err());
}

#[test]
fn pl_8_a_city_that_was_an_error_is_deleted_and_no_other() {
    let reason = vec![LocalizedText { language_code: "en".into(), text: "Twice".into(), ..Default::default() }];
    let command = RetractCityRequest { reason: reason.clone(), ..Default::default() };
    let run = Run::imported("1", "Lyon");
    assert_eq!(delete(run.city(), &command, &steward()).unwrap().reason, reason);
    assert_eq!(delete(run.city(), &command, &mayor()).unwrap_err().rule, "CT-10");
    assert_eq!(delete(run.city(), &RetractCityRequest::default(), &steward()).unwrap_err().rule, "PL-8");
    let metropolis = City { constituents: vec![id("2")], ..run.city().clone() };
    assert_eq!(delete(&metropolis, &command, &steward()).unwrap_err().rule, "CT-2");
    let joined = run.clone().joined();
    assert_eq!(delete(joined.city(), &command, &mayor()).unwrap_err().rule, "CT-10");

    let cities = BTreeMap::from([(id("2"), Run::imported("2", "Vaise").state.unwrap())]);
    let merging = MergeCitiesRequest {
        successor: names::city_name(id("1")),
        predecessors: vec![names::city_name(id("2"))],
        effective_date: on(2025, 1, 1),
        ..Default::default()
    };
    let part = succession::part(succession::merge((id("1"), run.city()), &cities, &merging, &steward()), id("2"));
    let mut ended = Run::imported("2", "Vaise");
    ended.take(part, &steward()).unwrap();
    assert_eq!(delete(ended.city(), &command, &steward()).unwrap_err().rule, "CT-11");
}

#[test]
fn ct_10_a_city_is_changed_by_its_steward_until_it_joins_and_by_itself_from_then_on() {
    let mut run = Run::imported("1", "Lyon");
    let command = renaming("Lyons", None);
    for stranger in [mayor(), caller(3, Role::Steward), caller(1, Role::Observer)] {
        let refusal = rename(run.city(), &command, &stranger, now()).unwrap_err();
        assert_eq!((refusal.rule, refusal.class), ("CT-10", ReasonClass::NotPermitted));
        assert!(!refusal.missing.is_empty() && !refusal.help.is_empty());
    }
    let decision = rename(run.city(), &command, &steward(), now());
    assert_eq!(run.take(decision, &steward()), Ok(1));

    let run = run.joined();
    assert_eq!(run.city().owner(), mayor().tenant);
    assert_eq!(run.city().former_names.len(), 1, "the tenant takes over the history");
    assert_eq!(rename(run.city(), &renaming("Lyon", None), &steward(), now()).unwrap_err().rule, "CT-10");
    assert!(
        rename(run.city(), &RenameCityRequest { correction: true, ..renaming("Lyon", None) }, &mayor(), now()).is_ok()
    );
    assert_eq!(join(run.city(), mayor().tenant, &steward(), now()), Ok(vec![]));
    let again = join(run.city(), steward().tenant, &steward(), now()).unwrap_err();
    assert_eq!((again.rule, again.class), ("CT-10", ReasonClass::AlreadyExists));
    assert!(run.city().audience().public);
}

#[test]
fn ct_10_an_import_twice_changes_nothing_and_never_what_was_written_by_hand() {
    let mut run = Run::imported("1", "Lyon");
    let again = |run: &Run, row: &CityRow| import(run.state.as_ref(), row, "GeoNames later", &steward(), now());
    assert_eq!(again(&run, &row("1", "Lyon")), Ok(vec![]));
    assert_eq!(outcome(run.state.as_ref(), false, now()), RowOutcome::Unchanged);

    let decision = rename(run.city(), &renaming("Lugdunum", None), &steward(), now());
    run.take(decision, &steward()).unwrap();
    assert_eq!(again(&run, &row("1", "Lyon")), Ok(vec![]), "an import does not overwrite the new name");

    let decision =
        again(&run, &CityRow { population: Some(520_000), subdivision_code: String::new(), ..row("1", "Lyon") });
    assert!(decision.as_ref().is_ok_and(|changes| !changes.is_empty()));
    assert_eq!(outcome(run.state.as_ref(), true, now()), RowOutcome::Updated);
    run.take(decision, &steward()).unwrap();
    assert_eq!(
        (run.city().population, run.city().subdivision_code.as_str(), run.city().display_name()),
        (Some(520_000), "84", "Lugdunum")
    );

    let run = run.joined();
    let decision = again(&run, &CityRow { population: Some(1), ..row("1", "Lyon") });
    assert_eq!(decision, Ok(vec![]));
    assert_eq!(outcome(run.state.as_ref(), false, now()), RowOutcome::Skipped);
    assert_eq!(import(None, &row("2", "X"), "s", &mayor(), now()).unwrap_err().rule, "CT-10");
}

// PL-4.
#[test]
fn pl_4_a_bad_row_is_refused_with_its_field() {
    let bad = |change: fn(&mut CityRow)| {
        let mut row = row("1", "Lyon");
        change(&mut row);
        import(None, &row, "GeoNames", &steward(), now()).unwrap_err()
    };
    assert_eq!(bad(|r| r.country_code = "FRA".into()).class, ReasonClass::InvalidField);
    assert!(bad(|r| r.display_name.clear()).message.contains("display_name"));
    assert!(bad(|r| r.source_register = 7).message.contains("source_register"));
    assert!(bad(|r| r.population = Some(-1)).message.contains("population"));
    assert_eq!(bad(|r| r.tier = 0).rule, "CT-2");
    assert!(bad(|r| r.location = Some(fields::degrees((9_000_001, 0)))).message.contains("location"));
}

#[test]
fn ct_10_an_imported_city_is_small() {
    let run = Run::imported("2996944", "Lyon");
    let state = postcard::to_stdvec(run.city()).unwrap();
    assert!(state.len() < 120, "{} bytes", state.len());
}

#[test]
fn ct_11_a_renamed_city_answers_by_the_name_of_the_day() {
    let mut run = Run::imported("1", "Saint Petersburg");
    for (name, day) in
        [("Petrograd", on(1914, 9, 1)), ("Leningrad", on(1924, 1, 26)), ("Saint Petersburg", on(1991, 9, 6))]
    {
        let decision = rename(run.city(), &renaming(name, day), &steward(), now());
        run.take(decision, &steward()).unwrap();
    }
    let name = |day| run.city().as_of(day).unwrap().display_name().to_owned();
    assert_eq!(name(ymd(1900, 1, 1)), "Saint Petersburg");
    assert_eq!(name(ymd(1914, 9, 1)), "Petrograd");
    assert_eq!(name(ymd(1991, 9, 5)), "Leningrad");
    assert_eq!(run.city().as_of(ymd(1920, 1, 1)).unwrap().former_names.len(), 1);
    let early = rename(run.city(), &renaming("X", on(1980, 1, 1)), &steward(), now()).unwrap_err();
    assert_eq!((early.rule, early.class), ("CT-11", ReasonClass::OutOfOrder));
    assert_eq!(rename(run.city(), &renaming("X", on(2040, 1, 1)), &steward(), now()).unwrap_err().rule, "CT-11");
    assert_eq!(rename(run.city(), &renaming("Saint Petersburg", None), &steward(), now()), Ok(vec![]));
}

#[test]
fn ct_11_merged_cities_end_and_their_records_follow_the_successor() {
    let cities: BTreeMap<_, _> = ["a", "b"].map(|key| (id(key), Run::imported(key, key).city().clone())).into();
    let into = Run::imported("c", "c");
    let names = cities.keys().map(|id| names::city_name(*id)).collect();
    let command = MergeCitiesRequest { predecessors: names, effective_date: on(2024, 1, 1), ..Default::default() };
    let all = succession::merge((id("c"), into.city()), &cities, &command, &steward()).unwrap();
    assert_eq!(all.len(), 3);

    let after = follow(&cities, &into, all.clone());
    let ended = &after[&id("a")];
    assert_eq!(ended.ended(ymd(2024, 1, 1)).unwrap().heir, Some(id("c")));
    assert!(ended.ended(ymd(2023, 12, 31)).is_none());
    assert!(ended.as_of(ymd(2023, 12, 31)).unwrap().successions.is_empty());
    let refusal = rename(ended, &renaming("z", None), &steward(), now()).unwrap_err();
    assert_eq!(refusal.rule, "CT-11");
    assert!(refusal.help.contains(&names::city_name(id("c"))));
    assert_eq!(import(Some(ended), &row("a", "z"), "s", &steward(), now()), Ok(vec![]));

    let again = succession::merge((id("c"), &after[&id("c")]), &after, &command, &steward()).unwrap();
    assert!(again.iter().all(|(_, changes)| changes.is_empty()), "the same merger again changes nothing");
    let back = MergeCitiesRequest { predecessors: vec![names::city_name(id("c"))], ..command.clone() };
    assert_eq!(succession::merge((id("a"), ended), &after, &back, &steward()).unwrap_err().rule, "CT-11");
    let own = MergeCitiesRequest { predecessors: vec![names::city_name(id("c"))], ..command.clone() };
    assert_eq!(succession::merge((id("c"), &after[&id("c")]), &after, &own, &steward()).unwrap_err().rule, "CT-11");
    let refusal = succession::merge((id("c"), into.city()), &cities, &command, &mayor()).unwrap_err();
    assert_eq!((refusal.rule, refusal.missing.len()), ("CT-10", 2));
}

pub(super) fn follow(
    cities: &BTreeMap<RecordId, City>,
    into: &Run,
    all: Vec<(RecordId, Vec<Emitted<Change>>)>,
) -> BTreeMap<RecordId, City> {
    let mut out = cities.clone();
    out.insert(id("c"), into.city().clone());
    for (of, changes) in all {
        let mut run = Run { state: out.remove(&of), history: into.history.clone() };
        run.take(Ok(changes), &steward()).unwrap();
        out.insert(of, run.city().clone());
    }
    out
}

#[test]
fn ct_11_a_split_city_ends_where_it_has_an_heir_and_goes_on_where_not() {
    let city = Run::imported("c", "c");
    let parts: BTreeMap<_, _> = ["a", "b"].map(|key| (id(key), Run::imported(key, key).city().clone())).into();
    let successors: Vec<_> = parts.keys().map(|id| names::city_name(*id)).collect();
    let ends = SplitCityRequest {
        successors: successors.clone(),
        continuing_city: successors[0].clone(),
        effective_date: on(2020, 1, 1),
        ..Default::default()
    };
    let split = |command: &SplitCityRequest| succession::split((id("c"), city.city()), &parts, command, &steward());
    let mut run = city.clone();
    let all = split(&ends).unwrap();
    assert_eq!(all.len(), 3);
    run.take(Ok(all[0].1.clone()), &steward()).unwrap();
    assert_eq!(run.city().ended(ymd(2020, 1, 1)).unwrap().kind, SuccessionKind::SplitInto);
    let rest = succession::split((id("c"), run.city()), &parts, &ends, &steward()).unwrap();
    assert_eq!(rest.len(), 2, "the same split again completes the remaining cities");

    let goes_on =
        SplitCityRequest { continuing_city: String::new(), successors: successors[..1].to_vec(), ..ends.clone() };
    let mut run = city.clone();
    run.take(Ok(split(&goes_on).unwrap()[0].1.clone()), &steward()).unwrap();
    assert!(run.city().ended(ymd(2025, 1, 1)).is_none());
    assert_eq!(run.city().successions[0].kind, SuccessionKind::GaveOff);

    for bad in [
        SplitCityRequest { successors: successors[..1].to_vec(), ..ends.clone() },
        SplitCityRequest { continuing_city: names::city_name(id("x")), ..ends.clone() },
        SplitCityRequest { successors: vec![names::city_name(id("x"))], ..goes_on.clone() },
        SplitCityRequest { successors: vec![names::city_name(id("c"))], ..goes_on },
    ] {
        assert_eq!(split(&bad).unwrap_err().rule, "CT-11");
    }
}

#[test]
fn ct_11_before_it_was_founded_there_was_no_such_city() {
    let mut run = Run::imported("1", "Brasília");
    let city = proto::City { founding_date: on(1960, 4, 21), ..Default::default() };
    let decision =
        update(run.city(), id("1"), &updating(city, &["founding_date"]), &KnownCities::new(), &steward(), now());
    run.take(decision, &steward()).unwrap();
    assert!(run.city().as_of(ymd(1960, 4, 20)).is_none() && run.city().as_of(ymd(1960, 4, 21)).is_some());
}

#[test]
fn ct_4_a_new_term_ends_the_one_before_and_a_lost_mandate_ends_it_at_once() {
    let mut run = Run::imported("1", "Lyon").joined();
    let term = |start| MayorTerm {
        start_date: start,
        person_name: vec![LocalizedText { seal: vec![1; 32], ..Default::default() }],
        ..Default::default()
    };
    let recording = |start| RecordMayorTermRequest {
        term: Some(term(start)),
        next_election_date: on(2026, 3, 15),
        ..Default::default()
    };
    for start in [on(2014, 4, 4), on(2020, 7, 4)] {
        let decision = term::record(run.city(), &recording(start), &mayor(), now());
        assert_eq!(run.take(decision, &mayor()), Ok(1));
    }
    assert_eq!(term::record(run.city(), &recording(on(2020, 7, 4)), &mayor(), now()), Ok(vec![]));
    assert_eq!(run.city().terms[0].end, Some(ymd(2020, 7, 4)));
    assert_eq!(run.city().term_on(ymd(2019, 1, 1)).unwrap().start, ymd(2014, 4, 4));
    assert_eq!(run.city().next_election, Some(ymd(2026, 3, 15)));
    let old = term::record(run.city(), &recording(on(2001, 1, 1)), &mayor(), now()).unwrap_err();
    assert_eq!((old.rule, old.class), ("CT-4", ReasonClass::OutOfOrder));

    let lost = EndMayorTermRequest {
        end_reason: TermEndReason::MandateLost as i32,
        end_date: on(2025, 5, 1),
        ..Default::default()
    };
    let decision = term::end(run.city(), &lost, &mayor(), now());
    assert_eq!(run.take(decision, &mayor()), Ok(1));
    assert_eq!(term::end(run.city(), &lost, &mayor(), now()), Ok(vec![]));
    assert!(run.city().term_on(ymd(2025, 5, 2)).is_none());
    let fixed = term::record(run.city(), &recording(on(2020, 7, 4)), &mayor(), now());
    assert_eq!(fixed, Ok(vec![]), "a correction without an end keeps the recorded end");
    let again = EndMayorTermRequest { end_date: on(2025, 6, 1), ..lost.clone() };
    assert_eq!(term::end(run.city(), &again, &mayor(), now()).unwrap_err().rule, "CT-4");
    assert!(term::end(run.city(), &EndMayorTermRequest { end_reason: 0, ..lost }, &mayor(), now()).is_err());
}

#[test]
fn ct_13_facts_are_dated_and_sourced_and_unknown_is_never_a_no() {
    let mut run = Run::imported("1", "Lyon");
    let of = |value: &str, date| SetFactRequest {
        fact: Some(FactMessage { key: "port".into(), value: value.into(), source: "statute".into(), as_of_date: date }),
        ..Default::default()
    };
    for (value, date) in [("no", on(2000, 1, 1)), ("yes", on(2010, 1, 1)), ("", on(2020, 1, 1))] {
        let decision = fact::set(run.city(), &of(value, date), &steward(), now());
        assert_eq!(run.take(decision, &steward()), Ok(1));
    }
    assert_eq!(fact::set(run.city(), &of("yes", on(2010, 1, 1)), &steward(), now()), Ok(vec![]));
    let value = |day| run.city().fact("port", day).map(|fact| fact.value.as_str());
    assert_eq!(
        [ymd(1999, 1, 1), ymd(2005, 1, 1), ymd(2015, 1, 1), ymd(2021, 1, 1)].map(value),
        [None, Some("no"), Some("yes"), None]
    );
    let mut unsourced = of("yes", on(2010, 1, 1));
    unsourced.fact.as_mut().unwrap().source.clear();
    assert_eq!(fact::set(run.city(), &unsourced, &steward(), now()).unwrap_err().rule, "CT-13");
    assert_eq!(fact::set(run.city(), &of("yes", on(2050, 1, 1)), &steward(), now()).unwrap_err().rule, "CT-13");
}

#[test]
fn ct_2_entries_and_updates_keep_tiers_in_place() {
    let city = |tier: CityTier| proto::City {
        display_name: "Mitte".into(),
        country_code: "DE".into(),
        tier: tier as i32,
        identifiers: vec![Identifier { scheme: IdentifierScheme::Geonames as i32, value: "7".into() }],
        ..Default::default()
    };
    let entering = |tier| CreateCityRequest { city: Some(city(tier)), ..Default::default() };
    let none = KnownCities::new();
    assert_eq!(id_of(&city(CityTier::Municipality), id("x")), id("7"));
    assert_eq!(create(None, id("7"), &entering(CityTier::SubMunicipal), &none, &steward()).unwrap_err().rule, "CT-2");
    let mut run = Run::default();
    let decision = create(None, id("7"), &entering(CityTier::Municipality), &none, &steward());
    run.take(decision, &steward()).unwrap();
    let exists = create(run.state.as_ref(), id("7"), &entering(CityTier::Municipality), &none, &steward());
    assert_eq!(exists.unwrap_err().class, ReasonClass::AlreadyExists);

    let command = updating(city(CityTier::SubMunicipal), &["tier"]);
    assert_eq!(update(run.city(), id("7"), &command, &none, &steward(), now()).unwrap_err().rule, "CT-2");
    let command = updating(city(CityTier::Municipality), &["*"]);
    assert_eq!(update(run.city(), id("7"), &command, &none, &steward(), now()), Ok(vec![]));
    let command = updating(city(CityTier::Municipality), &["display_name"]);
    assert!(
        update(run.city(), id("7"), &command, &none, &steward(), now()).unwrap_err().help.contains("their own rpcs")
    );
}

#[test]
fn ct_1_a_designation_falls_with_its_population() {
    let mut run = Run::imported("1", "Lyon");
    let date = on(2024, 1, 1);
    let global = GlobalDesignation { grounds: vec![1], source: "study".into(), designation_date: date };
    let city = proto::City { global_designation: Some(global), population: Some(2_000_000), ..Default::default() };
    let none = KnownCities::new();
    let alone = updating(city.clone(), &["global_designation"]);
    assert_eq!(update(run.city(), id("1"), &alone, &none, &steward(), now()).unwrap_err().rule, "CT-1");
    let both = updating(city, &["global_designation", "population"]);
    let decision = update(run.city(), id("1"), &both, &none, &steward(), now());
    run.take(decision, &steward()).unwrap();
    let resource = run.city().resource(&RecordName::new(City::COLLECTION, id("1")), "head");
    assert_eq!(resource.size_class(), proto::SizeClass::Large);
    let less = updating(proto::City { population: Some(10), ..Default::default() }, &["population"]);
    assert_eq!(update(run.city(), id("1"), &less, &none, &steward(), now()).unwrap_err().rule, "CT-1");
}

#[test]
fn a_change_that_cannot_follow_is_a_misfit() {
    let run = Run::imported("1", "Lyon").joined();
    let (_, stamp) = run.history[1].clone();
    let joined: Change = CityJoined { tenant: mayor().tenant.name() }.into();
    assert!(City::fold(None, &joined, &stamp).is_err());
    assert!(City::fold(run.state.clone(), &joined, &stamp).is_err());
    let created: Change = CityCreated::default().into();
    assert!(City::fold(run.state, &created, &stamp).is_err());
}
