//! Dated, sourced facts of a city (CT-13). What is not recorded is unknown, which is never a no.

use crate::{
    city::{City, fields::short},
    date::{folded, past},
    rights,
};
use chrono::NaiveDate;
use hansa_kernel::{Caller, Decision, Misfit, Moment, Reason, Refusal, Refused, record::happened, text, time};
use hansa_proto::register::{self as proto, FactSet, SetFactRequest, city_change::Change};
use serde::{Deserialize, Serialize};

/// Most facts of a city.
pub const FACTS: usize = 300;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about.
    pub key: String,
    /// The value; empty where it is not known as of that day.
    pub value: String,
    /// Where it is from.
    pub source: String,
    /// The day of which it is true.
    pub as_of: NaiveDate,
}

impl Fact {
    pub(crate) fn fold(fact: &proto::Fact) -> Result<Self, Misfit> {
        let as_of = folded(fact.as_of_date.as_ref())?;
        Ok(Self { key: fact.key.clone(), value: fact.value.clone(), source: fact.source.clone(), as_of })
    }

    pub(crate) fn to_proto(&self) -> proto::Fact {
        let as_of_date = Some(time::date(self.as_of));
        proto::Fact { key: self.key.clone(), value: self.value.clone(), source: self.source.clone(), as_of_date }
    }
}

/// The fact of a key that holds on a day: the latest not after it, unless that says unknown.
#[must_use]
pub fn latest<'a>(facts: &'a [Fact], key: &str, day: NaiveDate) -> Option<&'a Fact> {
    let of_key = facts.iter().filter(|fact| fact.key == key && fact.as_of <= day);
    of_key.max_by_key(|fact| fact.as_of).filter(|fact| !fact.value.is_empty())
}

/// Puts a fact in its place, over one of the same key and day.
pub(crate) fn put(facts: &mut Vec<Fact>, fact: Fact) {
    match facts.binary_search_by(|f| (f.key.as_str(), f.as_of).cmp(&(fact.key.as_str(), fact.as_of))) {
        Ok(at) => facts[at] = fact,
        Err(at) => facts.insert(at, fact),
    }
}

impl City {
    /// The fact of a key that holds on a day.
    #[must_use]
    pub fn fact(&self, key: &str, day: NaiveDate) -> Option<&Fact> {
        latest(&self.facts, key, day)
    }

    pub(crate) fn set(&mut self, fact: Fact) {
        put(&mut self.facts, fact);
    }
}

/// Records a fact, or corrects the one of the same key and day.
///
/// # Errors
/// CT-10; CT-11 where the city is no more; CT-13 where key, source or day are missing, or it lies ahead; a limit.
pub fn set(state: &City, command: &SetFactRequest, caller: &Caller, at: Moment) -> Decision<Change> {
    rights::change(state, caller)?;
    state.must_be_there(at)?;
    let asked = command.fact.clone().unwrap_or_default();
    check(&asked).map_err(|refusal| refusal.under("CT-13"))?;
    time::day("fact.as_of_date", asked.as_of_date.as_ref())?;
    past("fact.as_of_date", asked.as_of_date.as_ref(), at, "CT-13")?;
    let fact = Fact::fold(&asked).map_err(|misfit| Refusal::field("fact", misfit.0))?;
    let mut after = state.clone();
    after.set(fact);
    if after == *state {
        return Ok(Vec::new());
    }
    if after.facts.len() > FACTS {
        return Err(Refusal::because(Reason::Limit, "CT-13", format!("a city keeps {FACTS} facts"))
            .help("Correct a fact under its own key and date."));
    }
    happened(FactSet { fact: Some(asked) })
}

fn check(fact: &proto::Fact) -> Refused<()> {
    let mut chars = fact.key.chars();
    let led = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    if !led || fact.key.len() > 64 || !chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c)) {
        return Err(Refusal::field("fact.key", "must be lower-case letters, digits, `_` and `.`, at most 64"));
    }
    short("fact.value", &fact.value, 200)?;
    text::reference("fact.source", &fact.source)?;
    if fact.source.trim().is_empty() {
        return Err(Refusal::field("fact.source", "is required")
            .help("Say where it is from: a statute, a statistic, an address."));
    }
    Ok(())
}
