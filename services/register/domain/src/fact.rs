//! Dated and sourced facts of a city (CT-13). A fact that is not recorded is unknown; no rule may read it as a "no".

pub use crate::city::values::{Fact, latest};
use crate::{
    city::{City, fields::short},
    date::past,
    rights,
};
use hansa_kernel::{Caller, Decision, Moment, ReasonClass, Refusal, Refused, record::emit, text, time};
use hansa_proto::register::{self as proto, FactSet, SetFactRequest, city_change::Change};

/// Maximum number of facts of a city.
pub const FACTS: usize = 300;

/// Records a fact, or corrects the fact with the same key and day.
///
/// # Errors
/// Refused under CT-10 if the caller may not change the city, under CT-11 if the city has ended, and under CT-13 if the
/// key, source or day is missing, if the day is in the future, or if the city has too many facts.
pub fn set(state: &City, command: &SetFactRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    let asked = command.fact.clone().unwrap_or_default();
    check(&asked).map_err(|refusal| refusal.under("CT-13"))?;
    time::day("fact.as_of_date", asked.as_of_date.as_ref())?;
    past("fact.as_of_date", asked.as_of_date.as_ref(), at, "CT-13")?;
    let fact = Fact::fold(&asked).map_err(|fold_error| Refusal::field("fact", fold_error.0))?;
    let mut after = state.clone();
    after.set(fact);
    if after == *state {
        return Ok(Vec::new());
    }
    if after.facts.len() > FACTS {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "CT-13",
            "TOO_MANY_FACTS",
            format!("a city has at most {FACTS} facts"),
        )
        .help("To correct an existing fact, use its key and date."));
    }
    emit(FactSet { fact: Some(asked) })
}

fn check(fact: &proto::Fact) -> Refused<()> {
    let mut chars = fact.key.chars();
    let led = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    if !led || fact.key.len() > 64 || !chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c)) {
        return Err(Refusal::field(
            "fact.key",
            "must be 1 to 64 lower-case letters, digits, `_` and `.`, and start with a letter",
        ));
    }
    short("fact.value", &fact.value, 200)?;
    text::reference("fact.source", &fact.source)?;
    if fact.source.trim().is_empty() {
        return Err(Refusal::field("fact.source", "is required")
            .help("State the source, for example a statute, a statistic or a web address."));
    }
    Ok(())
}
