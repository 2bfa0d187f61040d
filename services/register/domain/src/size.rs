//! Size classes, megacities and global cities (CT-1).

use chrono::NaiveDate;
use hansa_kernel::{FoldError, Refusal, Refused, text, time};
use hansa_proto::register::{GlobalDesignation, GlobalGround, SizeClass};
use serde::{Deserialize, Serialize};

/// The largest population of a small city.
pub const SMALL_UP_TO: u64 = 50_000;
/// The largest population of an intermediary city.
pub const INTERMEDIARY_UP_TO: u64 = 1_000_000;
/// A megacity is an agglomeration with a population above this.
pub const MEGACITY_ABOVE: u64 = 10_000_000;
/// A global city has a population above this, either in its boundary or in its agglomeration.
pub const GLOBAL_ABOVE: u64 = 1_000_000;
/// The maximum population. A larger number must be a typing error.
const POPULATION_MOST: i64 = 1_000_000_000;

/// Returns the size class of a population within the boundary. The population 0 means unknown and has no class.
#[must_use]
pub fn class(population: u64) -> SizeClass {
    match population {
        0 => SizeClass::Unspecified,
        1..=SMALL_UP_TO => SizeClass::Small,
        _ if population <= INTERMEDIARY_UP_TO => SizeClass::Intermediary,
        _ => SizeClass::Large,
    }
}

/// Returns whether an agglomeration is a megacity.
#[must_use]
pub fn megacity(agglomeration: u64) -> bool {
    agglomeration > MEGACITY_ABOVE
}

/// Parses the population in a field of a command. Refused under CT-1 if it is out of range.
pub(crate) fn population(field: &str, count: i64) -> Refused<u64> {
    u64::try_from(count)
        .ok()
        .filter(|_| count <= POPULATION_MOST)
        .ok_or_else(|| Refusal::field(field, format!("must be between 0 and {POPULATION_MOST}")).under("CT-1"))
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
            date: crate::date::folded(global.designated_date.as_ref())?,
        })
    }

    pub(crate) fn to_proto(&self) -> GlobalDesignation {
        GlobalDesignation {
            grounds: self.grounds.iter().map(|g| *g as i32).collect(),
            source: self.source.clone(),
            designated_date: Some(time::date(self.date)),
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
pub(crate) fn designation(global: &GlobalDesignation, population: u64, agglomeration: u64) -> Refused<()> {
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
    time::day("global_designation.designated_date", global.designated_date.as_ref())?;
    let most = population.max(agglomeration);
    if most != 0 && most <= GLOBAL_ABOVE {
        return Err(Refusal::rule("CT-1", format!("a global city has more than {GLOBAL_ABOVE} residents"))
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
        assert_eq!(class(0), SizeClass::Unspecified);
        assert_eq!([1, 50_000].map(class), [SizeClass::Small; 2]);
        assert_eq!([50_001, 1_000_000].map(class), [SizeClass::Intermediary; 2]);
        assert_eq!(class(1_000_001), SizeClass::Large);
        assert!(!megacity(10_000_000) && megacity(10_000_001));
        assert!(population("p", -1).is_err() && population("p", POPULATION_MOST + 1).is_err());
    }

    #[test]
    fn ct_1_a_global_city_has_grounds_and_a_million_or_an_unknown_population() {
        let date = hansa_proto::google::r#type::Date { year: 2024, month: 1, day: 1 };
        let good = GlobalDesignation { grounds: vec![1, 3], source: "A study".into(), designated_date: Some(date) };
        assert!(designation(&good, 2_000_000, 0).is_ok() && designation(&good, 0, 0).is_ok());
        assert!(designation(&good, 400_000, 5_000_000).is_ok());
        assert_eq!(designation(&good, 1_000_000, 0).unwrap_err().rule, "CT-1");
        for grounds in [vec![], vec![0], vec![9], vec![1, 1]] {
            assert!(designation(&GlobalDesignation { grounds, ..good.clone() }, 0, 0).is_err());
        }
        assert!(designation(&GlobalDesignation { source: String::new(), ..good.clone() }, 0, 0).is_err());
        assert!(designation(&GlobalDesignation { designated_date: None, ..good }, 0, 0).is_err());
    }
}
