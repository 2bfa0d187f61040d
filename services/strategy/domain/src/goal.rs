//! Goals of strategies, and links to the tools that serve them (ST-3, ST-4).

use chrono::NaiveDate;
use hansa_kernel::{RecordName, Refusal, Refused, limits, text, time};
use hansa_proto::{
    strategy::{self as proto, Dimension, GoalAim, GoalKind, Outcome, ToolPurpose},
    types::LocalizedText,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Largest number of goals per strategy.
pub const GOALS: usize = 100;
/// Largest number of linked tools per strategy.
pub const TOOLS: usize = 500;
/// Largest number of Sustainable Development Goals per goal.
pub const SDG_CODES: usize = 20;
/// Largest number of digits before the decimal point of a baseline or target.
const WHOLE_DIGITS: usize = 18;
/// Largest number of digits after the decimal point.
const FRACTION_DIGITS: usize = 9;

/// A goal of a strategy. [`Goal::parse`] ensures that it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The id within the strategy.
    pub id: String,
    /// The aim, which determines the kind.
    pub aim: GoalAim,
    /// The field of action.
    pub dimension: Dimension,
    /// The expected outcomes, sorted.
    pub outcomes: BTreeSet<Outcome>,
    /// The goal in a sentence.
    pub title: Vec<LocalizedText>,
    /// The indicator that measures progress.
    pub indicator: Vec<LocalizedText>,
    /// The initial value of the indicator, a decimal number.
    pub baseline: String,
    /// The target value of the indicator, a decimal number.
    pub target: String,
    /// The day by which the target should be reached.
    pub target_date: NaiveDate,
    /// Codes of Sustainable Development Goals or their targets, sorted as strings.
    pub sdg_codes: BTreeSet<String>,
}

/// Returns the kind of an aim (ST-3).
#[must_use]
pub fn kind_of(aim: GoalAim) -> GoalKind {
    match aim {
        GoalAim::Unspecified => GoalKind::Unspecified,
        GoalAim::ConflictPrevention
        | GoalAim::AidAndSolidarity
        | GoalAim::GlobalChallenges
        | GoalAim::RegionalIntegration => GoalKind::Value,
        GoalAim::BetterServices | GoalAim::EconomicAttractiveness | GoalAim::CulturalAttractiveness => {
            GoalKind::Interest
        }
    }
}

impl Goal {
    /// Parses a goal from the API message. `field` is the path of the goal in the request.
    ///
    /// # Errors
    /// `INVALID_FIELD` under ST-3 for the first field that is missing or malformed.
    pub fn parse(field: &str, goal: &proto::Goal) -> Refused<Self> {
        Self::read(field, goal).map_err(|refusal| {
            refusal
                .under("ST-3")
                .help("A goal needs an aim, a dimension, outcomes, and an indicator with baseline, target and date.")
        })
    }

    fn read(field: &str, goal: &proto::Goal) -> Refused<Self> {
        let at = |name: &str| format!("{field}.{name}");
        text::id(&at("goal_id"), &goal.goal_id)?;
        let aim = stated(&at("aim"), goal.aim(), goal.aim)?;
        agree(&at("kind"), goal, aim)?;
        let dimension = stated(&at("dimension"), goal.dimension(), goal.dimension)?;
        text::required(&at("title"), &goal.title)?;
        text::required(&at("indicator"), &goal.indicator)?;
        decimal(&at("baseline"), &goal.baseline)?;
        decimal(&at("target"), &goal.target)?;
        Ok(Self {
            id: goal.goal_id.clone(),
            aim,
            dimension,
            outcomes: outcomes(&at("outcomes"), goal)?,
            title: goal.title.clone(),
            indicator: goal.indicator.clone(),
            baseline: goal.baseline.clone(),
            target: goal.target.clone(),
            target_date: time::day(&at("target_date"), goal.target_date.as_ref())?,
            sdg_codes: sdg_codes(&at("sdg_codes"), &goal.sdg_codes)?,
        })
    }

    /// The kind: values or interests.
    #[must_use]
    pub fn kind(&self) -> GoalKind {
        kind_of(self.aim)
    }

    /// Converts the goal to the API message.
    #[must_use]
    pub fn to_proto(&self) -> proto::Goal {
        proto::Goal {
            goal_id: self.id.clone(),
            kind: self.kind() as i32,
            aim: self.aim as i32,
            dimension: self.dimension as i32,
            outcomes: self.outcomes.iter().map(|o| *o as i32).collect(),
            title: self.title.clone(),
            indicator: self.indicator.clone(),
            baseline: self.baseline.clone(),
            target: self.target.clone(),
            target_date: Some(time::date(self.target_date)),
            sdg_codes: self.sdg_codes.iter().cloned().collect(),
        }
    }
}

/// A link from a tool to the goals that it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolLink {
    /// The resource name of the tool.
    pub tool: String,
    /// The ids of the goals that the tool serves; never empty.
    pub goals: BTreeSet<String>,
    /// The city's plan for the tool, for example to revamp the tool.
    pub purpose: ToolPurpose,
    /// A note on how the tool serves the goals.
    pub note: Vec<LocalizedText>,
}

impl ToolLink {
    /// Parses a link from the API message. Does not check that the goals exist in the strategy.
    ///
    /// # Errors
    /// `INVALID_FIELD` under ST-4 for the first field that is missing or malformed.
    pub fn parse(field: &str, link: &proto::ToolLink) -> Refused<Self> {
        tool(&format!("{field}.tool"), &link.tool)?;
        Self::read(field, link).map_err(|refusal| refusal.under("ST-4"))
    }

    /// Parses a link without checking the tool's name, because simulated agreements have no valid resource name (ST-9).
    pub(crate) fn read(field: &str, link: &proto::ToolLink) -> Refused<Self> {
        let goals = distinct(&format!("{field}.goal_ids"), &link.goal_ids, GOALS)?;
        if goals.is_empty() {
            return Err(Refusal::field(format!("{field}.goal_ids"), "is required").help("Name at least one goal."));
        }
        text::optional(&format!("{field}.note"), &link.note)?;
        Ok(Self {
            tool: link.tool.clone(),
            goals,
            purpose: stated(&format!("{field}.purpose"), link.purpose(), link.purpose)?,
            note: link.note.clone(),
        })
    }

    /// Converts the link to the API message.
    #[must_use]
    pub fn to_proto(&self) -> proto::ToolLink {
        proto::ToolLink {
            tool: self.tool.clone(),
            goal_ids: self.goals.iter().cloned().collect(),
            purpose: self.purpose as i32,
            note: self.note.clone(),
        }
    }
}

/// Checks the name of a tool. Only agreements can be linked so far.
///
/// # Errors
/// `INVALID_FIELD` under ST-4 if the name is not the name of an agreement.
pub fn tool(field: &str, name: &str) -> Refused<()> {
    RecordName::parse(name, "agreements", field).map(drop).map_err(|refusal| refusal.under("ST-4"))
}

/// Checks that an enum field is set to a known value. Compares the number, because prost returns the default for
/// unknown numbers.
fn stated<E: Copy + Default + PartialEq + Into<i32>>(field: &str, value: E, number: i32) -> Refused<E> {
    if value == E::default() || value.into() != number { Err(Refusal::field(field, "is required")) } else { Ok(value) }
}

fn agree(field: &str, goal: &proto::Goal, aim: GoalAim) -> Refused<()> {
    if goal.kind == GoalKind::Unspecified as i32 || goal.kind == kind_of(aim) as i32 {
        return Ok(());
    }
    Err(Refusal::field(field, format!("does not fit the aim {}", aim.as_str_name())))
}

fn outcomes(field: &str, goal: &proto::Goal) -> Refused<BTreeSet<Outcome>> {
    let mut found = BTreeSet::new();
    for number in &goal.outcomes {
        let outcome = Outcome::try_from(*number).ok().filter(|o| *o != Outcome::Unspecified);
        let outcome = outcome.ok_or_else(|| Refusal::field(field, format!("{number} is not an outcome")))?;
        if !found.insert(outcome) {
            return Err(Refusal::field(field, format!("lists {} twice", outcome.as_str_name())));
        }
    }
    if found.is_empty() { Err(Refusal::field(field, "is required")) } else { Ok(found) }
}

fn distinct(field: &str, values: &[String], most: usize) -> Refused<BTreeSet<String>> {
    if values.len() > most {
        return Err(Refusal::field(field, format!("has more than {most} entries")));
    }
    let mut found = BTreeSet::new();
    for value in values {
        if value.chars().count() > limits::NAME_CHARS || !found.insert(value.clone()) {
            return Err(Refusal::field(field, format!("`{}` is too long or a duplicate", text::excerpt(value))));
        }
    }
    Ok(found)
}

fn sdg_codes(field: &str, codes: &[String]) -> Refused<BTreeSet<String>> {
    for code in codes {
        let (goal, target) = code.split_once('.').map_or((code.as_str(), None), |(g, t)| (g, Some(t)));
        let number = goal.parse::<u8>().ok().filter(|n| (1..=17).contains(n) && n.to_string() == goal);
        let target = target.is_none_or(|t| {
            (1..=2).contains(&t.len()) && t.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
        });
        if number.is_none() || !target {
            let what = format!("`{}` is not a code such as `11` or `11.b`", text::excerpt(code));
            return Err(Refusal::field(field, what));
        }
    }
    distinct(field, codes, SDG_CODES)
}

/// Checks a decimal number. Baseline and target must be numbers, so that a reader can tell whether the target was
/// reached.
fn decimal(field: &str, number: &str) -> Refused<()> {
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit());
    if digits(whole, WHOLE_DIGITS) && digits(fraction, FRACTION_DIGITS) {
        Ok(())
    } else {
        Err(Refusal::field(field, "is not a decimal number such as -12.5"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn words(text: &str) -> Vec<LocalizedText> {
        vec![LocalizedText { language_code: "en".into(), text: text.into(), ..Default::default() }]
    }

    pub(crate) fn goal(id: &str, aim: GoalAim) -> proto::Goal {
        proto::Goal {
            goal_id: id.into(),
            aim: aim as i32,
            dimension: Dimension::Culture as i32,
            outcomes: vec![Outcome::Social as i32, Outcome::Cultural as i32],
            title: words("Bring schools together"),
            indicator: words("Pupils a year"),
            baseline: "0".into(),
            target: "1200.5".into(),
            target_date: Some(time::date(NaiveDate::from_ymd_opt(2030, 1, 1).unwrap())),
            sdg_codes: vec!["4".into(), "11.b".into()],
            ..Default::default()
        }
    }

    #[test]
    fn st_3_a_goal_survives_the_contract() {
        let parsed = Goal::parse("goal", &goal("schools", GoalAim::BetterServices)).unwrap();
        assert_eq!(parsed.kind(), GoalKind::Interest);
        assert_eq!(Goal::parse("goal", &parsed.to_proto()), Ok(parsed));
    }

    #[test]
    fn st_3_a_goal_needs_all_of_its_measure() {
        let spoilers: [fn(&mut proto::Goal); 16] = [
            |g| g.goal_id = "Schools".into(),
            |g| g.goal_id = "x".repeat(hansa_kernel::limits::ID_CHARS + 1),
            |g| g.aim = 0,
            |g| g.aim = 99,
            |g| g.kind = GoalKind::Value as i32,
            |g| g.dimension = 0,
            |g| g.outcomes.clear(),
            |g| g.outcomes.push(Outcome::Social as i32),
            |g| g.title.clear(),
            |g| g.indicator.clear(),
            |g| g.baseline.clear(),
            |g| g.target = "many".into(),
            |g| g.target_date = None,
            |g| g.sdg_codes.push("18".into()),
            |g| g.sdg_codes.push("4".into()),
            |g| g.sdg_codes.push("11.bcd".into()),
        ];
        for (i, spoil) in spoilers.iter().enumerate() {
            let mut bad = goal("schools", GoalAim::BetterServices);
            spoil(&mut bad);
            let refusal = Goal::parse("goal", &bad).unwrap_err();
            assert_eq!(refusal.rule, "ST-3", "{i}");
            assert!(refusal.missing[0].subject.starts_with("goal."), "{i}: {refusal}");
        }
    }

    #[test]
    fn st_3_every_aim_has_its_kind() {
        let kinds: Vec<_> = (1..=7).map(|n| kind_of(GoalAim::try_from(n).unwrap())).collect();
        assert_eq!(kinds[..4], [GoalKind::Value; 4]);
        assert_eq!(kinds[4..], [GoalKind::Interest; 3]);
    }

    #[test]
    fn measures_are_decimal_numbers() {
        for good in ["0", "-12.5", "999999999999999999.999999999"] {
            assert!(decimal("d", good).is_ok(), "{good}");
        }
        for bad in ["", "-", ".5", "5.", "1e3", "+1", "1,5", "1.0000000001", "1000000000000000000"] {
            assert!(decimal("d", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn st_4_a_link_names_an_agreement_goals_and_a_purpose() {
        let id = hansa_kernel::RecordId::from_source("test", "a");
        let good = proto::ToolLink {
            tool: format!("agreements/{id}"),
            goal_ids: vec!["a".into()],
            purpose: ToolPurpose::Revamp as i32,
            note: vec![],
        };
        let parsed = ToolLink::parse("link", &good).unwrap();
        assert_eq!(ToolLink::parse("link", &parsed.to_proto()), Ok(parsed));
        let spoilers: [fn(&mut proto::ToolLink); 4] = [
            |l| l.tool = "projects/x".into(),
            |l| l.goal_ids.clear(),
            |l| l.goal_ids.push("a".into()),
            |l| l.purpose = 0,
        ];
        for spoil in spoilers {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert_eq!(ToolLink::parse("link", &bad).unwrap_err().rule, "ST-4");
        }
    }
}
