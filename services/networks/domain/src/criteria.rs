//! Membership criteria: CEL expressions over the facts of a city (NW-2). An unknown fact never counts as false (CT-13).

use chrono::NaiveDate;
use hansa_expressions::{Answer, Environment, Expression, Type, Value, Values, Variable};
use hansa_kernel::{Refusal, Refused, text};
use hansa_proto::networks::{CriterionInput, CriterionOutcome, CriterionResult, MembershipCriterion};
use hansa_register_domain::{
    reference::{CityReference, CountryReference},
    size,
};
use std::sync::LazyLock;

/// Largest number of criteria per network.
pub const CRITERIA: usize = 20;

/// The variables of criteria, sorted by name. A variable for a fact of the city is unknown until the fact is recorded.
pub const VARIABLES: [Variable; 10] = [
    Variable::bool("capital", "The city's fact `capital`, `yes` or `no`."),
    Variable::bool("coastal", "The city's fact `coastal`, `yes` or `no`."),
    Variable::text("country", "The city's country, ISO 3166-1 alpha-2."),
    Variable::bool("democratic", "The city's country counts as democratic on the day (CT-3)."),
    Variable::bool("island", "The city's fact `island`, `yes` or `no`."),
    Variable::texts("languages", "The city's fact `languages`, BCP 47."),
    Variable::int("population", "Residents within the city's boundary; unknown if the register has no number."),
    Variable::bool("port", "The city's fact `port`, `yes` or `no`."),
    Variable::text("size_class", "`SMALL`, `INTERMEDIARY` or `LARGE` (CT-1); unknown if the population is."),
    Variable::text("tier", "`MUNICIPALITY`, `METROPOLIS`, `SUB_MUNICIPAL` or `REGION` (CT-2)."),
];

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| Environment::new(&VARIABLES));

/// Checks the criteria of a network and compiles their expressions.
///
/// # Errors
/// `INVALID_FIELD` under NW-2 for the first criterion that is invalid.
pub fn compile(criteria: &[MembershipCriterion]) -> Refused<Vec<(&MembershipCriterion, Expression)>> {
    let field = |at: usize, of: &str| format!("network.criteria[{at}].{of}");
    if criteria.len() > CRITERIA {
        return Err(Refusal::field("network.criteria", format!("has more than {CRITERIA} entries")).under("NW-2"));
    }
    let compiled = criteria.iter().enumerate().map(|(at, criterion)| {
        text::id(&field(at, "criterion_id"), &criterion.criterion_id)?;
        text::name(&field(at, "title"), &criterion.title)?;
        if criteria[..at].iter().any(|other| other.criterion_id == criterion.criterion_id) {
            return Err(Refusal::field(field(at, "criterion_id"), "is the id of an earlier criterion").under("NW-2"));
        }
        let compiled = ENVIRONMENT.compile(&criterion.expression, &[Type::Bool]).map_err(|problem| {
            Refusal::field(field(at, "expression"), problem).under("NW-2").help("GetCriteriaModel lists the variables.")
        });
        Ok((criterion, compiled?))
    });
    compiled.collect()
}

/// Evaluates criteria for a city on a day.
///
/// # Errors
/// `INVALID_FIELD` under NW-2 if a criterion is invalid. The rules store only valid criteria.
pub fn judge(
    criteria: &[MembershipCriterion],
    city: &CityReference,
    country: Option<&CountryReference>,
    day: NaiveDate,
) -> Refused<Vec<CriterionResult>> {
    let values = values(city, country, day);
    let scope = ENVIRONMENT.scope(&values);
    let result = |(criterion, expression): (&MembershipCriterion, Expression)| CriterionResult {
        criterion_id: criterion.criterion_id.clone(),
        outcome: match expression.answer(&scope) {
            Some(Answer::Bool(true)) => CriterionOutcome::Met,
            Some(_) => CriterionOutcome::NotMet,
            None => CriterionOutcome::Unknown,
        } as i32,
        inputs: inputs(&expression, &values),
    };
    Ok(compile(criteria)?.into_iter().map(result).collect())
}

/// Returns the values that an expression read.
fn inputs(expression: &Expression, values: &Values<'_, { VARIABLES.len() }>) -> Vec<CriterionInput> {
    let input = |(variable, value): (&'static str, Option<String>)| CriterionInput { variable: variable.into(), value };
    expression.inputs(values).into_iter().map(input).collect()
}

/// The values, in the order of `VARIABLES`.
fn values<'a>(
    city: &'a CityReference,
    country: Option<&CountryReference>,
    day: NaiveDate,
) -> Values<'a, { VARIABLES.len() }> {
    let fact = |key| match city.fact(key, day).map(|fact| fact.value.as_str()) {
        Some("yes") => Value::bool(true),
        Some("no") => Value::bool(false),
        _ => Value::Unknown,
    };
    let known = city.population.is_some();
    let class = size::class(city.population).as_str_name().trim_start_matches("SIZE_CLASS_");
    let democratic = country.and_then(|country| country.democratic_at(day));
    let population = city.population.map(i64::from);
    Values::new(
        &VARIABLES,
        [
            fact("capital"),
            fact("coastal"),
            Value::text(&city.country),
            democratic.map_or(Value::Unknown, Value::bool),
            fact("island"),
            city.languages(day).map_or(Value::Unknown, Value::texts),
            population.map_or(Value::Unknown, Value::int),
            fact("port"),
            if known { Value::text(class) } else { Value::Unknown },
            Value::text(city.tier.as_str_name().trim_start_matches("CITY_TIER_")),
        ],
    )
}

#[cfg(test)]
pub(crate) mod tests;
