//! The documented model: every variable that the expressions of a rubric may use. The values come from the portfolio
//! and the strategy.

use crate::{
    portfolio::{Portfolio, TieFact, TieState},
    strategy::Strategy,
};
use chrono::NaiveDate;
use hansa_expressions::{Value as Slot, Values, Variable};
use hansa_proto::strategy::{GoalKind, StrategyState};
use hansa_proto::types::AgreementKind;
use std::collections::{BTreeSet, HashSet};

const fn int(name: &'static str, description: &'static str) -> Variable {
    Variable::int(name, description)
}
const fn yes(name: &'static str, description: &'static str) -> Variable {
    Variable::bool(name, description)
}
const fn texts(name: &'static str, description: &'static str) -> Variable {
    Variable::texts(name, description)
}

/// All variables, sorted by name. Without a strategy, the variables about it are 0, false or empty.
pub const VARIABLES: [Variable; 38] = [
    yes("assessment_described", "The strategy says how results are assessed."),
    int("cooperations", "Cooperation agreements in force."),
    int("days_past_election", "Days since the election that the adoption named as the next one; 0 before that day."),
    int("days_to_election", "Days to the city's next election; 0 if the election is over or its date is unknown."),
    yes("engagement_described", "The strategy says how residents are informed and take part."),
    texts("goal_dimensions", "The dimensions of the goals, such as `CULTURE`, without duplicates."),
    int("goals", "Goals of the strategy."),
    int("goals_interest", "Goals based on interests."),
    int("goals_value", "Goals based on values."),
    int("goals_with_tool", "Goals served by a tool that is not known to have ended."),
    int("goals_without_tool", "Goals served by no tool, or only by tools that have ended."),
    int(
        "guidelines_missing",
        "Ties in force that need guidelines, have none, and were signed without a recorded reason.",
    ),
    int("guidelines_needed", "Ties in force that need guidelines (AG-11)."),
    int(
        "guidelines_overridden",
        "Ties in force that need guidelines, have none, and were signed with a recorded reason.",
    ),
    int("guidelines_unknown", "Ties in force for which the need for guidelines is unknown."),
    int("languages_judged", "Ties in force for which it is known whether both sides share a language."),
    int("languages_missing", "Ties in force whose sides share no language."),
    int("memoranda", "Memoranda in force."),
    yes("next_election_known", "The city's next election is known."),
    yes("office_exists", "The city is known to have an international relations office."),
    yes("office_known", "It is known whether the city has an international relations office."),
    int("office_languages", "Languages that the office is known to work in."),
    texts("partner_countries", "Countries of the partners of ties in force, sorted, without duplicates."),
    int("partners", "Partner cities of ties in force, without duplicates."),
    yes("shock_response_described", "The strategy says how the city responds to a shock."),
    yes("strategy_adopted", "A strategy is adopted and valid on the day of the evaluation."),
    yes("strategy_exists", "A strategy is adopted or has lapsed."),
    yes("strategy_lapsed", "The strategy was adopted, and its validity has ended."),
    Variable::text("strategy_state", "`NONE`, `DRAFT`, `ADOPTED` or `LAPSED`."),
    texts("tie_kinds", "The kinds of ties in force, such as `TWINNING`, without duplicates."),
    int("ties", "Ties in force, including dormant and suspended ones."),
    int("ties_alive", "Ties in force that are not dormant."),
    int("ties_dormant", "Ties in force that are dormant."),
    int("ties_preparing", "Ties in preparation."),
    int("ties_suspended", "Ties that one side has suspended."),
    int("tools_with_goal", "Ties in force that serve a goal of the strategy."),
    int("tools_without_goal", "Ties in force that serve no goal of the strategy."),
    int("twinnings", "Twinnings in force."),
];

/// Lists of records that a finding can name as its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The city itself.
    City,
    /// The strategy, or the city if there is no strategy.
    Strategy,
    /// The goals without a tool.
    GoalsWithoutTool,
    /// The ties in force that serve no goal.
    ToolsWithoutGoal,
    /// The dormant ties.
    DormantTies,
    /// The ties that need guidelines, have none, and were signed without a recorded reason.
    GuidelinesMissing,
    /// The ties that need guidelines, have none, and were signed with a recorded reason.
    GuidelinesOverridden,
    /// The ties without a shared language.
    LanguagesMissing,
}

impl Evidence {
    /// Parses the name of a list in a rubric; `None` if the name is unknown.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "city" => Self::City,
            "strategy" => Self::Strategy,
            "goals_without_tool" => Self::GoalsWithoutTool,
            "tools_without_goal" => Self::ToolsWithoutGoal,
            "dormant_ties" => Self::DormantTies,
            "guidelines_missing" => Self::GuidelinesMissing,
            "guidelines_overridden" => Self::GuidelinesOverridden,
            "languages_missing" => Self::LanguagesMissing,
            _ => return None,
        })
    }
}

/// The model of one city on one day.
#[derive(Debug)]
pub struct Model<'a> {
    values: Values<'a, { VARIABLES.len() }>,
    city: &'a str,
    strategy: Option<&'a str>,
    goals_without_tool: Vec<String>,
    ties: Ties<'a>,
}

/// Counts and lists of the ties in force.
#[derive(Debug, Default)]
struct Ties<'a> {
    in_force: usize,
    preparing: usize,
    suspended: usize,
    of_kind: [usize; 3],
    guidelines_needed: usize,
    guidelines_unknown: usize,
    languages_judged: usize,
    partners: HashSet<&'a str>,
    countries: BTreeSet<&'a str>,
    dormant: Vec<&'a str>,
    guidelines_missing: Vec<&'a str>,
    guidelines_overridden: Vec<&'a str>,
    languages_missing: Vec<&'a str>,
    without_goal: Vec<&'a str>,
}

/// The state of the strategy on a day. A superseded strategy is treated as no strategy.
struct Standing<'a> {
    state: &'static str,
    adopted: bool,
    lapsed: bool,
    past_election: i64,
    strategy: Option<&'a Strategy>,
}

impl<'a> Standing<'a> {
    fn of(strategy: Option<&'a Strategy>, date: NaiveDate) -> Self {
        let strategy = strategy.filter(|s| s.state() != StrategyState::Superseded);
        let over = strategy.and_then(Strategy::last_valid_date).is_some_and(|last| date > last);
        let state = match strategy.map(Strategy::state) {
            Some(StrategyState::Draft) => "DRAFT",
            // The timer that lets a strategy lapse can run later than this date.
            Some(StrategyState::Adopted) if !over => "ADOPTED",
            Some(StrategyState::Adopted | StrategyState::Lapsed) => "LAPSED",
            _ => "NONE",
        };
        let election = strategy.and_then(Strategy::adoption).map(|adoption| adoption.next_election_date);
        let past_election = election.map_or(0, |day| (date - day).num_days().max(0));
        Self { state, adopted: state == "ADOPTED", lapsed: state == "LAPSED", past_election, strategy }
    }

    /// Returns the strategy if it was adopted. The contents of a draft do not count.
    fn in_force(&self) -> Option<&'a Strategy> {
        self.strategy.filter(|_| self.adopted || self.lapsed)
    }
}

impl<'a> Ties<'a> {
    fn of(portfolio: &'a Portfolio, strategy: Option<&Strategy>) -> Self {
        let mut ties = Self::default();
        // Ties and tools are both sorted by the name of the agreement, so one pass finds the links.
        let mut tools = strategy.into_iter().flat_map(Strategy::tools).map(|link| link.tool.as_str()).peekable();
        for tie in portfolio.ties() {
            while tools.next_if(|tool| *tool < tie.agreement.as_str()).is_some() {}
            ties.preparing += usize::from(tie.state == TieState::Preparing);
            if tie.in_force() {
                ties.count(tie);
                if tools.peek() != Some(&tie.agreement.as_str()) {
                    ties.without_goal.push(&tie.agreement);
                }
                match shares_language(portfolio, &tie.partner_languages) {
                    Some(true) => ties.languages_judged += 1,
                    Some(false) => {
                        ties.languages_judged += 1;
                        ties.languages_missing.push(&tie.agreement);
                    }
                    None => {}
                }
            }
        }
        ties
    }

    fn count(&mut self, tie: &'a TieFact) {
        self.in_force += 1;
        self.suspended += usize::from(tie.state == TieState::Suspended);
        match tie.kind {
            AgreementKind::Twinning => self.of_kind[0] += 1,
            AgreementKind::Cooperation => self.of_kind[1] += 1,
            AgreementKind::Memorandum => self.of_kind[2] += 1,
            AgreementKind::Unspecified => {}
        }
        self.partners.insert(&tie.partner);
        if !tie.country.is_empty() {
            self.countries.insert(&tie.country);
        }
        if tie.dormant {
            self.dormant.push(&tie.agreement);
        }
        match tie.guidelines_needed {
            None => self.guidelines_unknown += 1,
            Some(false) => {}
            Some(true) => {
                self.guidelines_needed += 1;
                match (tie.guidelines_stated, tie.guidelines_overridden) {
                    (true, _) => {}
                    (false, true) => self.guidelines_overridden.push(&tie.agreement),
                    (false, false) => self.guidelines_missing.push(&tie.agreement),
                }
            }
        }
    }
}

/// Returns whether the city or its office shares a language with the partner; `None` if none of the known languages is
/// shared and further languages are unknown.
fn shares_language(portfolio: &Portfolio, partner: &[String]) -> Option<bool> {
    let (own, office) = (&portfolio.city().languages, portfolio.office());
    let in_office = office.languages.as_deref().unwrap_or_default();
    if partner.is_empty() {
        return None;
    }
    if partner.iter().any(|language| own.contains(language) || in_office.contains(language)) {
        return Some(true);
    }
    let office_known = office.languages.is_some() || office.exists == Some(false);
    if own.is_empty() || !office_known { None } else { Some(false) }
}

impl<'a> Model<'a> {
    /// Computes the values of all variables.
    #[must_use]
    pub fn of(portfolio: &'a Portfolio, strategy: Option<&'a Strategy>, date: NaiveDate) -> Self {
        let standing = Standing::of(strategy, date);
        let strategy = standing.in_force();
        let ties = Ties::of(portfolio, strategy);
        let goals_without_tool = strategy.map_or_else(Vec::new, |s| without_tool(s, portfolio));
        Self {
            values: Values::new(&VARIABLES, slots(portfolio, &standing, &ties, goals_without_tool.len(), date)),
            city: &portfolio.city().city,
            strategy: strategy.map(Strategy::name),
            goals_without_tool,
            ties,
        }
    }

    /// The values of the variables.
    #[must_use]
    pub fn values(&self) -> &Values<'a, { VARIABLES.len() }> {
        &self.values
    }

    /// The name of the strategy, if it is adopted or has lapsed.
    #[must_use]
    pub fn strategy(&self) -> Option<&'a str> {
        self.strategy
    }

    /// Returns the names of the records that a finding lists as evidence, sorted.
    #[must_use]
    pub fn evidence(&self, of: Evidence) -> Vec<&str> {
        let one = |name: &'a str| vec![name];
        match of {
            Evidence::City => one(self.city),
            Evidence::Strategy => one(self.strategy.unwrap_or(self.city)),
            Evidence::GoalsWithoutTool => self.goals_without_tool.iter().map(String::as_str).collect(),
            Evidence::ToolsWithoutGoal => self.ties.without_goal.clone(),
            Evidence::DormantTies => self.ties.dormant.clone(),
            Evidence::GuidelinesMissing => self.ties.guidelines_missing.clone(),
            Evidence::GuidelinesOverridden => self.ties.guidelines_overridden.clone(),
            Evidence::LanguagesMissing => self.ties.languages_missing.clone(),
        }
    }
}

/// Returns the names of the goals without a tool. A linked tool that is missing from the portfolio still serves its
/// goals, because the tool is not known to have ended.
fn without_tool(strategy: &Strategy, portfolio: &Portfolio) -> Vec<String> {
    let ended: HashSet<&str> =
        portfolio.ties().filter(|tie| tie.state == TieState::Ended).map(|tie| tie.agreement.as_str()).collect();
    let over = |tool: &str| ended.contains(tool);
    let served: BTreeSet<&str> =
        strategy.tools().filter(|t| !over(&t.tool)).flat_map(|t| t.goals.iter().map(String::as_str)).collect();
    let bare = strategy.goals().filter(|goal| !served.contains(goal.id.as_str()));
    bare.map(|goal| strategy.goal_name(&goal.id)).collect()
}

/// Returns the values in the order of `VARIABLES`.
fn slots<'a>(
    portfolio: &'a Portfolio,
    standing: &Standing<'a>,
    ties: &Ties<'a>,
    goals_without_tool: usize,
    date: NaiveDate,
) -> [Slot<'a>; VARIABLES.len()] {
    let strategy = standing.in_force();
    let describes = |field: &str| Slot::bool(strategy.is_some_and(|s| s.describes(field)));
    let goals = strategy.map_or(0, |s| s.goals().count());
    let of_kind = |kind| strategy.map_or(0, |s| s.goals().filter(|g| g.kind() == kind).count());
    let dimensions: BTreeSet<_> = strategy.iter().flat_map(|s| s.goals().map(|g| g.dimension)).collect();
    let (election, office) = (portfolio.city().next_election, portfolio.office());
    let kinds = [AgreementKind::Twinning, AgreementKind::Cooperation, AgreementKind::Memorandum];
    let kinds = kinds.iter().zip(ties.of_kind).filter(|(_, n)| *n > 0).map(|(kind, _)| kind.as_str_name());
    [
        describes("assessment"),
        Slot::count(ties.of_kind[1]),
        Slot::int(standing.past_election),
        Slot::int(election.map_or(0, |day| (day - date).num_days().max(0))),
        describes("engagement"),
        Slot::texts(dimensions.iter().map(|d| d.as_str_name().trim_start_matches("DIMENSION_"))),
        Slot::count(goals),
        Slot::count(of_kind(GoalKind::Interest)),
        Slot::count(of_kind(GoalKind::Value)),
        Slot::count(goals - goals_without_tool),
        Slot::count(goals_without_tool),
        Slot::count(ties.guidelines_missing.len()),
        Slot::count(ties.guidelines_needed),
        Slot::count(ties.guidelines_overridden.len()),
        Slot::count(ties.guidelines_unknown),
        Slot::count(ties.languages_judged),
        Slot::count(ties.languages_missing.len()),
        Slot::count(ties.of_kind[2]),
        Slot::bool(election.is_some()),
        Slot::bool(office.exists == Some(true)),
        Slot::bool(office.exists.is_some()),
        Slot::count(office.languages.as_ref().map_or(0, Vec::len)),
        Slot::texts(ties.countries.iter().copied()),
        Slot::count(ties.partners.len()),
        describes("shock_response"),
        Slot::bool(standing.adopted),
        Slot::bool(strategy.is_some()),
        Slot::bool(standing.lapsed),
        Slot::text(standing.state),
        Slot::texts(kinds.map(|name| name.trim_start_matches("AGREEMENT_KIND_"))),
        Slot::count(ties.in_force),
        Slot::count(ties.in_force - ties.dormant.len()),
        Slot::count(ties.dormant.len()),
        Slot::count(ties.preparing),
        Slot::count(ties.suspended),
        Slot::count(ties.in_force - ties.without_goal.len()),
        Slot::count(ties.without_goal.len()),
        Slot::count(ties.of_kind[0]),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::portfolio::tests::{city, day, office, tie};
    use hansa_expressions::{Answer, Environment, Type};

    // ST-8.
    #[test]
    fn st_8_every_name_has_a_value_of_its_type_in_sorted_order() {
        assert!(VARIABLES.windows(2).all(|two| two[0].name < two[1].name));
        let portfolio = Portfolio::new(city(), office(), [tie(1)]);
        let model = Model::of(&portfolio, None, day(2025, 1, 1));
        for (variable, value) in model.values().iter() {
            assert_eq!(value.kind(), Some(variable.kind), "{}", variable.name);
            assert!(!variable.description.is_empty());
        }
    }

    #[test]
    fn st_8_names_say_what_they_promise() {
        let strategy = crate::strategy::tests::adopted();
        let dormant = TieFact { dormant: true, ..tie(2) };
        let portfolio = Portfolio::new(city(), office(), [tie(1), dormant]);
        let model = Model::of(&portfolio, Some(&strategy), day(2025, 6, 1));
        let environment = Environment::new(&VARIABLES);
        let scope = environment.scope(model.values());
        for truth in [
            "ties == 2 && ties_alive == 1 && ties_dormant == 1 && twinnings == 2 && partners == 2",
            "tie_kinds.all(k, k == 'TWINNING') && partner_countries.all(c, c == 'DE') && goal_dimensions.all(d, d == 'CULTURE')",
            "tie_kinds.size() == 1 && partner_countries.size() == 1 && goal_dimensions.size() == 1",
            "strategy_state == 'ADOPTED' && strategy_adopted && strategy_exists && !strategy_lapsed",
            "goals == 2 && goals_value == 1 && goals_interest == 1 && goals_without_tool == 2 && goals_with_tool == 0",
            "tools_with_goal == 0 && tools_without_goal == 2 && office_exists && office_languages == 2",
            "days_to_election == 287 && days_past_election == 0 && next_election_known",
            "languages_judged == 2 && languages_missing == 0 && assessment_described && guidelines_needed == 0",
        ] {
            let answer = environment.compile(truth, &[Type::Bool]).unwrap().answer(&scope);
            assert_eq!(answer, Some(Answer::Bool(true)), "{truth}");
        }
    }
}
