//! Activities under an agreement (AG-5, AG-6) and the committees of a twinning (AG-9).

use super::{
    ACTIVITIES, Agreement, COLLECTION, Change, Recorded,
    life::source,
    rules::{OFFICE, at_level, in_state, is_keeper, party_as},
    terms::{each_once, sectors},
};
use chrono::NaiveDate;
use hansa_kernel::{
    AssuranceLevel, Caller, Decision, Moment, ReasonClass, RecordId, RecordName, Refusal, Refused,
    limits::LIST_ENTRIES, money, record::emit, text, time,
};
use hansa_proto::partnerships::{
    Activity, ActivityCreated, ActivityKind, AgreementState, Committee, CommitteeSet, CreateActivityRequest,
    FundingSource, Sector, SetCommitteeRequest,
};
use hansa_proto::types::AgreementKind;

/// Maximum duration of an activity, in months.
const LONGEST_MONTHS: u32 = 60;

/// Records an activity, once the dialogue is open.
///
/// # Errors
/// Refused under AG-6 if the activity is incomplete; AG-3 if the agreement is in another state; AG-13 if the steward
/// names no source; AG-14 if the activity began during a suspension. `LIMIT` if the agreement has [`ACTIVITIES`].
pub fn create_activity(
    state: &Agreement,
    command: &CreateActivityRequest,
    caller: &Caller,
    at: Moment,
) -> Decision<Change> {
    let keeper = is_keeper(state, caller);
    let city = if keeper { String::new() } else { state.sides[party_as(state, caller, OFFICE)?].name() };
    let activity = command.activity.clone().unwrap_or_default();
    source(keeper, "activity.source", &activity.source)?;
    let (start, activity) = read(activity, at)?;
    open(state, start)?;
    let outside = activity.sectors().filter(|&sector| state.terms.outside(sector)).map(|sector| sector as i32);
    let sectors_outside = outside.collect();
    let change = ActivityCreated {
        activity: Some(Activity {
            name: String::new(),
            city,
            sectors_outside,
            create_time: None,
            update_time: None,
            ..activity
        }),
    };
    Ok(at_level(change, if keeper { AssuranceLevel::Attested } else { AssuranceLevel::Host }))
}

fn read(activity: Activity, at: Moment) -> Refused<(NaiveDate, Activity)> {
    if activity.kind() == ActivityKind::Unspecified {
        return Err(Refusal::field("activity.kind", "is required").under("AG-6"));
    }
    text::required("activity.title", &activity.title)?;
    text::optional("activity.departments", &activity.departments)?;
    text::optional("activity.outcome", &activity.outcome)?;
    let dates = activity.dates.unwrap_or_default();
    let first = dates.first_date.as_ref();
    let start = time::past_day("activity.dates.first_date", first, at).map_err(|r| r.under("AG-6"))?;
    let end = time::day_if_any("activity.dates.last_date", dates.last_date.as_ref())?.unwrap_or(start);
    if end < start || end > time::months_later(start, LONGEST_MONTHS) {
        return Err(Refusal::field("activity.dates.last_date", "is before the start or more than 60 months after it")
            .under("AG-6"));
    }
    let sectors = sectors("activity.sectors", &activity.sectors)?;
    let known = |n| FundingSource::try_from(n).ok().filter(|source| *source != FundingSource::Unspecified);
    each_once("activity.funding", &activity.funding, known)?;
    if activity.participant_count < 0 {
        return Err(Refusal::field("activity.participant_count", "is negative"));
    }
    activity.cost.as_ref().map(|cost| money::cost("activity.cost", cost)).transpose()?;
    let economic_component = activity.economic_component
        || activity.kind() == ActivityKind::BusinessMission
        || sectors.contains(&Sector::EconomicDevelopment);
    Ok((start, Activity { dates: Some(time::range(Some(start), Some(end))), economic_component, ..activity }))
}

fn open(state: &Agreement, start: NaiveDate) -> Refused<()> {
    let states = [
        AgreementState::InDialogue,
        AgreementState::Planned,
        AgreementState::Approved,
        AgreementState::Signed,
        AgreementState::Active,
        AgreementState::Dormant,
        AgreementState::Suspended,
    ];
    in_state(state, "AG-3", &states, "Recording an activity")?;
    let suspended = [&state.sides.initiator, &state.sides.partner];
    let since = suspended.into_iter().filter_map(|side| side.suspension.as_ref()).map(|s| s.date).min();
    if since.is_some_and(|since| start >= since) {
        return Err(Refusal::rule(
            "AG-14",
            "ACTIVITY_WHILE_SUSPENDED",
            "An activity cannot start while the agreement is suspended",
        )
        .missing("activity.dates.first_date", "is in the suspension")
        .help("Lift the suspension first, or record an activity that began before it."));
    }
    if state.activities.len() >= ACTIVITIES {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "AG-6",
            "TOO_MANY_ACTIVITIES",
            format!("The agreement already has {ACTIVITIES} activities"),
        )
        .help("Propose a new agreement and record further activities there."));
    }
    Ok(())
}

/// Sets the twinning committee of the caller's side.
///
/// # Errors
/// Refused under AG-9 if the agreement is of another kind or not yet signed, or if the committee does not have
/// exactly one chair.
pub fn set_committee(state: &Agreement, command: &SetCommitteeRequest, caller: &Caller) -> Decision<Change> {
    let which = party_as(state, caller, OFFICE)?;
    let committee = command.committee.clone().unwrap_or_default();
    check(&committee)?;
    // The kind of an import may be unknown. A committee indicates a twinning.
    if !matches!(state.kind(), AgreementKind::Twinning | AgreementKind::Unspecified) {
        return Err(Refusal::rule("AG-9", "NOT_A_TWINNING", "Only a twinning has committees")
            .missing("kind", "the agreement is not a twinning")
            .help("Propose a twinning that supersedes this agreement."));
    }
    let states = [AgreementState::Signed, AgreementState::Active, AgreementState::Dormant, AgreementState::Suspended];
    in_state(state, "AG-9", &states, "Setting a committee")?;
    emit(CommitteeSet { city: state.sides[which].name(), committee: Some(committee) })
}

fn check(committee: &Committee) -> Refused<()> {
    if committee.members.len() > LIST_ENTRIES {
        return Err(Refusal::field("committee.members", format!("has more than {LIST_ENTRIES} entries")));
    }
    for (i, member) in committee.members.iter().enumerate() {
        text::required(&format!("committee.members[{i}].person_name"), &member.person_name)?;
    }
    text::optional("committee.support", &committee.support)?;
    if committee.members.iter().filter(|member| member.chair).count() == 1 {
        return Ok(());
    }
    Err(Refusal::rule("AG-9", "COMMITTEE_CHAIR_MISSING", "A committee has one chair")
        .missing("committee.members", "must have exactly one chair")
        .help("Mark one member as the chair."))
}

impl Agreement {
    /// Returns the number of recorded activities.
    #[must_use]
    pub fn activity_count(&self) -> usize {
        self.activities.len()
    }

    /// Returns a page of the activities to a caller who may see them. They are not part of the agreement's public
    /// view (PL-1).
    ///
    /// # Errors
    /// `NOT_FOUND` if the caller's tenant was never owner or party of the agreement.
    pub fn activities_for(&self, caller: &Caller, id: RecordId, skip: usize, most: usize) -> Refused<Vec<Activity>> {
        if self.readers.contains(&caller.tenant) {
            return Ok(self.activities(id, skip, most));
        }
        Err(Refusal::not_found(RecordName::new(COLLECTION, id)))
    }

    /// Returns the activity that the change of this version recorded.
    #[must_use]
    pub fn activity(&self, id: RecordId, version: u64) -> Option<Activity> {
        let recorded = self.activities.iter().find(|recorded| recorded.version == version)?;
        Some(recorded.named(id))
    }

    /// Returns a page of the activities in the order in which they were recorded, after the first `skip`.
    #[must_use]
    pub fn activities(&self, id: RecordId, skip: usize, most: usize) -> Vec<Activity> {
        self.activities.iter().skip(skip).take(most).map(|recorded| recorded.named(id)).collect()
    }
}

impl Recorded {
    fn named(&self, agreement: RecordId) -> Activity {
        let parent = RecordName::new(COLLECTION, agreement);
        Activity { name: format!("{parent}/activities/{}", self.version), ..self.activity.clone() }
    }
}
