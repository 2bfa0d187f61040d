//! Tests of evaluations (ST-5 to ST-8, AG-11).
#![allow(clippy::unwrap_used)]
use super::*;
use crate::{
    goal::{Goal, ToolLink, tests::goal},
    portfolio::{
        CityFact, OfficeFact, TieFact, TieState,
        tests::{city, day, office, tie},
    },
    strategy::{
        Strategy,
        tests::{adopted, stamp},
    },
};
use hansa_proto::strategy::{FindingCode, GoalAim, ToolPurpose};
use proptest::{prelude::*, strategy::Strategy as Any};
use std::sync::LazyLock;

static RUBRIC: LazyLock<Rubric> = LazyLock::new(Rubric::embedded);

fn today() -> NaiveDate {
    day(2025, 6, 1)
}

fn portfolio(ties: impl IntoIterator<Item = TieFact>) -> Portfolio {
    Portfolio::new(city(), office(), ties)
}

fn judge(portfolio: &Portfolio, strategy: Option<&Strategy>) -> Evaluation {
    evaluate(&RUBRIC, portfolio, strategy, today())
}

fn codes(evaluation: &Evaluation) -> Vec<FindingCode> {
    evaluation.findings.iter().map(Finding::code).collect()
}

fn found(evaluation: &Evaluation, code: FindingCode) -> &Finding {
    evaluation.findings.iter().find(|finding| finding.code() == code).unwrap()
}

fn overall(evaluation: &Evaluation) -> Score {
    evaluation.overall.unwrap()
}

fn link(tool: &str, goals: &[&str]) -> ToolLink {
    ToolLink {
        tool: tool.into(),
        goals: goals.iter().map(|goal| (*goal).to_owned()).collect(),
        purpose: ToolPurpose::Rationalize,
        note: vec![],
    }
}

/// Returns a portfolio and a strategy without any problem.
fn whole() -> (Portfolio, Strategy) {
    let mut strategy = adopted();
    strategy.link(link(&tie(1).agreement, &["peace", "schools"]));
    (portfolio([tie(1)]), strategy)
}

#[test]
fn st_6_a_city_without_problems_has_the_whole_score() {
    let (portfolio, strategy) = whole();
    let evaluation = judge(&portfolio, Some(&strategy));
    assert_eq!(codes(&evaluation), []);
    assert_eq!(overall(&evaluation).basis_points, 10_000);
    assert_eq!(evaluation.strategy, strategy.name());
    assert_eq!(evaluation.unjudged_criterion_ids, ["guidelines-stated", "guidelines-not-overridden"]);
}

// ST-7.
#[test]
fn st_7_no_strategy_bears_all_that_only_a_strategy_can_settle() {
    let (portfolio, strategy) = whole();
    let evaluation = judge(&portfolio, None);
    assert_eq!(codes(&evaluation), [FindingCode::NoStrategy]);
    assert_eq!(found(&evaluation, FindingCode::NoStrategy).evidence, [city().city]);
    let gain = overall(&judge(&portfolio, Some(&strategy))).basis_points - overall(&evaluation).basis_points;
    assert!((found(&evaluation, FindingCode::NoStrategy).effect_basis_points - gain).abs() <= 1);
    let draft = crate::strategy::tests::draft();
    assert_eq!(overall(&judge(&portfolio, Some(&draft))), overall(&evaluation), "a draft counts like no strategy");
}

#[test]
fn st_7_a_strategy_past_its_election_or_lapsed_is_found() {
    let (portfolio, strategy) = whole();
    let (election, last) = (strategy.adoption().unwrap().next_election_date, strategy.last_valid_date().unwrap());
    let at = |date: NaiveDate| evaluate(&RUBRIC, &portfolio, Some(&strategy), date);
    assert!(!codes(&at(election)).contains(&FindingCode::StrategyPastElection));
    let in_grace = at(election.succ_opt().unwrap());
    let over = at(last.succ_opt().unwrap());
    assert_eq!(found(&in_grace, FindingCode::StrategyPastElection).evidence, [strategy.name()]);
    let effect = |e: &Evaluation| found(e, FindingCode::StrategyPastElection).effect_basis_points;
    assert!(effect(&in_grace) > 0 && effect(&over) > effect(&in_grace));
    assert!(overall(&over).basis_points < overall(&in_grace).basis_points);
}

#[test]
fn st_7_goals_without_a_tool_and_tools_without_a_goal_are_named() {
    let mut strategy = adopted();
    strategy.link(link(&tie(1).agreement, &["peace"]));
    let evaluation = judge(&portfolio([tie(1), tie(2)]), Some(&strategy));
    let goals = found(&evaluation, FindingCode::GoalsWithoutTool);
    assert_eq!(goals.evidence, [format!("{}/goals/schools", strategy.name())]);
    assert_eq!(found(&evaluation, FindingCode::ToolsWithoutGoal).evidence, [tie(2).agreement]);
    let ended = TieFact { state: TieState::Ended, ..tie(1) };
    let evaluation = judge(&portfolio([ended]), Some(&strategy));
    assert_eq!(
        found(&evaluation, FindingCode::GoalsWithoutTool).evidence_count,
        2,
        "a tool that has ended serves no goal"
    );
    let evaluation = judge(&portfolio([]), Some(&strategy));
    assert_eq!(found(&evaluation, FindingCode::GoalsWithoutTool).evidence_count, 1, "unknown tools count as not ended");
    let preparing = TieFact { state: TieState::Preparing, ..tie(1) };
    assert_eq!(
        found(&judge(&portfolio([preparing]), Some(&strategy)), FindingCode::GoalsWithoutTool).evidence_count,
        1
    );
}

#[test]
fn st_7_missing_values_and_interests_are_found() {
    for (aim, code) in [
        (GoalAim::BetterServices, FindingCode::ValuesMissing),
        (GoalAim::GlobalChallenges, FindingCode::InterestsMissing),
    ] {
        let mut strategy = Strategy::hypothetical(TenantId(uuid::Uuid::nil()), &city().city, today(), day(2026, 3, 15));
        strategy.put(Goal::parse("goal", &goal("one", aim)).unwrap());
        let kinds = [FindingCode::ValuesMissing, FindingCode::InterestsMissing];
        let evaluation = judge(&portfolio([]), Some(&strategy));
        assert_eq!(codes(&evaluation).into_iter().filter(|c| kinds.contains(c)).collect::<Vec<_>>(), [code]);
    }
}

#[test]
fn st_7_dormant_ties_are_named() {
    let evaluation = judge(&portfolio([tie(1), TieFact { dormant: true, ..tie(2) }]), None);
    let finding = found(&evaluation, FindingCode::DormantTies);
    assert_eq!(finding.evidence, [tie(2).agreement]);
    assert!(!finding.risk.is_empty() && !finding.advice.is_empty() && finding.effect_basis_points > 0);
}

// AG-11.
#[test]
fn ag_11_partners_without_guidelines_are_found_and_unknown_regimes_are_not() {
    let with = |needed, stated, overridden| {
        let fact = TieFact {
            guidelines_needed: needed,
            guidelines_stated: stated,
            guidelines_overridden: overridden,
            ..tie(1)
        };
        judge(&portfolio([fact]), None)
    };
    let missing = with(Some(true), false, false);
    assert_eq!(found(&missing, FindingCode::PartnersWithoutGuidelines).evidence, [tie(1).agreement]);
    let overridden = with(Some(true), false, true);
    assert_eq!(found(&overridden, FindingCode::GuidelinesOverridden).evidence, [tie(1).agreement]);
    assert!(!codes(&overridden).contains(&FindingCode::PartnersWithoutGuidelines));
    for silent in [
        with(Some(true), true, false),
        with(Some(true), true, true),
        with(None, false, false),
        with(Some(false), false, false),
    ] {
        let found = codes(&silent);
        assert!(!found.contains(&FindingCode::PartnersWithoutGuidelines));
        assert!(!found.contains(&FindingCode::GuidelinesOverridden));
    }
}

// ST-7.
#[test]
fn st_7_missing_languages_are_found_and_unknown_ones_are_not() {
    let speaks = |languages: &[&str]| TieFact {
        partner_languages: languages.iter().map(|l| (*l).to_owned()).collect(),
        ..tie(1)
    };
    let missing = |office: OfficeFact, languages: &[&str]| {
        let evaluation = evaluate(&RUBRIC, &Portfolio::new(city(), office, [speaks(languages)]), None, today());
        codes(&evaluation).contains(&FindingCode::LanguagesMissing)
    };
    assert!(missing(office(), &["jpn"]));
    assert!(!missing(office(), &["jpn", "eng"]), "the office speaks English");
    assert!(!missing(office(), &["fr-CA"]), "the city speaks French");
    assert!(!missing(office(), &[]), "the partner's languages are unknown");
    assert!(!missing(OfficeFact { exists: Some(true), languages: None }, &["jpn"]), "the office languages are unknown");
    assert!(missing(OfficeFact { exists: Some(false), languages: None }, &["jpn"]), "there is no office");
    let mute = CityFact { languages: vec![], ..city() };
    let evaluation = evaluate(&RUBRIC, &Portfolio::new(mute, office(), [speaks(&["jpn"])]), None, today());
    assert!(!codes(&evaluation).contains(&FindingCode::LanguagesMissing), "the city's languages are unknown");
}

#[test]
fn st_7_no_office_is_found_and_an_unknown_one_is_not() {
    let with = |exists| {
        codes(&evaluate(&RUBRIC, &Portfolio::new(city(), OfficeFact { exists, languages: None }, []), None, today()))
    };
    assert!(with(Some(false)).contains(&FindingCode::NoOffice));
    assert!(!with(Some(true)).contains(&FindingCode::NoOffice));
    assert!(!with(None).contains(&FindingCode::NoOffice));
}

#[test]
fn st_7_unwritten_parts_of_the_implementation_are_found() {
    let strategy = Strategy::hypothetical(TenantId(uuid::Uuid::nil()), &city().city, today(), day(2026, 3, 15));
    let found = codes(&judge(&portfolio([]), Some(&strategy)));
    for code in [FindingCode::NoAssessment, FindingCode::NoShockMechanism, FindingCode::NoResidentEngagement] {
        assert!(found.contains(&code));
    }
}

#[test]
fn st_6_what_is_not_known_weighs_nothing() {
    let nothing = Portfolio::new(CityFact { city: city().city, ..CityFact::default() }, OfficeFact::default(), []);
    let evaluation = judge(&nothing, None);
    let of = |p: Precondition| {
        evaluation.preconditions.iter().find(|s| s.precondition == p as i32).and_then(|s| s.score).unwrap()
    };
    assert_eq!(of(Precondition::HumanResources), Score { basis_points: 0, judged_basis_points: 0 });
    assert_eq!(of(Precondition::EconomicResources).judged_basis_points, 0);
    assert_eq!(codes(&evaluation), [FindingCode::NoStrategy]);
    assert!(overall(&evaluation).judged_basis_points < 10_000);
    assert!(
        evaluation.unjudged_criterion_ids.contains(&"tools-aimed".into()),
        "without ties the criterion is not judged"
    );
}

// ST-5.
#[test]
fn st_5_what_a_strategy_stands_on_is_scored_and_each_absence_says_its_risk() {
    let (portfolio, strategy) = whole();
    let lessened = |evaluation: &Evaluation| {
        let short = |s: &&proto::PreconditionScore| {
            s.score.is_some_and(|score| score.judged_basis_points > 0 && score.basis_points < 10_000)
        };
        evaluation.preconditions.iter().filter(short).map(|s| s.precondition()).collect::<Vec<_>>()
    };
    let good = judge(&portfolio, Some(&strategy));
    assert_eq!(good.preconditions.iter().map(|s| s.precondition()).collect::<Vec<_>>(), PRECONDITIONS);
    assert_eq!(lessened(&good), []);
    let without_office = OfficeFact { exists: Some(false), languages: None };
    let mut unengaged = Strategy::hypothetical(TenantId(uuid::Uuid::nil()), &city().city, today(), day(2026, 3, 15));
    for (id, aim) in [("peace", GoalAim::GlobalChallenges), ("schools", GoalAim::BetterServices)] {
        unengaged.put(Goal::parse("goal", &goal(id, aim)).unwrap());
    }
    unengaged.link(link(&tie(1).agreement, &["peace", "schools"]));
    for (evaluation, precondition) in [
        (judge(&portfolio, None), Precondition::PoliticalPriority),
        (judge(&Portfolio::new(city(), without_office, []), Some(&strategy)), Precondition::HumanResources),
        (judge(&self::portfolio([TieFact { dormant: true, ..tie(1) }]), Some(&strategy)), Precondition::RightPartners),
        (judge(&portfolio, Some(&unengaged)), Precondition::LocalEngagement),
    ] {
        assert!(lessened(&evaluation).contains(&precondition), "{precondition:?}: {evaluation:?}");
        let of = |finding: &&Finding| {
            let criteria = RUBRIC.criteria().iter();
            criteria
                .clone()
                .any(|c| c.shown.criterion_id == finding.criterion_id && c.shown.precondition() == precondition)
        };
        let told: Vec<_> = evaluation.findings.iter().filter(of).collect();
        assert!(!told.is_empty() && told.iter().all(|finding| !finding.risk.is_empty()), "{precondition:?}");
    }
}

// ST-8.
#[test]
fn st_8_a_result_out_of_bounds_is_cut_and_a_failing_expression_tells_nothing() {
    let rubric = |met: &str| {
        let entry = |id: &str, met: &str| {
            format!(
                "[[criterion]]\nid = '{id}'\ntitle = 't'\npart = 'GOALS'\nweight = 5000\nscore_expression = '{met}'\n\
                 finding = 'OTHER'\nseverity = 'LOW'\nrisk = 'r'\nadvice = 'a'\n"
            )
        };
        let source = format!("id = 'x'\nversion = '1'\ntitle = 't'\n{}{}", entry("a", "false"), entry("b", met));
        Rubric::load(&source).unwrap()
    };
    let score = |met: &str| evaluate(&rubric(met), &portfolio([tie(1)]), None, today());
    assert_eq!(overall(&score("ties * 50000")), Score { basis_points: 5_000, judged_basis_points: 10_000 });
    assert_eq!(overall(&score("ties * -1")), Score { basis_points: 0, judged_basis_points: 10_000 });
    let failing = score("9223372036854775807 + ties");
    assert_eq!(overall(&failing), Score { basis_points: 0, judged_basis_points: 5_000 });
    assert_eq!(failing.unjudged_criterion_ids, ["b"]);
}

#[test]
fn evidence_is_capped_and_counted() {
    let ties = (0..EVIDENCE as u32 + 20).map(|n| TieFact { dormant: true, ..tie(n) });
    let evaluation = judge(&portfolio(ties), None);
    let finding = found(&evaluation, FindingCode::DormantTies);
    assert_eq!((finding.evidence.len(), finding.evidence_count), (EVIDENCE, EVIDENCE as i32 + 20));
}

#[test]
fn st_6_a_result_is_recorded_only_where_it_differs() {
    let (portfolio, strategy) = whole();
    let tenant = TenantId(uuid::Uuid::from_u128(7));
    let first = record(None, judge(&portfolio, Some(&strategy)), tenant).unwrap();
    let state = Evaluations::fold(None, &first[0].change, &stamp(1)).unwrap();
    assert_eq!(state.audience(), Audience::of([tenant]));
    assert_eq!(state.latest().name, name_of(&RecordName::parse(&city().city, "cities", "city").unwrap()).to_string());
    let later = evaluate(&RUBRIC, &portfolio, Some(&strategy), today().succ_opt().unwrap());
    assert_eq!(record(Some(&state), later, tenant).unwrap(), []);
    let changed = record(Some(&state), judge(&portfolio, None), tenant).unwrap();
    let after = Evaluations::fold(Some(state.clone()), &changed[0].change, &stamp(2)).unwrap();
    assert_ne!(after.digest(), state.digest());
    let bytes = postcard::to_stdvec(&after).unwrap();
    assert_eq!(postcard::from_bytes::<Evaluations>(&bytes).unwrap(), after);
    let foreign = record(None, judge(&portfolio, None), TenantId(uuid::Uuid::from_u128(8))).unwrap();
    assert!(Evaluations::fold(Some(after), &foreign[0].change, &stamp(3)).is_err());
    assert_eq!(record(None, Evaluation::default(), tenant).unwrap_err().rule, "ST-6");
}

fn any_tie(n: u32) -> impl Any<Value = TieFact> {
    let language = prop::sample::select(vec!["fra", "en", "jpn", "de-AT", "swa"]);
    let state = prop::sample::select(vec![TieState::Preparing, TieState::Active, TieState::Suspended, TieState::Ended]);
    let regimes = (prop::option::of(any::<bool>()), any::<bool>(), any::<bool>());
    (state, any::<bool>(), regimes, prop::collection::vec(language, 0..3)).prop_map(
        move |(state, dormant, regimes, l)| TieFact {
            state,
            dormant,
            guidelines_needed: regimes.0,
            guidelines_stated: regimes.1,
            guidelines_overridden: regimes.2,
            partner_languages: l.into_iter().map(str::to_owned).collect(),
            ..tie(n)
        },
    )
}

fn any_ties() -> impl Any<Value = Vec<TieFact>> {
    (0..12u32).prop_flat_map(|n| (0..n).map(any_tie).collect::<Vec<_>>())
}

fn any_office() -> impl Any<Value = OfficeFact> {
    (prop::option::of(any::<bool>()), prop::option::of(prop::collection::vec("(en|de|ja)", 0..3)))
        .prop_map(|(exists, languages)| OfficeFact { exists, languages })
}

fn any_strategy() -> impl Any<Value = Option<Strategy>> {
    let links = prop::collection::vec((0..12u32, prop::sample::select(vec!["peace", "schools"])), 0..8);
    prop::option::of(links.prop_map(|links| {
        let mut strategy = adopted();
        for (n, goal) in links {
            strategy.link(link(&tie(n).agreement, &[goal]));
        }
        strategy
    }))
}

/// Returns the ties after one problem of one tie is solved.
fn mended(ties: &[TieFact], which: usize, how: u8) -> Vec<TieFact> {
    let mut ties = ties.to_vec();
    if let Some(tie) = ties.get_mut(which) {
        match how {
            0 => tie.dormant = false,
            1 => tie.guidelines_stated = true,
            _ => tie.partner_languages.push("fr".into()),
        }
    }
    ties
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn st_6_the_same_inputs_give_the_same_bytes_in_any_order(
        ties in any_ties(), office in any_office(), strategy in any_strategy(), seed in any::<prop::sample::Index>()
    ) {
        let mut shuffled = ties.clone();
        shuffled.reverse();
        if !shuffled.is_empty() {
            let middle = seed.index(shuffled.len());
            shuffled.rotate_left(middle);
        }
        let one = judge(&Portfolio::new(city(), office.clone(), ties), strategy.as_ref());
        let other = evaluate(&Rubric::embedded(), &Portfolio::new(city(), office, shuffled), strategy.as_ref(), today());
        prop_assert_eq!(one.encode_to_vec(), other.encode_to_vec());
    }

    #[test]
    fn st_6_scores_are_within_bounds_and_findings_in_order(
        ties in any_ties(), office in any_office(), strategy in any_strategy(), days in -4000i64..4000
    ) {
        let date = today() + chrono::Duration::days(days);
        let evaluation = evaluate(&RUBRIC, &Portfolio::new(city(), office, ties), strategy.as_ref(), date);
        let scores = evaluation.overall.iter();
        let scores = scores.chain(evaluation.parts.iter().filter_map(|s| s.score.as_ref()));
        for score in scores.chain(evaluation.preconditions.iter().filter_map(|s| s.score.as_ref())) {
            prop_assert!((0..=10_000).contains(&score.basis_points));
            prop_assert!((0..=10_000).contains(&score.judged_basis_points));
        }
        let lost: i32 = evaluation.findings.iter().map(|f| f.effect_basis_points).sum();
        prop_assert!(lost + overall(&evaluation).basis_points <= 10_000);
        prop_assert!(evaluation.findings.windows(2).all(|f| f[0].effect_basis_points >= f[1].effect_basis_points));
        for finding in &evaluation.findings {
            prop_assert!(finding.evidence.is_sorted());
        }
    }

    #[test]
    fn st_6_removing_a_problem_never_lowers_the_score(
        ties in any_ties(), office in any_office(), strategy in any_strategy(), which in 0..12usize, how in 0..3u8
    ) {
        let score = |ties: Vec<TieFact>, office: OfficeFact, strategy: Option<&Strategy>| {
            overall(&judge(&Portfolio::new(city(), office, ties), strategy)).basis_points
        };
        let before = score(ties.clone(), office.clone(), strategy.as_ref());
        prop_assert!(score(mended(&ties, which, how), office.clone(), strategy.as_ref()) >= before);
        if office.exists == Some(false) {
            let founded = OfficeFact { exists: Some(true), ..office.clone() };
            prop_assert!(score(ties.clone(), founded, strategy.as_ref()) >= before);
        }
        let mut linked = strategy.clone().unwrap_or_else(adopted);
        prop_assert!(score(ties.clone(), office.clone(), Some(&linked)) >= before);
        linked.link(link(&tie(which as u32).agreement, &["peace", "schools"]));
        prop_assert!(score(ties, office, Some(&linked)) >= before);
    }
}
