//! Size classes, megacities and global cities (CT-1).

use chrono::NaiveDate;
use hansa_kernel::{FoldError, Refusal, Refused, text, time};
use hansa_proto::register::{GlobalDesignation, GlobalGround, SizeClass};
use serde::{Deserialize, Serialize};

/// The largest population of a small city.
pub const SMALL_UP_TO: u32 = 50_000;
/// The largest population of an intermediary city.
pub const INTERMEDIARY_UP_TO: u32 = 1_000_000;
/// A megacity is an agglomeration with a population above this.
pub const MEGACITY_ABOVE: u32 = 10_000_000;
/// A global city has a population above this, either in its boundary or in its agglomeration.
pub const GLOBAL_ABOVE: u32 = 1_000_000;
/// The maximum population. A larger number must be a typing error.
const POPULATION_MOST: i32 = 1_000_000_000;

/// Returns the size class of a population within the boundary. An unknown population has no class.
#[must_use]
pub fn class(population: Option<u32>) -> SizeClass {
    match population {
        None => SizeClass::Unspecified,
        Some(0..=SMALL_UP_TO) => SizeClass::Small,
        Some(count) if count <= INTERMEDIARY_UP_TO => SizeClass::Intermediary,
        Some(_) => SizeClass::Large,
    }
}

/// Returns whether an agglomeration is a megacity.
#[must_use]
pub fn megacity(agglomeration: Option<u32>) -> bool {
    agglomeration.is_some_and(|count| count > MEGACITY_ABOVE)
}

/// Parses the population in a field of a command. Refused under CT-1 if it is out of range.
pub(crate) fn population(field: &str, count: Option<i32>) -> Refused<Option<u32>> {
    let Some(count) = count else { return Ok(None) };
    let within = u32::try_from(count).ok().filter(|_| count <= POPULATION_MOST);
    let refused = || Refusal::field(field, format!("must be between 0 and {POPULATION_MOST}")).under("CT-1");
    within.map(Some).ok_or_else(refused)
}

/// The designation of a city as a global city, as the state stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Designation {
    grounds: Vec<GlobalGround>,
    source: String,
    date: NaiveDate,
}

impl Designation {
    pub(crate) fn fold(global: &GlobalDesignation) -> Result<Self, FoldError> {
        Ok(Self {
            grounds: global.grounds().collect(),
            source: global.source.clone(),
            date: crate::date::folded(global.designation_date.as_ref())?,
        })
    }

    pub(crate) fn to_proto(&self) -> GlobalDesignation {
        GlobalDesignation {
            grounds: self.grounds.iter().map(|g| *g as i32).collect(),
            source: self.source.clone(),
            designation_date: Some(time::date(self.date)),
        }
    }

    /// Returns the day of the designation.
    #[must_use]
    pub fn date(&self) -> NaiveDate {
        self.date
    }
}

/// Checks a designation. Refused under CT-1 if it has no grounds or no source, or if the larger known population is not
/// above [`GLOBAL_ABOVE`].
pub(crate) fn designation(
    global: &GlobalDesignation,
    population: Option<u32>,
    agglomeration: Option<u32>,
) -> Refused<()> {
    let grounds = &global.grounds;
    let known = |g: &i32| GlobalGround::try_from(*g).is_ok_and(|g| g != GlobalGround::Unspecified);
    let once = grounds.iter().enumerate().all(|(i, g)| !grounds[..i].contains(g));
    if grounds.is_empty() || !grounds.iter().all(known) || !once {
        return Err(Refusal::field("global_designation.grounds", "must name grounds, each once").under("CT-1"));
    }
    text::reference("global_designation.source", &global.source)?;
    if global.source.trim().is_empty() {
        return Err(Refusal::field("global_designation.source", "is required").under("CT-1"));
    }
    time::day("global_designation.designation_date", global.designation_date.as_ref())?;
    if let Some(most) = population.max(agglomeration).filter(|most| *most <= GLOBAL_ABOVE) {
        return Err(Refusal::rule(
            "CT-1",
            "NOT_GLOBAL_SIZE",
            format!("a global city has more than {GLOBAL_ABOVE} residents"),
        )
        .missing("population", format!("is {most}"))
        .help("Correct the population of the city or its agglomeration first, or leave the designation out."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ct_1_classes_have_their_bounds() {
        assert_eq!(class(None), SizeClass::Unspecified);
        assert_eq!([0, 1, 50_000].map(|count| class(Some(count))), [SizeClass::Small; 3]);
        assert_eq!([50_001, 1_000_000].map(|count| class(Some(count))), [SizeClass::Intermediary; 2]);
        assert_eq!(class(Some(1_000_001)), SizeClass::Large);
        assert!(!megacity(None) && !megacity(Some(10_000_000)) && megacity(Some(10_000_001)));
        assert!(population("p", Some(-1)).is_err() && population("p", Some(POPULATION_MOST + 1)).is_err());
    }

    #[test]
    fn ct_1_a_global_city_has_grounds_and_a_million_or_an_unknown_population() {
        let date = hansa_proto::google::r#type::Date { year: 2024, month: 1, day: 1 };
        let good = GlobalDesignation { grounds: vec![1, 3], source: "A study".into(), designation_date: Some(date) };
        assert!(designation(&good, Some(2_000_000), None).is_ok() && designation(&good, None, None).is_ok());
        assert!(designation(&good, Some(400_000), Some(5_000_000)).is_ok());
        assert_eq!(designation(&good, Some(1_000_000), None).unwrap_err().rule, "CT-1");
        for grounds in [vec![], vec![0], vec![9], vec![1, 1]] {
            assert!(designation(&GlobalDesignation { grounds, ..good.clone() }, None, None).is_err());
        }
        assert!(designation(&GlobalDesignation { source: String::new(), ..good.clone() }, None, None).is_err());
        assert!(designation(&GlobalDesignation { designation_date: None, ..good }, None, None).is_err());
    }
}
