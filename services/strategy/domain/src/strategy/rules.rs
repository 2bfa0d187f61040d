//! The rules of strategies (ST-1, ST-3, ST-4).

use super::{Strategy, TEXT_FIELDS, text_of};
use crate::goal::{self, GOALS, Goal, TOOLS, ToolLink};
use chrono::{Days, NaiveDate};
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Moment, Reason, Record as _, RecordId, RecordName, Refusal, Refused, Role,
    TenantId, mask,
    record::{Emitted, emit, tombstone},
    text, time,
};
use hansa_proto::{
    Masked,
    strategy::{
        self as proto, AdoptStrategyRequest, CreateStrategyRequest, DeleteStrategyRequest, GoalKind, LinkToolRequest,
        PutGoalRequest, RemoveGoalRequest, StrategyState, UnlinkToolRequest, UpdateStrategyRequest,
        strategy_change::Change,
    },
    types::Tombstone,
};

/// The roles that may write a draft: the office, the mayor, and the city's service accounts.
const DRAFTERS: [Role; 3] = [Role::IrOfficer, Role::Mayor, Role::ServiceAccount];
/// The roles that may record an adoption: the mayor in person, or the council's clerk for an adoption made on paper.
const ADOPTERS: [Role; 2] = [Role::Mayor, Role::CouncilClerk];
/// Largest number of years to the next election. A later date is probably a typing error.
pub const ELECTION_YEARS: u32 = 10;

/// The facts that the creation of a draft needs, from the service's mirrors and settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftFacts {
    /// The tenant of the city; `None` if the city is unknown or has not joined.
    pub city_tenant: Option<TenantId>,
    /// Months of validity after the election; `GRACE_MONTHS` by default.
    pub grace_months: u32,
}

/// Creates a draft (ST-1).
///
/// # Errors
/// Refused under ST-1 if the city is not the caller's or the caller's role does not write drafts; `INVALID_FIELD` if
/// the city or a text is malformed.
pub fn create(command: &CreateStrategyRequest, id: RecordId, facts: DraftFacts, caller: &Caller) -> Decision<Change> {
    let given = command.strategy.as_ref().ok_or_else(|| Refusal::field("strategy", "is required"))?;
    let city = RecordName::parse(&given.city, "cities", "strategy.city")?;
    drafts(caller)?;
    if facts.city_tenant != Some(caller.tenant) {
        return Err(Refusal::not_permitted(format!("{city} is not your city"))
            .under("ST-1")
            .help("Only the city's own office can draft a strategy. Join as that city first."));
    }
    checked(given, TEXT_FIELDS)?;
    let name = RecordName::new(Strategy::COLLECTION, id).to_string();
    let mut strategy = proto::Strategy { name, city: city.to_string(), ..Default::default() };
    for field in TEXT_FIELDS {
        strategy.copy_field(field, given);
    }
    emit(proto::StrategyCreated {
        tenant: caller.tenant.name(),
        strategy: Some(strategy),
        grace_months: i32::try_from(facts.grace_months).unwrap_or(i32::MAX),
    })
}

/// Updates the masked texts of a draft.
///
/// # Errors
/// Refused under ST-1 if the strategy is not a draft or the caller's role does not write drafts; `INVALID_FIELD` if a
/// path of the mask is not a text field.
pub fn update(state: &Strategy, command: &UpdateStrategyRequest, caller: &Caller) -> Decision<Change> {
    drafts(caller)?;
    a_draft(state, "change its texts")?;
    let given = command.strategy.as_ref().ok_or_else(|| Refusal::field("strategy", "is required"))?;
    let fields = mask::fields(command.update_mask.as_ref(), TEXT_FIELDS)?;
    checked(given, &fields)?;
    let (mut texts, mut strategy) = (state.texts.clone(), proto::Strategy::default());
    let paths = mask::write(&mut texts, &mut strategy, given, &fields);
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    emit(proto::StrategyUpdated { strategy: Some(strategy), update_mask: Some(prost_types::FieldMask { paths }) })
}

/// Deletes a draft (PL-8).
///
/// # Errors
/// Refused under ST-1 if the strategy is not a draft or the caller's role does not write drafts; under PL-8 if the
/// request has no reason.
pub fn delete(state: &Strategy, command: &DeleteStrategyRequest, caller: &Caller) -> Refused<Tombstone> {
    drafts(caller)?;
    a_draft(state, "delete it")?;
    tombstone(&command.reason)
}

/// Adds a goal to a draft, or replaces it (ST-3).
///
/// # Errors
/// Refused under ST-1 if the strategy is not a draft or the caller's role does not write drafts; under ST-3 if the goal
/// is incomplete, or the strategy has `GOALS` goals already.
pub fn put_goal(state: &Strategy, command: &PutGoalRequest, caller: &Caller) -> Decision<Change> {
    drafts(caller)?;
    a_draft(state, "change its goals")?;
    let given = command.goal.as_ref().ok_or_else(|| Refusal::field("goal", "is required").under("ST-3"))?;
    let goal = Goal::parse("goal", given)?;
    match state.goal(&goal.id) {
        Some(before) if *before == goal => Ok(Vec::new()),
        None if state.goals().count() >= GOALS => {
            Err(too_many("ST-3", format!("a strategy has at most {GOALS} goals"), "Remove a goal, or merge some."))
        }
        _ => emit(proto::GoalPut { goal: Some(goal.to_proto()) }),
    }
}

/// Removes a goal from a draft.
///
/// # Errors
/// Refused under ST-1 if the strategy is not a draft or the caller's role does not write drafts; `NOT_FOUND` under ST-3
/// if the draft has no such goal.
pub fn remove_goal(state: &Strategy, command: &RemoveGoalRequest, caller: &Caller) -> Decision<Change> {
    drafts(caller)?;
    a_draft(state, "change its goals")?;
    if state.goal(&command.goal).is_none() {
        return Err(no_goal(state, &command.goal).under("ST-3"));
    }
    emit(proto::GoalRemoved { goal: command.goal.clone() })
}

/// Links a tool to the goals that it serves, or replaces its link. An adopted strategy can still be linked (ST-4).
///
/// # Errors
/// Refused under ST-1 if the strategy is superseded or has lapsed, or the caller's role does not write drafts; under
/// ST-4 if the link is malformed, names an unknown goal, or the strategy links `TOOLS` tools already.
pub fn link_tool(state: &Strategy, command: &LinkToolRequest, caller: &Caller) -> Decision<Change> {
    drafts(caller)?;
    alive(state)?;
    let given = command.link.as_ref().ok_or_else(|| Refusal::field("link", "is required").under("ST-4"))?;
    let link = ToolLink::parse("link", given)?;
    if let Some(unknown) = link.goals.iter().find(|id| state.goal(id).is_none()) {
        return Err(no_goal(state, unknown));
    }
    match state.tool(&link.tool) {
        Some(before) if *before == link => Ok(Vec::new()),
        None if state.tools().count() >= TOOLS => {
            Err(too_many("ST-4", format!("a strategy links at most {TOOLS} tools"), "Unlink a tool that has ended."))
        }
        _ => emit(proto::ToolLinked { link: Some(link.to_proto()) }),
    }
}

/// Removes the link of a tool (ST-4).
///
/// # Errors
/// Refused under ST-1 if the strategy is superseded or has lapsed, or the caller's role does not write drafts; under
/// ST-4 if the name is malformed; `NOT_FOUND` under ST-4 if the strategy does not link the tool.
pub fn unlink_tool(state: &Strategy, command: &UnlinkToolRequest, caller: &Caller) -> Decision<Change> {
    drafts(caller)?;
    alive(state)?;
    goal::tool("tool", &command.tool)?;
    if state.tool(&command.tool).is_none() {
        let what = format!("{} serves no goal of {}", command.tool, state.name);
        return Err(Refusal::because(Reason::NotFound, "ST-4", what).help("Read the strategy to see its tools."));
    }
    emit(proto::ToolUnlinked { tool: command.tool.clone() })
}

/// Adopts a draft for mayor and council (ST-1, ST-3). `election` is the next municipal election recorded in the city's
/// public entry, if there is one.
///
/// # Errors
/// Refused under ST-1 if the caller may not adopt, the strategy is not a draft, the council's vote, the mayor's date,
/// the document or the election is missing, or the council did not vote in favour; under ST-3 if a kind of goals is
/// missing.
pub fn adopt(
    state: &Strategy,
    command: &AdoptStrategyRequest,
    election: Option<NaiveDate>,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let Some(role) = caller.acting_as(&ADOPTERS) else {
        return Err(Refusal::not_permitted("only the mayor or the council's clerk can adopt a strategy")
            .under("ST-1")
            .help("Ask the mayor to adopt it, or the council's clerk to record an adoption made on paper."));
    };
    a_draft(state, "adopt it")?;
    let council_vote = vote(command, at)?;
    let mayor_date = mayor_date(command, role, at)?;
    text::reference("document", &command.document)?;
    let next_election = next_election(command, election, at)?;
    both_kinds(state)?;
    let valid_until = time::months_later(next_election, state.grace_months);
    let adoption = proto::Adoption {
        mayor_date: Some(time::date(mayor_date)),
        council_vote: Some(council_vote),
        next_election: Some(time::date(next_election)),
        document: command.document.clone(),
    };
    let change = proto::StrategyAdopted { adoption: Some(adoption), valid_until: Some(time::date(valid_until)) };
    let level = if role == Role::Mayor { AssuranceLevel::Host } else { AssuranceLevel::Recorded };
    Ok(vec![Emitted::at_level(change, None, level)])
}

/// Supersedes this strategy by a newer adopted strategy of the city (ST-1). Does nothing if this strategy is a draft,
/// is already superseded, or is the newer one itself.
///
/// # Errors
/// `INVALID_FIELD` if `by` is not the name of a strategy.
pub fn supersede(state: &Strategy, by: &str) -> Decision<Change> {
    RecordName::parse(by, Strategy::COLLECTION, "by")?;
    if by == state.name || !matches!(state.state, StrategyState::Adopted | StrategyState::Lapsed) {
        return Ok(Vec::new());
    }
    let change = proto::StrategySuperseded { by: by.to_owned() };
    Ok(vec![Emitted::at_level(change, Some(state.tenant), AssuranceLevel::Host)])
}

fn drafts(caller: &Caller) -> Refused<()> {
    if caller.acting_as(&DRAFTERS).is_some() {
        return Ok(());
    }
    Err(Refusal::not_permitted("only the office, the mayor or a service account of the city can draft a strategy")
        .under("ST-1")
        .help("Ask an officer of the international relations office."))
}

fn a_draft(state: &Strategy, act: &str) -> Refused<()> {
    if state.state == StrategyState::Draft {
        return Ok(());
    }
    let what = format!("{} is {}; you can {act} only while it is a draft", state.name, said(state.state));
    Err(Refusal::out_of_order("ST-1", what).help("Draft a new strategy. Once adopted, it supersedes this one."))
}

fn alive(state: &Strategy) -> Refused<()> {
    if matches!(state.state, StrategyState::Draft | StrategyState::Adopted) {
        return Ok(());
    }
    let what = format!("{} is {}; its tools can no longer be changed", state.name, said(state.state));
    Err(Refusal::out_of_order("ST-1", what).help("Link the tool in the strategy in force, or in a new draft."))
}

fn said(state: StrategyState) -> &'static str {
    match state {
        StrategyState::Unspecified => "in an unknown state",
        StrategyState::Draft => "a draft",
        StrategyState::Adopted => "adopted",
        StrategyState::Superseded => "superseded",
        StrategyState::Lapsed => "lapsed",
    }
}

fn too_many(rule: &'static str, message: String, help: &str) -> Refusal {
    Refusal::because(Reason::Limit, rule, message).help(help)
}

fn no_goal(state: &Strategy, id: &str) -> Refusal {
    let what = format!("{} has no goal `{}`", state.name, text::excerpt(id));
    Refusal::because(Reason::NotFound, "ST-4", what).help("Read the strategy to see the ids of its goals.")
}

/// Checks the given text fields of a strategy.
fn checked(given: &proto::Strategy, fields: &[&str]) -> Refused<()> {
    fields.iter().try_for_each(|field| {
        let check = if *field == "title" { text::required } else { text::optional };
        check(&format!("strategy.{field}"), &text_of(given, field))
    })
}

/// Refuses a date later than tomorrow in UTC. No time zone is more than a day ahead of UTC, so tomorrow can be the
/// caller's today.
fn not_in_the_future(field: &str, day: NaiveDate, at: Moment) -> Refused<()> {
    if at.today().checked_add_days(Days::new(1)).is_some_and(|latest| day > latest) {
        return Err(Refusal::field(field, "is in the future").under("ST-1"));
    }
    Ok(())
}

fn vote(command: &AdoptStrategyRequest, at: Moment) -> Refused<proto::CouncilVote> {
    let vote = command.council_vote.as_ref().ok_or_else(|| {
        Refusal::rule("ST-1", "the council has not voted on this strategy")
            .missing("council_vote", "the council's vote, with its date and reference")
            .help("Record the council's vote with its date and reference.")
    })?;
    let date = time::day("council_vote.date", vote.date.as_ref()).map_err(|refusal| refusal.under("ST-1"))?;
    not_in_the_future("council_vote.date", date, at)?;
    text::name("council_vote.reference", &vote.reference).map_err(|refusal| refusal.under("ST-1"))?;
    let votes = [vote.in_favour, vote.against, vote.abstentions];
    if votes.iter().any(|votes| *votes < 0) {
        return Err(Refusal::field("council_vote", "has a negative number of votes").under("ST-1"));
    }
    if votes != [0; 3] && vote.in_favour <= vote.against {
        return Err(Refusal::rule("ST-1", "the council did not vote in favour of this strategy")
            .missing("council_vote", "more votes in favour than against")
            .help("Change the draft, and record a new vote of the council."));
    }
    Ok(vote.clone())
}

fn mayor_date(command: &AdoptStrategyRequest, role: Role, at: Moment) -> Refused<NaiveDate> {
    if role != Role::Mayor && command.document.is_empty() {
        return Err(Refusal::rule("ST-1", "an adoption made on paper needs its document")
            .missing("document", "a reference to the signed document")
            .help("Name the document, or ask the mayor to adopt the strategy in person."));
    }
    let day = time::day_if_any("mayor_date", command.mayor_date.as_ref()).map_err(|refusal| refusal.under("ST-1"))?;
    let day = match day {
        None if role == Role::Mayor => at.today(),
        None => return Err(Refusal::field("mayor_date", "is required").under("ST-1")),
        Some(day) => day,
    };
    not_in_the_future("mayor_date", day, at)?;
    Ok(day)
}

fn next_election(command: &AdoptStrategyRequest, known: Option<NaiveDate>, at: Moment) -> Refused<NaiveDate> {
    let given =
        time::day_if_any("next_election", command.next_election.as_ref()).map_err(|refusal| refusal.under("ST-1"))?;
    let election = known.or(given).ok_or_else(|| {
        Refusal::rule("ST-1", "the end of validity depends on the next municipal election, which is unknown")
            .missing("next_election", "the date of the next municipal election")
            .help("State the date here, or record it in the city's public entry.")
    })?;
    if given.is_some_and(|given| given != election) {
        let what = format!("differs from {election}, the next election in the city's public entry");
        return Err(Refusal::field("next_election", what)
            .under("ST-1")
            .help("Leave the field out, or correct the city's entry first."));
    }
    let latest = time::months_later(at.today(), ELECTION_YEARS * 12);
    if election < at.today() || election > latest {
        let what = format!("the next election, {election}, is in the past or more than {ELECTION_YEARS} years away");
        return Err(Refusal::rule("ST-1", what)
            .missing("next_election", "the date of the next municipal election")
            .help("Record the date of the coming election in the city's public entry."));
    }
    Ok(election)
}

/// Checks that the strategy has goals of both kinds (ST-3). The refusal names every missing kind.
fn both_kinds(state: &Strategy) -> Refused<()> {
    let kinds = [
        (GoalKind::Value, "a goal based on values: peace, solidarity, global challenges or regional integration"),
        (GoalKind::Interest, "a goal based on interests: better services, economic or cultural attractiveness"),
    ];
    let missing: Vec<_> = kinds.into_iter().filter(|(kind, _)| !state.has_kind(*kind)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let refusal = Refusal::rule("ST-3", "a strategy needs goals based on values and goals based on interests");
    let refusal = missing.into_iter().fold(refusal, |refusal, (kind, what)| refusal.missing(kind.as_str_name(), what));
    Err(refusal.help("Add the missing goals to the draft, and let the council vote on all of it."))
}
