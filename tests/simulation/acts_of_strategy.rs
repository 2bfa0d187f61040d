//! Commands of the strategy service, and the erasure of texts in any service.

use crate::{
    acts::{Mind, Order},
    acts_of_register::office_of,
};
use hansa_kernel::{Role, TenantId};
use hansa_proto::{
    changes::EraseTextsRequest,
    strategy::{
        AdoptStrategyRequest, CreateStrategyRequest, DeleteGoalRequest, Dimension, DiscardStrategyRequest, Goal,
        GoalAim, LinkToolRequest, Outcome, SetGoalRequest, Strategy, ToolLink, ToolPurpose, UnlinkToolRequest,
        UpdateStrategyRequest,
    },
    types::VoteResult,
};

/// Returns the path of an rpc.
macro_rules! path {
    ($rpc:literal) => {
        concat!("/hansa.strategy.v1.StrategyService/", $rpc)
    };
}

/// Goals with different aims.
const GOALS: [(&str, GoalAim); 3] = [
    ("climate", GoalAim::GlobalChallenges),
    ("economy", GoalAim::EconomicAttractiveness),
    ("peace", GoalAim::ConflictPrevention),
];

impl Mind<'_> {
    pub fn of_strategy(&mut self) -> Order {
        let strategies = self.known.strategies.clone();
        if strategies.is_empty() || self.chance(1, 8) {
            return self.draft();
        }
        // Only the newest strategies still accept commands.
        let newest = &strategies[strategies.len().saturating_sub(3)..];
        let (name, tenant) = self.dice.pick(newest).clone();
        match self.dice.below(13) {
            0..=3 => {
                let goal = *self.dice.pick(&GOALS);
                self.goal(&name, tenant, goal)
            }
            4..=6 => self.adopt(&name, tenant),
            7 | 8 => self.link(&name, tenant),
            9 => self.unlink(&name, tenant),
            10 => self.update(&name, tenant),
            11 if self.errs => self.delete(&name, tenant),
            _ => self.without_goal(&name, tenant),
        }
    }

    /// Returns a city that has joined, with its tenant.
    fn someone(&mut self) -> Option<(String, TenantId)> {
        let joined: Vec<_> = self.known.joined().into_iter().cloned().collect();
        if joined.is_empty() {
            return None;
        }
        let city = self.dice.pick(&joined);
        city.tenant.map(|tenant| (city.name.clone(), tenant))
    }

    pub fn draft(&mut self) -> Order {
        let (city, tenant) = self.someone().unwrap();
        let strategy = Strategy { city: city.clone(), title: self.text(), ..Default::default() };
        let (request_id, validate_only) = (self.id(), self.tried);
        let request = CreateStrategyRequest { strategy: Some(strategy), request_id, validate_only };
        self.order(path!("CreateStrategy"), "", (tenant, Role::IrOfficer), &request)
    }

    pub fn goal(&mut self, name: &str, tenant: TenantId, (id, aim): (&str, GoalAim)) -> Order {
        let goal = Goal {
            goal_id: id.into(),
            aim: aim as i32,
            dimension: Dimension::Environment as i32,
            outcomes: vec![Outcome::Technical as i32],
            title: self.text(),
            indicator: self.text(),
            baseline: "0".into(),
            target: (1 + self.dice.below(50)).to_string(),
            target_date: self.months(36),
            ..Default::default()
        };
        let request = SetGoalRequest {
            name: name.into(),
            etag: self.etag(""),
            goal: Some(goal),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("SetGoal"), name, (tenant, Role::IrOfficer), &request)
    }

    fn without_goal(&mut self, name: &str, tenant: TenantId) -> Order {
        let request = DeleteGoalRequest {
            name: name.into(),
            etag: self.etag(""),
            goal_id: self.dice.pick(&GOALS).0.into(),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("DeleteGoal"), name, (tenant, Role::IrOfficer), &request)
    }

    pub fn adopt(&mut self, name: &str, tenant: TenantId) -> Order {
        let vote = self.vote(VoteResult::Approved, -1);
        let request = AdoptStrategyRequest {
            name: name.into(),
            etag: self.etag(""),
            council_vote: Some(vote),
            next_election_date: self.months(18),
            request_id: self.id(),
            validate_only: self.tried,
            ..Default::default()
        };
        self.order(path!("AdoptStrategy"), name, (tenant, Role::Mayor), &request)
    }

    fn link(&mut self, name: &str, tenant: TenantId) -> Order {
        let tool = self.agreement();
        let link = ToolLink {
            tool,
            goal_ids: vec![self.dice.pick(&GOALS).0.into()],
            purpose: ToolPurpose::Create as i32,
            note: self.text(),
        };
        let request = LinkToolRequest {
            name: name.into(),
            etag: self.etag(""),
            link: Some(link),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("LinkTool"), name, (tenant, Role::IrOfficer), &request)
    }

    fn unlink(&mut self, name: &str, tenant: TenantId) -> Order {
        let request = UnlinkToolRequest {
            name: name.into(),
            etag: self.etag(""),
            tool: self.agreement(),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("UnlinkTool"), name, (tenant, Role::IrOfficer), &request)
    }

    fn update(&mut self, name: &str, tenant: TenantId) -> Order {
        let strategy = Strategy { name: name.into(), swot: self.text(), etag: self.etag(""), ..Default::default() };
        let request = UpdateStrategyRequest {
            strategy: Some(strategy),
            update_mask: Some(prost_types::FieldMask { paths: vec!["swot".into()] }),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("UpdateStrategy"), name, (tenant, Role::IrOfficer), &request)
    }

    fn delete(&mut self, name: &str, tenant: TenantId) -> Order {
        let request = DiscardStrategyRequest {
            name: name.into(),
            reason: self.text(),
            etag: self.etag(""),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("DiscardStrategy"), name, (tenant, Role::IrOfficer), &request)
    }

    fn agreement(&mut self) -> String {
        let agreements = self.known.agreements.clone();
        if agreements.is_empty() { String::new() } else { self.dice.pick(&agreements).clone() }
    }

    /// Erases all texts of a tenant in a record.
    pub fn erase(&mut self) -> Order {
        let (city, tenant) = self.someone().unwrap();
        let strategies = self.known.strategies.iter().map(|(name, _)| name);
        let deleted = self.known.deleted.keys();
        let mut records: Vec<String> = self.known.agreements.iter().chain(strategies).chain(deleted).cloned().collect();
        records.extend([office_of(&city), city]);
        let record = if records.is_empty() { String::new() } else { self.dice.pick(&records).clone() };
        let (request_id, validate_only) = (self.id(), self.tried);
        // Records that the steward imported or deleted contain texts of the steward.
        let stewards = self.known.deleted.contains_key(&record) || self.chance(1, 8);
        let by = if stewards { (self.known.steward, Role::Steward) } else { (tenant, Role::Mayor) };
        let request = EraseTextsRequest { name: record.clone(), seals: Vec::new(), request_id, validate_only };
        self.order("/hansa.changes.v1.ChangeService/EraseTexts", &record, by, &request)
    }
}
