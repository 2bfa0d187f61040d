//! Simulations: evaluate a hypothetical portfolio and strategy without recording anything (ST-9).

use crate::{
    evaluation::evaluate,
    goal::{GOALS, Goal, TOOLS, ToolLink},
    portfolio::{OfficeFact, PartnerFact, Portfolio},
    rubric::Rubric,
    strategy::Strategy,
};
use chrono::NaiveDate;
use hansa_kernel::{ReasonClass, Refusal, Refused, TenantId, limits, text, time};
use hansa_proto::strategy::{
    self as proto, Evaluation, Finding, Score, ScoreDifference, SimulatePortfolioResponse, SimulationStep,
    StrategyState, ToolPurpose,
    simulation_step::{self, Step},
};
use hansa_proto::types::AgreementKind;
use std::collections::{BTreeMap, BTreeSet};

/// Largest number of steps per simulation.
pub const STEPS: usize = 50;
/// Assumed months until the next election, for a strategy that a simulation adopts, if the city's next election is
/// unknown. Four years are a usual term.
const TERM_MONTHS: u32 = 48;

/// Evaluates the city before and after the steps. `partners` holds the facts of the cities that steps may sign with, by
/// resource name; the service reads them from its mirrors.
///
/// # Errors
/// `LIMIT` under ST-9 if there are more than `STEPS` steps; `INVALID_FIELD` under ST-9, with the step, if a step is
/// malformed or names an unknown city, agreement or goal.
pub fn simulate(
    rubric: &Rubric,
    portfolio: &Portfolio,
    strategy: Option<&Strategy>,
    steps: &[SimulationStep],
    partners: &BTreeMap<String, PartnerFact>,
    date: NaiveDate,
) -> Refused<SimulatePortfolioResponse> {
    if steps.len() > STEPS {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "ST-9",
            "TOO_MANY_STEPS",
            format!("a simulation has at most {STEPS} steps"),
        )
        .help("Leave out steps that do not matter, or split the simulation."));
    }
    let before = evaluate(rubric, portfolio, strategy, date);
    let mut world = World {
        portfolio: portfolio.clone(),
        strategy: strategy.cloned(),
        partners,
        date,
        agreements: BTreeSet::new(),
    };
    for (place, what_if) in steps.iter().enumerate() {
        let field = format!("steps[{place}]");
        world.take(&field, place + 1, what_if).map_err(|refusal| refusal.under("ST-9"))?;
    }
    let after = evaluate(rubric, &world.portfolio, world.strategy.as_ref(), date);
    Ok(compared(before, after))
}

/// Returns the names of the cities whose facts a simulation needs.
pub fn partners_of(steps: &[SimulationStep]) -> impl Iterator<Item = &str> {
    steps.iter().filter_map(|what_if| match &what_if.step {
        Some(Step::SignAgreement(sign)) => Some(sign.partner.as_str()),
        _ => None,
    })
}

struct World<'p> {
    portfolio: Portfolio,
    strategy: Option<Strategy>,
    partners: &'p BTreeMap<String, PartnerFact>,
    date: NaiveDate,
    /// The names of the agreements that the simulation has signed.
    agreements: BTreeSet<String>,
}

impl World<'_> {
    fn take(&mut self, field: &str, number: usize, what_if: &SimulationStep) -> Refused<()> {
        match what_if.step.as_ref().ok_or_else(|| Refusal::field(field, "names no step"))? {
            Step::SignAgreement(sign) => self.sign(&format!("{field}.sign_agreement"), number, sign),
            Step::EndAgreement(end) => {
                let done = self.portfolio.end(&end.agreement);
                found(done, &format!("{field}.end_agreement.agreement"), &end.agreement)
            }
            Step::RevitalizeAgreement(revive) => {
                let done = self.portfolio.revive(&revive.agreement, self.date);
                found(done, &format!("{field}.revitalize_agreement.agreement"), &revive.agreement)
            }
            Step::StateGuidelines(state) => {
                let done = self.portfolio.state_guidelines(&state.agreement);
                found(done, &format!("{field}.state_guidelines.agreement"), &state.agreement)
            }
            Step::SetOffice(office) => self.set_office(&format!("{field}.set_office"), office),
            Step::SetGoal(set) => self.set_goal(&format!("{field}.set_goal.goal"), set.goal.as_ref()),
            Step::LinkTool(tool) => self.link_tool(&format!("{field}.link_tool.link"), tool.link.as_ref()),
        }
    }

    fn sign(&mut self, field: &str, number: usize, sign: &simulation_step::SignAgreement) -> Refused<()> {
        let partner = self.partners.get(&sign.partner).ok_or_else(|| {
            let what = format!("`{}` is not a known city", text::excerpt(&sign.partner));
            Refusal::field(format!("{field}.partner"), what)
        })?;
        if partner.city == self.portfolio.city().city {
            return Err(Refusal::field(format!("{field}.partner"), "is the city itself"));
        }
        let kind = AgreementKind::try_from(sign.kind).ok().filter(|kind| *kind != AgreementKind::Unspecified);
        let kind = kind.ok_or_else(|| Refusal::field(format!("{field}.kind"), "is required"))?;
        let name = format!("agreements/what-if-{number}");
        self.portfolio.sign(name.clone(), kind, partner, sign.guidelines_stated, self.date);
        self.agreements.insert(name.clone());
        if sign.goal_ids.is_empty() {
            return Ok(());
        }
        let link = proto::ToolLink {
            tool: name,
            goal_ids: sign.goal_ids.clone(),
            purpose: ToolPurpose::Create as i32,
            note: Vec::new(),
        };
        self.link_tool(field, Some(&link))
    }

    fn set_office(&mut self, field: &str, office: &simulation_step::SetOffice) -> Refused<()> {
        if office.languages.len() > limits::LIST_ENTRIES {
            let what = format!("has more than {} entries", limits::LIST_ENTRIES);
            return Err(Refusal::field(format!("{field}.languages"), what));
        }
        for (place, language) in office.languages.iter().enumerate() {
            text::language(&format!("{field}.languages[{place}]"), language)?;
        }
        self.portfolio
            .set_office(OfficeFact { exists: Some(office.exists), languages: Some(office.languages.clone()) });
        Ok(())
    }

    /// Adds a goal. A goal counts only in a strategy in force, so the simulation adopts a strategy if none is in force.
    fn set_goal(&mut self, field: &str, goal: Option<&proto::Goal>) -> Refused<()> {
        let goal = Goal::parse(field, goal.ok_or_else(|| Refusal::field(field, "is required"))?)?;
        let strategy = self.strategy.take().filter(|s| in_force(s, self.date)).unwrap_or_else(|| self.adopted());
        if strategy.goals().count() >= GOALS && strategy.goal(&goal.id).is_none() {
            return Err(Refusal::field(field, format!("exceeds the limit of {GOALS} goals")));
        }
        self.strategy.insert(strategy).put(goal);
        Ok(())
    }

    fn adopted(&self) -> Strategy {
        let city = self.portfolio.city();
        let election = city.next_election.filter(|day| *day >= self.date);
        let election = election.unwrap_or_else(|| time::months_later(self.date, TERM_MONTHS));
        Strategy::hypothetical(TenantId(uuid::Uuid::nil()), &city.city, self.date, election)
    }

    fn link_tool(&mut self, field: &str, link: Option<&proto::ToolLink>) -> Refused<()> {
        let link = link.ok_or_else(|| Refusal::field(field, "is required"))?;
        let link = if self.agreements.contains(&link.tool) {
            ToolLink::read(field, link)?
        } else {
            ToolLink::parse(field, link)?
        };
        if self.portfolio.tie(&link.tool).is_none() {
            return Err(unknown(&format!("{field}.tool"), &link.tool));
        }
        let strategy = self.strategy.as_mut().filter(|s| in_force(s, self.date));
        let strategy = strategy.ok_or_else(|| {
            Refusal::field(field, "needs a strategy in force").help("Add goals first to adopt a strategy.")
        })?;
        if let Some(goal) = link.goals.iter().find(|id| strategy.goal(id).is_none()) {
            return Err(unknown(&format!("{field}.goal_ids"), goal));
        }
        if strategy.tools().count() >= TOOLS && strategy.tool(&link.tool).is_none() {
            return Err(Refusal::field(field, format!("exceeds the limit of {TOOLS} tools")));
        }
        strategy.link(link);
        Ok(())
    }
}

fn in_force(strategy: &Strategy, date: NaiveDate) -> bool {
    strategy.state() == StrategyState::Adopted && strategy.last_valid_date().is_some_and(|last| date <= last)
}

fn found(done: bool, field: &str, name: &str) -> Refused<()> {
    if done { Ok(()) } else { Err(unknown(field, name)) }
}

fn unknown(field: &str, name: &str) -> Refusal {
    Refusal::field(field, format!("`{}` does not exist or has ended", text::excerpt(name)))
        .help("Name an agreement of the city, a goal of its strategy, or the agreement or goal of an earlier step.")
}

fn compared(before: Evaluation, after: Evaluation) -> SimulatePortfolioResponse {
    let overall = |evaluation: &Evaluation| evaluation.overall.map_or(0, |score| score.basis_points);
    SimulatePortfolioResponse {
        overall_difference_basis_points: overall(&after) - overall(&before),
        resolved: only_in(&before, &after),
        added: only_in(&after, &before),
        differences: differences(&before, &after),
        before: Some(before),
        after: Some(after),
    }
}

fn only_in(one: &Evaluation, other: &Evaluation) -> Vec<Finding> {
    let there: BTreeSet<&str> = other.findings.iter().map(|finding| finding.criterion_id.as_str()).collect();
    one.findings.iter().filter(|finding| !there.contains(finding.criterion_id.as_str())).cloned().collect()
}

fn differences(before: &Evaluation, after: &Evaluation) -> Vec<ScoreDifference> {
    let difference = |part, precondition, before: Option<Score>, after: Option<Score>| {
        (before != after).then_some(ScoreDifference { part, precondition, before, after })
    };
    let parts = before.parts.iter().zip(&after.parts).filter_map(|(b, a)| difference(b.part, 0, b.score, a.score));
    let preconditions = before.preconditions.iter().zip(&after.preconditions);
    let preconditions = preconditions.filter_map(|(b, a)| difference(0, b.precondition, b.score, a.score));
    parts.chain(preconditions).collect()
}

#[cfg(test)]
#[path = "simulate/tests.rs"]
mod tests;
