//! The rules of strategies (ST-1, ST-3, ST-4).

use super::{Strategy, TEXT_FIELDS, text_of};
use crate::goal::{self, GOALS, Goal, TOOLS, ToolLink};
use chrono::{Days, NaiveDate};
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Moment, ReasonClass, Record as _, RecordId, RecordName, Refusal, Refused, Role,
    TenantId, attachment, council_vote, mask,
    record::{Emitted, emit, tombstone},
    refusal, text, time,
};
use hansa_proto::{
    Masked,
    strategy::{
        self as proto, AdoptStrategyRequest, CreateStrategyRequest, DeleteGoalRequest, DiscardStrategyRequest,
        GoalKind, LinkToolRequest, SetGoalRequest, StrategyState, UnlinkToolRequest, UpdateStrategyRequest,
        strategy_change::Change,
    },
    types::{CouncilVote, Tombstone, VoteResult},
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
        return Err(Refusal::not_permitted("NOT_OWN_CITY", format!("{city} is not your city"))
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
pub fn delete(state: &Strategy, command: &DiscardStrategyRequest, caller: &Caller) -> Refused<Tombstone> {
    drafts(caller)?;
    a_draft(state, "delete it")?;
    tombstone(&command.reason)
}

/// Adds a goal to a draft, or replaces it (ST-3).
///
/// # Errors
/// Refused under ST-1 if the strategy is not a draft or the caller's role does not write drafts; under ST-3 if the goal
/// is incomplete, or the strategy has `GOALS` goals already.
pub fn set_goal(state: &Strategy, command: &SetGoalRequest, caller: &Caller) -> Decision<Change> {
    drafts(caller)?;
    a_draft(state, "change its goals")?;
    let given = command.goal.as_ref().ok_or_else(|| Refusal::field("goal", "is required").under("ST-3"))?;
    let goal = Goal::parse("goal", given)?;
    match state.goal(&goal.id) {
        Some(before) if *before == goal => Ok(Vec::new()),
        None if state.goals().count() >= GOALS => Err(Refusal::because(
            ReasonClass::Limit,
            "ST-3",
            "TOO_MANY_GOALS",
            format!("a strategy has at most {GOALS} goals"),
        )
        .help("Remove a goal, or merge some.")),
        _ => emit(proto::GoalSet { goal: Some(goal.to_proto()) }),
    }
}

/// Removes a goal from a draft.
///
/// # Errors
/// Refused under ST-1 if the strategy is not a draft or the caller's role does not write drafts; `NOT_FOUND` under ST-3
/// if the draft has no such goal.
pub fn delete_goal(state: &Strategy, command: &DeleteGoalRequest, caller: &Caller) -> Decision<Change> {
    drafts(caller)?;
    a_draft(state, "change its goals")?;
    if state.goal(&command.goal_id).is_none() {
        return Err(no_goal(state, &command.goal_id).under("ST-3"));
    }
    emit(proto::GoalDeleted { goal_id: command.goal_id.clone() })
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
        None if state.tools().count() >= TOOLS => Err(Refusal::because(
            ReasonClass::Limit,
            "ST-4",
            "TOO_MANY_TOOLS",
            format!("a strategy links at most {TOOLS} tools"),
        )
        .help("Unlink a tool that has ended.")),
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
        return Err(Refusal::because(ReasonClass::NotFound, "ST-4", "TOOL_NOT_LINKED", what)
            .help("Read the strategy to see its tools."));
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
        return Err(Refusal::not_permitted(
            "NOT_ADOPTER",
            "only the mayor or the council's clerk can adopt a strategy",
        )
        .under("ST-1")
        .help("Ask the mayor to adopt it, or the council's clerk to record an adoption made on paper."));
    };
    a_draft(state, "adopt it")?;
    let vote = vote(command, at);
    let adopted = mayor_adoption_date(command, role, at);
    let document = attachment::optional("document", command.document.as_ref());
    let election = next_election(command, election, at);
    let found = [vote.clone().map(drop), adopted.clone().map(drop), document.map(drop), election.clone().map(drop)];
    refusal::all(found.into_iter().chain([both_kinds(state)]))?;
    let (council_vote, mayor_adoption_date, next_election) = (vote?, adopted?, election?);
    let last_valid_date = time::months_later(next_election, state.grace_months);
    let adoption = proto::Adoption {
        mayor_adoption_date: Some(time::date(mayor_adoption_date)),
        council_vote: Some(council_vote),
        next_election_date: Some(time::date(next_election)),
        document: command.document.clone(),
    };
    let change =
        proto::StrategyAdopted { adoption: Some(adoption), last_valid_date: Some(time::date(last_valid_date)) };
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
    let change = proto::StrategySuperseded { superseding_strategy: by.to_owned() };
    Ok(vec![Emitted::at_level(change, Some(state.tenant), AssuranceLevel::Host)])
}

fn drafts(caller: &Caller) -> Refused<()> {
    if caller.acting_as(&DRAFTERS).is_some() {
        return Ok(());
    }
    Err(Refusal::not_permitted(
        "NOT_DRAFTER",
        "only the office, the mayor or a service account of the city can draft a strategy",
    )
    .under("ST-1")
    .help("Ask an officer of the international relations office."))
}

fn a_draft(state: &Strategy, act: &str) -> Refused<()> {
    if state.state == StrategyState::Draft {
        return Ok(());
    }
    let what = format!("{} is {}; you can {act} only while it is a draft", state.name, said(state.state));
    Err(Refusal::out_of_order("ST-1", "NOT_A_DRAFT", what)
        .help("Draft a new strategy. Once adopted, it supersedes this one."))
}

fn alive(state: &Strategy) -> Refused<()> {
    if matches!(state.state, StrategyState::Draft | StrategyState::Adopted) {
        return Ok(());
    }
    let what = format!("{} is {}; its tools can no longer be changed", state.name, said(state.state));
    Err(Refusal::out_of_order("ST-1", "TOOLS_FIXED", what)
        .help("Link the tool in the strategy in force, or in a new draft."))
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

fn no_goal(state: &Strategy, id: &str) -> Refusal {
    let what = format!("{} has no goal `{}`", state.name, text::excerpt(id));
    Refusal::because(ReasonClass::NotFound, "ST-4", "GOAL_NOT_FOUND", what)
        .help("Read the strategy to see the ids of its goals.")
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

fn vote(command: &AdoptStrategyRequest, at: Moment) -> Refused<CouncilVote> {
    if command.council_vote.is_none() {
        return Err(Refusal::rule("ST-1", "COUNCIL_VOTE_MISSING", "the council has not voted on this strategy")
            .missing("council_vote", "the recorded vote of the council, with its date and minutes")
            .help("Record the council's vote with its date and minutes."));
    }
    let vote = council_vote::check("council_vote", command.council_vote.as_ref(), at);
    let vote = vote.map_err(|refusal| refusal.under("ST-1"))?;
    if vote.result() != VoteResult::Approved || council_vote::is_outvoted(&vote) {
        return Err(Refusal::rule(
            "ST-1",
            "COUNCIL_VOTE_NOT_IN_FAVOR",
            "the council did not vote in favor of this strategy",
        )
        .missing("council_vote", "an approval, with more votes in favor than against")
        .help("Change the draft, and record a new vote of the council."));
    }
    Ok(vote)
}

fn mayor_adoption_date(command: &AdoptStrategyRequest, role: Role, at: Moment) -> Refused<NaiveDate> {
    if role != Role::Mayor && command.document.is_none() {
        return Err(Refusal::rule("ST-1", "ADOPTION_DOCUMENT_MISSING", "an adoption made on paper needs its document")
            .missing("document", "a reference to the signed document")
            .help("Name the document, or ask the mayor to adopt the strategy in person."));
    }
    let day = time::day_if_any("mayor_adoption_date", command.mayor_adoption_date.as_ref())
        .map_err(|refusal| refusal.under("ST-1"))?;
    let day = match day {
        None if role == Role::Mayor => at.today(),
        None => return Err(Refusal::field("mayor_adoption_date", "is required").under("ST-1")),
        Some(day) => day,
    };
    not_in_the_future("mayor_adoption_date", day, at)?;
    Ok(day)
}

fn next_election(command: &AdoptStrategyRequest, known: Option<NaiveDate>, at: Moment) -> Refused<NaiveDate> {
    let given = time::day_if_any("next_election_date", command.next_election_date.as_ref())
        .map_err(|refusal| refusal.under("ST-1"))?;
    let election = known.or(given).ok_or_else(|| {
        Refusal::rule(
            "ST-1",
            "NEXT_ELECTION_UNKNOWN",
            "the end of validity depends on the next municipal election, which is unknown",
        )
        .missing("next_election_date", "the date of the next municipal election")
        .help("State the date here, or record it in the city's public entry.")
    })?;
    if given.is_some_and(|given| given != election) {
        let what = format!("differs from {election}, the next election in the city's public entry");
        return Err(Refusal::field("next_election_date", what)
            .under("ST-1")
            .help("Leave the field out, or correct the city's entry first."));
    }
    let latest = time::months_later(at.today(), ELECTION_YEARS * 12);
    if election < at.today() || election > latest {
        let what = format!("the next election, {election}, is in the past or more than {ELECTION_YEARS} years away");
        return Err(Refusal::rule("ST-1", "NEXT_ELECTION_UNFIT", what)
            .missing("next_election_date", "the date of the next municipal election")
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
    let refusal = Refusal::rule(
        "ST-3",
        "GOAL_KINDS_MISSING",
        "a strategy needs goals based on values and goals based on interests",
    );
    let refusal = missing.into_iter().fold(refusal, |refusal, (kind, what)| refusal.missing(kind.as_str_name(), what));
    Err(refusal.help("Add the missing goals to the draft, and let the council vote on all of it."))
}
