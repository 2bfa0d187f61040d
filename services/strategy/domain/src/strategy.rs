//! The strategy of a city: drafted by its office, adopted by mayor and council, and valid until some months after the
//! next election.

mod rules;
#[cfg(test)]
pub(crate) mod tests;

use crate::goal::{Goal, ToolLink};
use chrono::{DateTime, NaiveDate, Utc};
use hansa_kernel::{
    AssuranceLevel, Audience, Caller, Emitted, FoldError, IntoResource, Record, RecordName, Refusal, Refused, Stamp,
    TenantId, serde_proto,
    time::{self, over_everywhere},
};
use hansa_proto::{
    Masked, Texts,
    strategy::{self as proto, GoalKind, StrategyState, strategy_change::Change},
    types::{Attachment, CouncilVote, LocalizedText, VoteResult},
};
pub use rules::{DraftFacts, adopt, create, delete, delete_goal, link_tool, set_goal, supersede, unlink_tool, update};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Months of validity after the election, unless the node is configured otherwise (ST-1).
pub const GRACE_MONTHS: u32 = 6;

/// The names of the free-text fields of the strategy message.
pub const TEXT_FIELDS: &[&str] = &[
    "title",
    "connections",
    "swot",
    "foreign_presence",
    "legal_framework",
    "branding",
    "assessment",
    "engagement",
    "coordination",
    "state_relations",
    "shock_response",
];

/// Returns a text of the strategy message by the name of its field.
pub(crate) fn text_of(strategy: &proto::Strategy, field: &str) -> Vec<LocalizedText> {
    let (mut alone, mut found) = (proto::Strategy::default(), Vec::new());
    alone.copy_field(field, strategy);
    alone.visit_texts(&mut |text| found.push(std::mem::take(text)));
    found
}

/// The adoption of a strategy by mayor and council.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// Day of the mayor's adoption.
    pub mayor_adoption_date: NaiveDate,
    /// Vote of the council.
    pub council_vote: CouncilVote,
    /// The election up to which it was made.
    pub next_election_date: NaiveDate,
    /// The adopted document.
    pub document: Option<Attachment>,
}

impl Adoption {
    fn parse(adoption: Option<&proto::Adoption>) -> Refused<Self> {
        let adoption = adoption.ok_or_else(|| Refusal::field("adoption", "is required"))?;
        Ok(Self {
            mayor_adoption_date: time::day("mayor_adoption_date", adoption.mayor_adoption_date.as_ref())?,
            council_vote: adoption.council_vote.clone().unwrap_or_default(),
            next_election_date: time::day("next_election_date", adoption.next_election_date.as_ref())?,
            document: adoption.document.clone(),
        })
    }

    /// Converts to the contract's message.
    #[must_use]
    pub fn to_proto(&self) -> proto::Adoption {
        proto::Adoption {
            mayor_adoption_date: Some(time::date(self.mayor_adoption_date)),
            council_vote: Some(self.council_vote.clone()),
            next_election_date: Some(time::date(self.next_election_date)),
            document: self.document.clone(),
        }
    }
}

/// The state of one strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    name: String,
    tenant: TenantId,
    city: String,
    state: StrategyState,
    /// The API message with only the free texts set.
    #[serde(with = "serde_proto")]
    texts: proto::Strategy,
    goals: BTreeMap<String, Goal>,
    tools: BTreeMap<String, ToolLink>,
    adoption: Option<Adoption>,
    last_valid_date: Option<NaiveDate>,
    grace_months: u32,
    superseded_by: Option<String>,
}

impl Strategy {
    /// The resource name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The city, `cities/{city}`.
    #[must_use]
    pub fn city(&self) -> &str {
        &self.city
    }

    /// The state of the strategy.
    #[must_use]
    pub fn state(&self) -> StrategyState {
        self.state
    }

    /// The goals, sorted by id.
    pub fn goals(&self) -> impl Iterator<Item = &Goal> {
        self.goals.values()
    }

    /// Returns a goal by its id.
    #[must_use]
    pub fn goal(&self, id: &str) -> Option<&Goal> {
        self.goals.get(id)
    }

    /// The linked tools, sorted by name.
    pub fn tools(&self) -> impl Iterator<Item = &ToolLink> {
        self.tools.values()
    }

    /// Returns the link of a tool.
    #[must_use]
    pub fn tool(&self, tool: &str) -> Option<&ToolLink> {
        self.tools.get(tool)
    }

    /// The adoption, if the strategy was adopted.
    #[must_use]
    pub fn adoption(&self) -> Option<&Adoption> {
        self.adoption.as_ref()
    }

    /// The last day of validity.
    #[must_use]
    pub fn last_valid_date(&self) -> Option<NaiveDate> {
        self.last_valid_date
    }

    /// Returns whether a text is present in any language.
    #[must_use]
    pub fn describes(&self, field: &str) -> bool {
        !text_of(&self.texts, field).is_empty()
    }

    /// Returns whether any goal is of the kind.
    #[must_use]
    pub fn has_kind(&self, kind: GoalKind) -> bool {
        self.goals.values().any(|goal| goal.kind() == kind)
    }

    /// Returns the name of a goal in the evidence of findings.
    #[must_use]
    pub fn goal_name(&self, id: &str) -> String {
        format!("{}/goals/{id}", self.name)
    }

    /// Converts the strategy to the API message without `etag`, which depends on the journal's version.
    #[must_use]
    pub fn to_proto(&self) -> proto::Strategy {
        proto::Strategy {
            name: self.name.clone(),
            city: self.city.clone(),
            state: self.state as i32,
            goals: self.goals.values().map(Goal::to_proto).collect(),
            tools: self.tools.values().map(ToolLink::to_proto).collect(),
            adoption: self.adoption.as_ref().map(Adoption::to_proto),
            last_valid_date: self.last_valid_date.map(time::date),
            grace_months: i32::try_from(self.grace_months).unwrap_or(i32::MAX),
            superseding_strategy: self.superseded_by.clone().unwrap_or_default(),
            ..self.texts.clone()
        }
    }

    /// Creates the adopted strategy that a simulation uses if the city has none in force (ST-9).
    #[must_use]
    pub(crate) fn hypothetical(tenant: TenantId, city: &str, date: NaiveDate, next_election: NaiveDate) -> Self {
        let council_vote = CouncilVote {
            result: VoteResult::Approved as i32,
            vote_date: Some(time::date(date)),
            ..CouncilVote::default()
        };
        let adoption =
            Adoption { mayor_adoption_date: date, council_vote, next_election_date: next_election, document: None };
        Self {
            name: "strategies/what-if".into(),
            tenant,
            city: city.into(),
            state: StrategyState::Adopted,
            texts: proto::Strategy::default(),
            goals: BTreeMap::new(),
            tools: BTreeMap::new(),
            adoption: Some(adoption),
            last_valid_date: Some(time::months_later(next_election, GRACE_MONTHS)),
            grace_months: GRACE_MONTHS,
            superseded_by: None,
        }
    }

    fn begun(change: &proto::StrategyCreated) -> Refused<Self> {
        let strategy = change.strategy.clone().unwrap_or_default();
        let mut this = Self {
            name: strategy.name.clone(),
            tenant: TenantId::parse(&change.tenant, "tenant")?,
            city: strategy.city.clone(),
            state: StrategyState::Draft,
            texts: proto::Strategy::default(),
            goals: BTreeMap::new(),
            tools: BTreeMap::new(),
            adoption: None,
            last_valid_date: None,
            grace_months: u32::try_from(change.grace_months).unwrap_or(GRACE_MONTHS),
            superseded_by: None,
        };
        this.write(&strategy, TEXT_FIELDS.iter().copied());
        Ok(this)
    }

    fn write<'a>(&mut self, strategy: &proto::Strategy, fields: impl IntoIterator<Item = &'a str>) {
        for field in fields.into_iter().filter(|field| TEXT_FIELDS.contains(field)) {
            self.texts.copy_field(field, strategy);
        }
    }

    /// Adds or replaces a goal.
    pub(crate) fn put(&mut self, goal: Goal) {
        self.goals.insert(goal.id.clone(), goal);
    }

    /// Adds or replaces a link.
    pub(crate) fn link(&mut self, link: ToolLink) {
        self.tools.insert(link.tool.clone(), link);
    }

    /// Removes a goal, and every link that has no goals left.
    fn drop_goal(&mut self, id: &str) {
        self.goals.remove(id);
        for link in self.tools.values_mut() {
            link.goals.remove(id);
        }
        self.tools.retain(|_, link| !link.goals.is_empty());
    }

    fn apply(&mut self, change: &Change) -> Refused<()> {
        let missing = |field: &str| Refusal::field(field, "is required");
        match change {
            Change::Created(_) => return Err(Refusal::field("created", "must be the first change only")),
            Change::Updated(c) => {
                let (strategy, mask) =
                    (c.strategy.clone().unwrap_or_default(), c.update_mask.clone().unwrap_or_default());
                self.write(&strategy, mask.paths.iter().map(String::as_str));
            }
            Change::GoalSet(c) => self.put(Goal::parse("goal", c.goal.as_ref().ok_or_else(|| missing("goal"))?)?),
            Change::GoalDeleted(c) => self.drop_goal(&c.goal_id),
            Change::ToolLinked(c) => {
                self.link(ToolLink::parse("link", c.link.as_ref().ok_or_else(|| missing("link"))?)?);
            }
            Change::ToolUnlinked(c) => drop(self.tools.remove(&c.tool)),
            Change::Adopted(c) => {
                self.adoption = Some(Adoption::parse(c.adoption.as_ref())?);
                self.last_valid_date = Some(time::day("last_valid_date", c.last_valid_date.as_ref())?);
                self.state = StrategyState::Adopted;
            }
            Change::Superseded(c) => {
                self.superseded_by = Some(c.superseding_strategy.clone());
                self.state = StrategyState::Superseded;
            }
            Change::Lapsed(_) => self.state = StrategyState::Lapsed,
        }
        Ok(())
    }

    /// Returns whether a change may follow in the present state. The rules decide this; the fold only checks the
    /// journal.
    fn fits(&self, change: &Change) -> bool {
        match change {
            Change::Created(_) => false,
            Change::Updated(_) | Change::GoalSet(_) | Change::GoalDeleted(_) | Change::Adopted(_) => {
                self.state == StrategyState::Draft
            }
            Change::ToolLinked(_) | Change::ToolUnlinked(_) => {
                matches!(self.state, StrategyState::Draft | StrategyState::Adopted)
            }
            Change::Superseded(_) => matches!(self.state, StrategyState::Adopted | StrategyState::Lapsed),
            Change::Lapsed(_) => self.state == StrategyState::Adopted,
        }
    }
}

impl IntoResource for Strategy {
    type Resource = proto::Strategy;

    fn to_resource(&self, _: &RecordName, etag: &str, _: &Caller) -> proto::Strategy {
        proto::Strategy { etag: etag.to_owned(), ..self.to_proto() }
    }

    fn basic(strategy: proto::Strategy) -> proto::Strategy {
        let proto::Strategy {
            name,
            etag,
            city,
            state,
            title,
            adoption,
            last_valid_date,
            grace_months,
            superseding_strategy,
            create_time,
            update_time,
            ..
        } = strategy;
        proto::Strategy {
            name,
            etag,
            city,
            state,
            title,
            adoption,
            last_valid_date,
            grace_months,
            superseding_strategy,
            create_time,
            update_time,
            ..proto::Strategy::default()
        }
    }
}

impl Record for Strategy {
    const COLLECTION: &'static str = "strategies";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, FoldError> {
        let fold_error = |why: &str| FoldError(format!("change {}: {why}", stamp.version));
        match (before, change) {
            (None, Change::Created(created)) => Self::begun(created).map_err(|e| fold_error(&e.to_string())),
            (None, _) => Err(fold_error("a strategy begins with its creation")),
            (Some(state), _) if !state.fits(change) => Err(fold_error("the change is not possible in this state")),
            (Some(mut state), _) => {
                state.apply(change).map_err(|e| fold_error(&e.to_string()))?;
                Ok(state)
            }
        }
    }

    fn owner(&self) -> TenantId {
        self.tenant
    }

    /// Only the owner, in every state (PL-1).
    fn audience(&self) -> Audience {
        Audience::of([self.tenant])
    }

    fn due(&self) -> Option<DateTime<Utc>> {
        self.last_valid_date.filter(|_| self.state == StrategyState::Adopted).map(over_everywhere)
    }

    fn on_due(&self, due: DateTime<Utc>) -> Vec<Emitted<Change>> {
        if self.due() != Some(due) {
            return Vec::new();
        }
        let lapsed = proto::StrategyLapsed { last_valid_date: self.last_valid_date.map(time::date) };
        vec![Emitted::at_level(lapsed, Some(self.tenant), AssuranceLevel::Host)]
    }
}
