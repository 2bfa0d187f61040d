//! Property tests of cities: random commands by the steward and the mayor (CT-4, CT-10, CT-11, CT-13).
#![allow(clippy::unwrap_used)]

use super::{tests::*, *};
use crate::{fact, reference::CityReference, succession, term};
use chrono::Days;
use hansa_kernel::Reference;
use hansa_proto::register::{
    CityRow, EndMayorTermRequest, Fact as FactMessage, MayorTerm, MergeCitiesRequest, RecordMayorTermRequest,
    SetFactRequest,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
#[derive(Clone, Debug)]
enum Command {
    Import(u8, i32),
    Rename(u8, i64, bool),
    Populate(i32),
    Tier(i32),
    Term(i64),
    End(i32, i64),
    Fact(u8, u8, i64),
    Join,
    Merge(i64),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (0..3u8, 0..3i32).prop_map(|(name, people)| Command::Import(name, people)),
        (0..4u8, -20..20i64, any::<bool>()).prop_map(|(name, day, fix)| Command::Rename(name, day, fix)),
        (-1..4i32).prop_map(Command::Populate),
        (0..6i32).prop_map(Command::Tier),
        (-20..20i64).prop_map(Command::Term),
        (0..5i32, -20..20i64).prop_map(|(why, day)| Command::End(why, day)),
        (0..3u8, 0..3u8, -20..5i64).prop_map(|(key, value, day)| Command::Fact(key, value, day)),
        Just(Command::Join),
        (-3..3i64).prop_map(Command::Merge),
    ]
}

fn day(offset: i64) -> Option<hansa_proto::google::r#type::Date> {
    let today = now().today();
    let days = Days::new(offset.unsigned_abs() * 30);
    Some(time::date(if offset < 0 { today - days } else { today + days }))
}

fn decide(city: &City, command: &Command, by: &Caller) -> Decision<Change> {
    match command {
        Command::Import(name, population) => {
            let row = CityRow { population: Some(*population), ..row("1", &format!("n{name}")) };
            import(Some(city), &row, "GeoNames", by, now())
        }
        Command::Rename(name, on, correction) => {
            let command = renaming(&format!("n{name}"), day(*on));
            rename(city, &RenameCityRequest { correction: *correction, ..command }, by, now())
        }
        Command::Populate(population) => {
            let to = proto::City { population: Some(*population), ..Default::default() };
            update(city, id("1"), &updating(to, &["population"]), &KnownCities::new(), by, now())
        }
        Command::Tier(tier) => {
            let to = proto::City { tier: *tier, ..Default::default() };
            update(city, id("1"), &updating(to, &["tier"]), &KnownCities::new(), by, now())
        }
        Command::Term(start) => {
            let term = Some(MayorTerm { start_date: day(*start), ..Default::default() });
            term::record(city, &RecordMayorTermRequest { term, ..Default::default() }, by, now())
        }
        Command::End(why, on) => term::end(
            city,
            &EndMayorTermRequest { end_reason: *why, end_date: day(*on), ..Default::default() },
            by,
            now(),
        ),
        Command::Fact(key, value, on) => {
            let (key, value) = (format!("k{key}"), if *value == 0 { String::new() } else { value.to_string() });
            let fact = Some(FactMessage { key, value, source: "s".into(), as_of_date: day(*on) });
            fact::set(city, &SetFactRequest { fact, ..Default::default() }, by, now())
        }
        Command::Join => join(city, mayor().tenant, by, now()),
        Command::Merge(on) => {
            let into = Run::imported("2", "other");
            let predecessors = vec![names::city_name(id("1"))];
            let command = MergeCitiesRequest { predecessors, effective_date: day(*on), ..Default::default() };
            let cities = BTreeMap::from([(id("1"), city.clone())]);
            succession::part(succession::merge((id("2"), into.city()), &cities, &command, by), id("1"))
        }
    }
}

proptest! {
    #[test]
    fn after_any_commands_the_history_tells_the_state(
        commands in proptest::collection::vec((command(), any::<bool>()), 1..40),
    ) {
        let mut run = Run::imported("1", "n0");
        for (command, by_mayor) in &commands {
            let by = if *by_mayor { mayor() } else { steward() };
            let before = run.state.clone();
            let decision = decide(run.city(), command, &by);
            match run.take(decision.clone(), &by) {
                Ok(0) | Err(_) => prop_assert_eq!(&run.state, &before),
                Ok(_) => {
                    prop_assert_ne!(&run.state, &before, "an emitted change must change the state");
                    // The same command again changes nothing; it is refused if the city now belongs to another tenant.
                    let again = decide(run.city(), command, &by);
                    prop_assert!(again.is_err() || again.is_ok_and(|changes| changes.is_empty()), "{:?}", command);
                }
            }
            if let Err(refusal) = &decision {
                prop_assert!(!refusal.rule.is_empty() && !refusal.message.is_empty());
            }
        }
        prop_assert_eq!(&run.replayed(), &run.state);
        {
            let city = run.city();
            let bytes = postcard::to_stdvec(city).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<City>(&bytes).unwrap(), city);
            let at_the_end = city.as_of(chrono::NaiveDate::MAX);
            prop_assert_eq!(at_the_end.as_ref(), Some(city));
            agrees(&run)?;
        }
    }
}

/// Checks that the mirror of other services agrees with the city.
fn agrees(run: &Run) -> Result<(), TestCaseError> {
    let city = run.city();
    let reference = run
        .history
        .iter()
        .fold(None, |kept, (change, stamp)| Some(CityReference::fold(kept, change, stamp).unwrap()))
        .unwrap();
    prop_assert_eq!(reference.name.as_str(), city.display_name());
    prop_assert_eq!((reference.tier, reference.population), (city.tier(), city.population()));
    prop_assert_eq!((reference.tenant, reference.unregistered), (city.tenant(), !city.registered()));
    prop_assert_eq!(reference.successor, city.end().map(|end| (end.heir.unwrap(), end.date)));
    prop_assert_eq!(&reference.facts, &city.facts);
    prop_assert_eq!(reference.term_since, city.terms.last().map(|term| term.start));
    prop_assert_eq!(reference.term_until, city.terms.last().and_then(|term| term.end));
    Ok(())
}
