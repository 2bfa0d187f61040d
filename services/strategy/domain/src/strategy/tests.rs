//! Tests of the rules of strategies (ST-1, ST-3, ST-4, PL-8).
#![allow(clippy::unwrap_used)]
use super::Strategy;
use super::*;
use crate::goal::{
    GOALS,
    tests::{goal, words},
};
use chrono::Days;
use hansa_kernel::{Caller, Decision, Moment, PersonId, ReasonClass, RecordId, Role};
use hansa_proto::strategy::{
    AdoptStrategyRequest, CreateStrategyRequest, DeleteGoalRequest, DiscardStrategyRequest, GoalAim, LinkToolRequest,
    SetGoalRequest, ToolPurpose, UnlinkToolRequest, UpdateStrategyRequest,
};
use hansa_proto::types::{CouncilVote, VoteResult, council_vote::Tally};
use proptest::{prelude::*, strategy::Strategy as Any};
use uuid::Uuid;

const TENANT: TenantId = TenantId(Uuid::from_u128(1));

pub(crate) fn stamp(version: u64) -> Stamp {
    Stamp { version, at: now().now, actor: Default::default(), party: None, level: AssuranceLevel::Host }
}

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

fn now() -> Moment {
    Moment::at(day(2025, 6, 1).and_hms_opt(9, 0, 0).unwrap().and_utc())
}

fn election() -> NaiveDate {
    day(2026, 3, 15)
}

fn caller(role: Role) -> Caller {
    Caller { tenant: TENANT, person: PersonId(Uuid::from_u128(2)), roles: vec![role], scopes: vec!["*".into()] }
}

fn officer() -> Caller {
    caller(Role::IrOfficer)
}

fn facts() -> DraftFacts {
    DraftFacts { city_tenant: Some(TENANT), grace_months: GRACE_MONTHS }
}

fn agreement(n: u32) -> String {
    format!("agreements/{}", RecordId::from_source("agreement", &n.to_string()))
}

fn fold(mut state: Option<Strategy>, decision: Decision<Change>) -> Strategy {
    for emitted in decision.unwrap() {
        state = Some(Strategy::fold(state, &emitted.change, &stamp(1)).unwrap());
    }
    state.unwrap()
}

fn begin() -> CreateStrategyRequest {
    let city = format!("cities/{}", RecordId::from_source("test", "home"));
    let strategy = proto::Strategy {
        city,
        title: words("Out into the world"),
        assessment: words("Each year"),
        engagement: words("Town meetings"),
        shock_response: words("Call the twins"),
        ..Default::default()
    };
    CreateStrategyRequest { strategy: Some(strategy), ..Default::default() }
}

fn put(id: &str, aim: GoalAim) -> SetGoalRequest {
    SetGoalRequest { goal: Some(goal(id, aim)), ..Default::default() }
}

fn linked(n: u32, goals: &[&str]) -> LinkToolRequest {
    let goal_ids = goals.iter().map(|goal| (*goal).to_owned()).collect();
    let link = proto::ToolLink { tool: agreement(n), goal_ids, purpose: ToolPurpose::Revamp as i32, note: vec![] };
    LinkToolRequest { link: Some(link), ..Default::default() }
}

fn adoption() -> AdoptStrategyRequest {
    let vote = CouncilVote {
        result: VoteResult::Approved as i32,
        vote_date: Some(time::date(day(2025, 5, 20))),
        minutes: Some("2025-117".into()),
        tally: Some(Tally { for_count: 30, against_count: 12, abstention_count: 3 }),
    };
    AdoptStrategyRequest { council_vote: Some(vote), ..Default::default() }
}

pub(crate) fn draft() -> Strategy {
    let state = fold(None, create(&begin(), RecordId::from_source("test", "strategy"), facts(), &officer()));
    let state = fold(Some(state.clone()), set_goal(&state, &put("peace", GoalAim::ConflictPrevention), &officer()));
    fold(Some(state.clone()), set_goal(&state, &put("schools", GoalAim::BetterServices), &officer()))
}

pub(crate) fn adopted() -> Strategy {
    let state = draft();
    fold(Some(state.clone()), adopt(&state, &adoption(), Some(election()), &caller(Role::Mayor), now()))
}

#[test]
fn st_1_a_draft_is_begun_by_the_office_of_the_city_alone() {
    let id = RecordId::from_source("test", "strategy");
    let state = draft();
    assert_eq!(state.name(), format!("strategies/{id}"));
    assert_eq!((state.state(), state.owner(), state.due()), (StrategyState::Draft, TENANT, None));
    assert_eq!(state.audience(), Audience::of([TENANT]));
    let not_mine = DraftFacts { city_tenant: Some(TenantId(Uuid::from_u128(9))), ..facts() };
    for (facts, caller, reason) in [
        (not_mine, officer(), ReasonClass::NotPermitted),
        (DraftFacts { city_tenant: None, ..facts() }, officer(), ReasonClass::NotPermitted),
        (facts(), caller(Role::Observer), ReasonClass::NotPermitted),
    ] {
        let refusal = create(&begin(), id, facts, &caller).unwrap_err();
        assert_eq!((refusal.rule, refusal.class), ("ST-1", reason));
        assert!(!refusal.help.is_empty());
    }
    let mut untitled = begin();
    untitled.strategy.as_mut().unwrap().title.clear();
    assert_eq!(create(&untitled, id, facts(), &officer()).unwrap_err().missing[0].subject, "strategy.title");
}

#[test]
fn st_1_what_is_output_only_does_not_enter_a_draft() {
    let mut command = begin();
    let strategy = command.strategy.as_mut().unwrap();
    strategy.state = StrategyState::Adopted as i32;
    strategy.goals = vec![goal("x", GoalAim::BetterServices)];
    strategy.grace_months = 999;
    let state = fold(None, create(&command, RecordId::from_source("a", "b"), facts(), &officer()));
    assert_eq!((state.state(), state.goals().count()), (StrategyState::Draft, 0));
    assert_eq!(state.to_proto().grace_months, 6);
}

#[test]
fn st_1_texts_of_a_draft_are_changed_by_mask() {
    let state = draft();
    let request = |paths: &[&str]| UpdateStrategyRequest {
        strategy: Some(proto::Strategy { swot: words("Strong"), title: words("New"), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() }),
        ..Default::default()
    };
    let after = fold(Some(state.clone()), update(&state, &request(&["swot", "assessment"]), &officer()));
    assert!(after.describes("swot") && !after.describes("assessment") && after.describes("engagement"));
    assert_eq!(after.to_proto().title, words("Out into the world"));
    let all = fold(Some(state.clone()), update(&state, &request(&["*"]), &officer()));
    assert!(!all.describes("engagement") && all.to_proto().title == words("New"));
    assert_eq!(update(&all, &request(&["*"]), &officer()).unwrap(), []);
    for bad in [&[][..], &["state"], &["goals"], &["swot", "nothing"]] {
        assert_eq!(update(&state, &request(bad), &officer()).unwrap_err().class, ReasonClass::InvalidField);
    }
    assert_eq!(update(&adopted(), &request(&["swot"]), &officer()).unwrap_err().rule, "ST-1");
}

#[test]
fn pl_8_a_draft_is_given_up_and_nothing_else() {
    let draft = draft();
    let reason = vec![LocalizedText { language_code: "en".into(), text: "Another one".into(), ..Default::default() }];
    let command = DiscardStrategyRequest { reason, ..Default::default() };
    assert_eq!(delete(&draft, &command, &officer()).unwrap().reason, command.reason);
    assert_eq!(delete(&draft, &DiscardStrategyRequest::default(), &officer()).unwrap_err().rule, "PL-8");
    assert_eq!(delete(&draft, &command, &caller(Role::Observer)).unwrap_err().class, ReasonClass::NotPermitted);
    assert_eq!(delete(&adopted(), &command, &officer()).unwrap_err().rule, "ST-1");
}

#[test]
fn st_3_goals_are_put_replaced_and_removed_with_their_links() {
    let state = draft();
    assert_eq!(set_goal(&state, &put("peace", GoalAim::ConflictPrevention), &officer()).unwrap(), []);
    let state = fold(Some(state.clone()), set_goal(&state, &put("peace", GoalAim::AidAndSolidarity), &officer()));
    assert_eq!(state.goal("peace").unwrap().aim, GoalAim::AidAndSolidarity);
    let state = fold(Some(state.clone()), link_tool(&state, &linked(1, &["peace"]), &officer()));
    let state = fold(Some(state.clone()), link_tool(&state, &linked(2, &["peace", "schools"]), &officer()));
    let remove = DeleteGoalRequest { goal_id: "peace".into(), ..Default::default() };
    let state = fold(Some(state.clone()), delete_goal(&state, &remove, &officer()));
    assert!(state.goal("peace").is_none() && state.tool(&agreement(1)).is_none());
    assert_eq!(state.tool(&agreement(2)).unwrap().goals.len(), 1);
    let refusal = delete_goal(&state, &remove, &officer()).unwrap_err();
    assert_eq!((refusal.rule, refusal.class), ("ST-3", ReasonClass::NotFound));
    assert!(set_goal(&adopted(), &put("x", GoalAim::BetterServices), &officer()).is_err());
}

#[test]
fn st_3_goals_are_capped() {
    let mut state = draft();
    for n in 2..GOALS {
        state.put(Goal::parse("goal", &goal(&format!("g{n}"), GoalAim::BetterServices)).unwrap());
    }
    let refusal = set_goal(&state, &put("one-more", GoalAim::BetterServices), &officer()).unwrap_err();
    assert_eq!((refusal.rule, refusal.class), ("ST-3", ReasonClass::Limit));
    assert!(set_goal(&state, &put("g5", GoalAim::GlobalChallenges), &officer()).is_ok());
}

#[test]
fn st_4_tools_are_linked_while_the_strategy_lives() {
    for state in [draft(), adopted()] {
        let state = fold(Some(state.clone()), link_tool(&state, &linked(1, &["peace"]), &officer()));
        assert_eq!(link_tool(&state, &linked(1, &["peace"]), &officer()).unwrap(), []);
        let refusal = link_tool(&state, &linked(1, &["war"]), &officer()).unwrap_err();
        assert_eq!((refusal.rule, refusal.class), ("ST-4", ReasonClass::NotFound));
        let unlink = UnlinkToolRequest { tool: agreement(1), ..Default::default() };
        let state = fold(Some(state.clone()), unlink_tool(&state, &unlink, &officer()));
        assert_eq!(unlink_tool(&state, &unlink, &officer()).unwrap_err().rule, "ST-4");
    }
    let over = fold(Some(adopted()), Ok(adopted().on_due(adopted().due().unwrap())));
    assert_eq!(link_tool(&over, &linked(1, &["peace"]), &officer()).unwrap_err().class, ReasonClass::OutOfOrder);
}

#[test]
fn st_1_mayor_and_council_adopt_until_the_election_and_a_grace_period() {
    let state = adopted();
    assert_eq!(state.state(), StrategyState::Adopted);
    assert_eq!(state.last_valid_date(), Some(day(2026, 9, 15)));
    assert_eq!(state.due(), Some(over_everywhere(day(2026, 9, 15))));
    assert_eq!(state.adoption().unwrap().mayor_adoption_date, now().today());
    let shown = state.to_proto().adoption.unwrap();
    assert_eq!(shown.council_vote, adoption().council_vote);
}

#[test]
fn st_1_the_grace_period_is_a_setting_fixed_at_creation() {
    let short = DraftFacts { grace_months: 2, ..facts() };
    let mut state = fold(None, create(&begin(), RecordId::from_source("a", "b"), short, &officer()));
    for (id, aim) in [("a", GoalAim::GlobalChallenges), ("b", GoalAim::BetterServices)] {
        state.put(Goal::parse("goal", &goal(id, aim)).unwrap());
    }
    let state = fold(Some(state.clone()), adopt(&state, &adoption(), Some(election()), &caller(Role::Mayor), now()));
    assert_eq!(state.last_valid_date(), Some(day(2026, 5, 15)));
}

#[test]
fn st_1_the_clerk_records_an_adoption_made_on_paper() {
    let mut command = adoption();
    let clerk = caller(Role::CouncilClerk);
    let refusal = adopt(&draft(), &command, Some(election()), &clerk, now()).unwrap_err();
    assert_eq!(refusal.missing[0].subject, "document");
    command.document = Some("file 12".into());
    let refusal = adopt(&draft(), &command, Some(election()), &clerk, now()).unwrap_err();
    assert_eq!(refusal.missing[0].subject, "mayor_adoption_date");
    command.mayor_adoption_date = Some(time::date(day(2025, 5, 21)));
    let emitted = adopt(&draft(), &command, Some(election()), &clerk, now()).unwrap();
    assert_eq!(emitted[0].level, AssuranceLevel::Recorded);
}

#[test]
fn st_1_an_adoption_is_refused_with_what_is_missing() {
    let tomorrow_but_one = time::date(now().today().checked_add_days(Days::new(2)).unwrap());
    let vote = |spoil: fn(&mut CouncilVote)| {
        let mut command = adoption();
        spoil(command.council_vote.as_mut().unwrap());
        command
    };
    let late = AdoptStrategyRequest { mayor_adoption_date: Some(tomorrow_but_one), ..adoption() };
    let other = AdoptStrategyRequest { next_election_date: Some(time::date(day(2027, 1, 1))), ..adoption() };
    for (command, known, subject) in [
        (AdoptStrategyRequest { council_vote: None, ..adoption() }, Some(election()), "council_vote"),
        (vote(|v| v.vote_date = None), Some(election()), "council_vote.vote_date"),
        (vote(|v| v.minutes = None), Some(election()), "council_vote.minutes"),
        (vote(|v| v.result = VoteResult::Rejected as i32), Some(election()), "council_vote"),
        (vote(|v| v.tally.as_mut().unwrap().against_count = 30), Some(election()), "council_vote"),
        (vote(|v| v.tally.as_mut().unwrap().against_count = -1), Some(election()), "council_vote.tally"),
        (vote(|v| v.vote_date = Some(time::date(day(2025, 7, 1)))), Some(election()), "council_vote.vote_date"),
        (late, Some(election()), "mayor_adoption_date"),
        (adoption(), None, "next_election_date"),
        (other, Some(election()), "next_election_date"),
        (adoption(), Some(day(2025, 5, 31)), "next_election_date"),
        (adoption(), Some(day(2036, 1, 1)), "next_election_date"),
    ] {
        let refusal = adopt(&draft(), &command, known, &caller(Role::Mayor), now()).unwrap_err();
        assert_eq!((refusal.rule, refusal.missing[0].subject.as_str()), ("ST-1", subject));
    }
    let refusal = adopt(&draft(), &adoption(), Some(election()), &officer(), now()).unwrap_err();
    assert_eq!((refusal.rule, refusal.class), ("ST-1", ReasonClass::NotPermitted));
    let refusal = adopt(&adopted(), &adoption(), Some(election()), &caller(Role::Mayor), now()).unwrap_err();
    assert_eq!((refusal.rule, refusal.class), ("ST-1", ReasonClass::OutOfOrder));
    let stated = AdoptStrategyRequest { next_election_date: Some(time::date(election())), ..adoption() };
    assert!(adopt(&draft(), &stated, None, &caller(Role::Mayor), now()).is_ok());
    assert!(adopt(&draft(), &vote(|v| v.tally = None), Some(election()), &caller(Role::Mayor), now()).is_ok());
}

#[test]
fn st_3_a_strategy_without_values_or_interests_is_not_adopted() {
    let empty = fold(None, create(&begin(), RecordId::from_source("a", "b"), facts(), &officer()));
    let with = |aim| fold(Some(empty.clone()), set_goal(&empty, &put("one", aim), &officer()));
    for (state, missing) in [
        (empty.clone(), vec!["GOAL_KIND_VALUE", "GOAL_KIND_INTEREST"]),
        (with(GoalAim::BetterServices), vec!["GOAL_KIND_VALUE"]),
        (with(GoalAim::GlobalChallenges), vec!["GOAL_KIND_INTEREST"]),
    ] {
        let refusal = adopt(&state, &adoption(), Some(election()), &caller(Role::Mayor), now()).unwrap_err();
        let subjects: Vec<_> = refusal.missing.iter().map(|m| m.subject.as_str()).collect();
        assert_eq!((refusal.rule, subjects), ("ST-3", missing));
        assert!(!refusal.help.is_empty());
    }
}

// ST-1 and ST-3.
#[test]
fn an_adoption_is_refused_with_every_violation() {
    let empty = fold(None, create(&begin(), RecordId::from_source("a", "b"), facts(), &officer()));
    let bare = AdoptStrategyRequest::default();
    let refusal = adopt(&empty, &bare, None, &caller(Role::CouncilClerk), now()).unwrap_err();
    let found: Vec<_> = refusal.violations().flat_map(|one| &one.missing).map(|one| one.subject.as_str()).collect();
    for subject in ["council_vote", "document", "next_election_date", "GOAL_KIND_VALUE", "GOAL_KIND_INTEREST"] {
        assert!(found.contains(&subject), "{subject}: {found:?}");
    }
}

#[test]
fn st_1_a_strategy_lapses_once_when_its_validity_is_over() {
    let state = adopted();
    let due = state.due().unwrap();
    assert_eq!(state.on_due(now().now), []);
    let lapsed = fold(Some(state.clone()), Ok(state.on_due(due)));
    assert_eq!((lapsed.state(), lapsed.due()), (StrategyState::Lapsed, None));
    assert_eq!(lapsed.on_due(due), []);
}

#[test]
fn st_1_a_new_one_supersedes() {
    let new = format!("strategies/{}", RecordId::from_source("test", "new"));
    let state = fold(Some(adopted()), supersede(&adopted(), &new));
    assert_eq!((state.state(), state.due()), (StrategyState::Superseded, None));
    assert_eq!(state.to_proto().superseding_strategy, new);
    assert_eq!(supersede(&state, &new).unwrap(), []);
    assert_eq!(supersede(&draft(), &new).unwrap(), []);
    assert_eq!(supersede(&adopted(), adopted().name()).unwrap(), []);
    assert!(supersede(&adopted(), "cities/x").is_err());
}

#[test]
fn a_change_out_of_order_does_not_fit() {
    let created = create(&begin(), RecordId::from_source("a", "b"), facts(), &officer()).unwrap().remove(0).change;
    assert!(Strategy::fold(Some(draft()), &created, &stamp(2)).is_err());
    assert!(Strategy::fold(None, &proto::StrategyLapsed::default().into(), &stamp(1)).is_err());
    assert!(Strategy::fold(Some(draft()), &proto::StrategyLapsed::default().into(), &stamp(2)).is_err());
    assert!(Strategy::fold(Some(adopted()), &proto::GoalSet::default().into(), &stamp(2)).is_err());
    assert!(Strategy::fold(Some(draft()), &proto::GoalSet::default().into(), &stamp(2)).is_err());
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8, i32),
    Remove(u8),
    Link(u32, Vec<u8>),
    Unlink(u32),
    Retitle(bool),
    Adopt(bool),
    Due,
    Supersede,
}

fn any_act() -> impl Any<Value = Act> {
    prop_oneof![
        (0..4u8, 0..9i32).prop_map(|(goal, aim)| Act::Put(goal, aim)),
        (0..4u8).prop_map(Act::Remove),
        (0..4u32, prop::collection::vec(0..4u8, 0..3)).prop_map(|(tool, goals)| Act::Link(tool, goals)),
        (0..4u32).prop_map(Act::Unlink),
        any::<bool>().prop_map(Act::Retitle),
        any::<bool>().prop_map(Act::Adopt),
        Just(Act::Due),
        Just(Act::Supersede),
    ]
}

fn decide(state: &Strategy, act: &Act) -> Decision<Change> {
    let id = |n: &u8| format!("g{n}");
    match act {
        Act::Put(n, aim) => {
            let goal = proto::Goal { aim: *aim, ..goal(&id(n), GoalAim::BetterServices) };
            set_goal(state, &SetGoalRequest { goal: Some(goal), ..Default::default() }, &officer())
        }
        Act::Remove(n) => delete_goal(state, &DeleteGoalRequest { goal_id: id(n), ..Default::default() }, &officer()),
        Act::Link(tool, goals) => {
            let goals: Vec<_> = goals.iter().map(id).collect();
            let goals: Vec<_> = goals.iter().map(String::as_str).collect();
            link_tool(state, &linked(*tool, &goals), &officer())
        }
        Act::Unlink(tool) => {
            unlink_tool(state, &UnlinkToolRequest { tool: agreement(*tool), ..Default::default() }, &officer())
        }
        Act::Retitle(empty) => {
            let title = if *empty { vec![] } else { words("Other") };
            let strategy = Some(proto::Strategy { title, ..Default::default() });
            let update_mask = Some(prost_types::FieldMask { paths: vec!["title".into()] });
            update(state, &UpdateStrategyRequest { strategy, update_mask, ..Default::default() }, &officer())
        }
        Act::Adopt(known) => adopt(state, &adoption(), known.then(election), &caller(Role::Mayor), now()),
        Act::Due => Ok(state.due().map(|due| state.on_due(due)).unwrap_or_default()),
        Act::Supersede => supersede(state, &format!("strategies/{}", RecordId::from_source("test", "new"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_history_folds_again_to_the_same_state(acts in prop::collection::vec(any_act(), 0..40)) {
        let first = create(&begin(), RecordId::from_source("test", "s"), facts(), &officer()).unwrap();
        let mut history: Vec<Change> = first.into_iter().map(|h| h.change).collect();
        let mut state = Strategy::fold(None, &history[0], &stamp(1)).unwrap();
        for act in &acts {
            let before = state.clone();
            match decide(&state, act) {
                Err(refusal) => {
                    prop_assert!(!refusal.message.is_empty() && !refusal.rule.is_empty());
                    prop_assert_eq!(&state, &before);
                }
                Ok(emitted) => for h in emitted {
                    state = Strategy::fold(Some(state), &h.change, &stamp(1)).unwrap();
                    history.push(h.change);
                }
            }
            prop_assert!(state.state() == StrategyState::Draft
                || state.has_kind(GoalKind::Value) && state.has_kind(GoalKind::Interest));
            prop_assert!(state.tools().all(|link| link.goals.iter().all(|goal| state.goal(goal).is_some())));
        }
        let again = history.iter().fold(None, |state, change| Some(Strategy::fold(state, change, &stamp(1)).unwrap()));
        prop_assert_eq!(again.as_ref(), Some(&state));
        let bytes = postcard::to_stdvec(&state).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Strategy>(&bytes).unwrap(), state);
    }
}
