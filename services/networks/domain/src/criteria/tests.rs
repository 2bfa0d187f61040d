//! Tests of criteria over facts (NW-2, CT-13).
#![allow(clippy::unwrap_used)]

use super::*;
use hansa_register_domain::fact::Fact;

pub fn criterion(id: &str, expression: &str) -> MembershipCriterion {
    MembershipCriterion { criterion_id: id.into(), title: format!("By {id}"), expression: expression.into() }
}

fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 5, 1).unwrap()
}

/// A city with a known country and no other facts.
fn unknown() -> CityReference {
    let mut city = CityReference::default();
    city.country = "DE".into();
    city
}

fn city(facts: &[(&str, &str)]) -> CityReference {
    let fact = |(key, value): &(&str, &str)| Fact {
        key: (*key).into(),
        value: (*value).into(),
        source: "a statute".into(),
        as_of: day(),
    };
    let mut city = unknown();
    (city.population, city.facts) = (Some(522_250), facts.iter().map(fact).collect());
    city
}

fn outcome(expression: &str, city: &CityReference) -> (CriterionOutcome, Vec<String>) {
    let results = judge(&[criterion("one", expression)], city, None, day()).unwrap();
    let input = |one: &CriterionInput| format!("{} = {}", one.variable, one.value.as_deref().unwrap_or("?"));
    (results[0].outcome(), results[0].inputs.iter().map(input).collect())
}

#[test]
fn nw_2_every_name_has_a_value_of_its_type() {
    assert!(VARIABLES.windows(2).all(|two| two[0].name < two[1].name));
    let facts = [("capital", "no"), ("coastal", "no"), ("island", "no"), ("languages", "de"), ("port", "yes")];
    let mut country = CountryReference::default();
    country.regimes.insert(2024, hansa_proto::register::RegimeClass::LiberalDemocracy);
    let city = city(&facts);
    for (variable, value) in values(&city, Some(&country), day()).iter() {
        assert_eq!(value.kind(), Some(variable.kind), "{}", variable.name);
        assert!(!variable.description.is_empty());
    }
}

#[test]
fn nw_2_a_criterion_is_met_or_not_with_the_values_it_looked_at() {
    let lubeck = city(&[("port", "yes"), ("languages", "de, nds")]);
    for (expression, met, values) in [
        ("population > 1000000", false, vec!["population = 522250"]),
        ("population > 50000 && port", true, vec!["population = 522250", "port = true"]),
        ("country in ['DE', 'PL']", true, vec!["country = DE"]),
        ("languages.exists(l, l == 'nds')", true, vec!["languages = de, nds"]),
        (
            "size_class == 'INTERMEDIARY' && tier == 'MUNICIPALITY'",
            false,
            vec!["size_class = INTERMEDIARY", "tier = UNSPECIFIED"],
        ),
    ] {
        let outcome = outcome(expression, &lubeck);
        let wanted = if met { CriterionOutcome::Met } else { CriterionOutcome::NotMet };
        assert_eq!(outcome, (wanted, values.iter().map(ToString::to_string).collect()), "{expression}");
    }
}

#[test]
fn nw_2_what_is_not_known_is_never_a_no() {
    let mut unknown = unknown();
    for (expression, shown) in [
        ("port", "port = ?"),
        ("population > 5", "population = ?"),
        ("!port", "port = ?"),
        ("democratic", "democratic = ?"),
    ] {
        assert_eq!(outcome(expression, &unknown), (CriterionOutcome::Unknown, vec![shown.to_owned()]), "{expression}");
    }
    // Known values can decide the expression without the unknown one.
    assert_eq!(outcome("country == 'FR' && port", &unknown).0, CriterionOutcome::NotMet);
    assert_eq!(outcome("country == 'DE' || port", &unknown).0, CriterionOutcome::Met);
    // A fact dated tomorrow is unknown today, and a value other than `yes` or `no` is unknown as well.
    let later = Fact { as_of: day().succ_opt().unwrap(), ..city(&[("port", "yes")]).facts[0].clone() };
    unknown.facts = vec![later];
    assert_eq!(outcome("port", &unknown).0, CriterionOutcome::Unknown);
    assert_eq!(outcome("port", &city(&[("port", "perhaps")])).0, CriterionOutcome::Unknown);
}

#[test]
fn nw_2_criteria_are_bounded_and_checked_before_they_are_kept() {
    let many = |n: usize| (0..n).map(|i| criterion(&format!("c{i}"), "port")).collect::<Vec<_>>();
    assert!(compile(&many(CRITERIA)).is_ok());
    assert_eq!(compile(&many(CRITERIA + 1)).unwrap_err().rule, "NW-2");
    for (criteria, field) in [
        (vec![criterion("One", "port")], "network.criteria[0].criterion_id"),
        (vec![criterion("one", "port"), criterion("one", "port")], "network.criteria[1].criterion_id"),
        (vec![criterion("one", "population")], "network.criteria[0].expression"),
        (vec![criterion("one", "fame > 5")], "network.criteria[0].expression"),
        (vec![MembershipCriterion { title: String::new(), ..criterion("one", "port") }], "network.criteria[0].title"),
    ] {
        assert_eq!(compile(&criteria).unwrap_err().missing[0].subject, field);
    }
}
