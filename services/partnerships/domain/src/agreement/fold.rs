//! Folds changes into the state. A change that cannot follow the state is a [`FoldError`]; no rule produces such a
//! change.

use super::{
    Agreement, Attested, Change, Close, Ending, InForce, Life, Period, Recorded, SignedOn, Told, Which,
    attestation::Step,
    facts::Clock,
    sides::{Both, Reasoned, Side, Signature, Suspension, Taken, Vote},
    terms::{Requirements, Terms, sectors, term},
};
use chrono::NaiveDate;
use hansa_kernel::{FoldError, RecordName, Refusal, Stamp, TenantId, time};
use hansa_proto::{
    google::r#type::Date,
    partnerships::{
        AgreementImported, AgreementProposed, AgreementSignature, AgreementStep, AttestationState, JointText,
        PartyEntry, StepAttested,
    },
    types::{CouncilVote, DateRange, LocalizedText, VoteResult},
};

type Fold<T> = Result<T, FoldError>;

pub(super) fn fold(before: Option<Agreement>, change: &Change, stamp: &Stamp) -> Fold<Agreement> {
    let Some(mut state) = before else {
        return match change {
            Change::Proposed(change) => proposed(change, stamp),
            Change::Imported(change) => imported(change, stamp),
            _ => Err(fold_error("an agreement begins with a proposal or an import")),
        };
    };
    state.apply(change, stamp)?;
    Ok(state)
}

fn fold_error(what: impl Into<String>) -> FoldError {
    FoldError(what.into())
}

fn unreadable(refusal: Refusal) -> FoldError {
    FoldError(refusal.message)
}

fn day(field: &str, date: Option<&Date>) -> Fold<NaiveDate> {
    time::day(field, date).map_err(unreadable)
}

fn tenant(name: &str) -> Fold<Option<TenantId>> {
    if name.is_empty() { Ok(None) } else { TenantId::parse(name, "tenant").map(Some).map_err(unreadable) }
}

fn side(entry: Option<&PartyEntry>) -> Fold<Side> {
    let entry = entry.ok_or_else(|| fold_error("a side is missing"))?;
    Ok(Side {
        city: RecordName::parse(&entry.city, "cities", "city").map_err(unreadable)?.id,
        display_name: entry.display_name.clone(),
        country: entry.country_code.clone(),
        tenant: tenant(&entry.tenant)?,
        rationale: None,
        plan: None,
        vote: None,
        signature: None,
        need: entry.guidelines_need(),
        guidelines: None,
        overridden: None,
        suspension: None,
        committee: None,
    })
}

fn blank(owner: TenantId, sides: Both<Side>, terms: Terms, clock: Clock, stamp: &Stamp) -> Agreement {
    let mut state = Agreement {
        owner,
        readers: vec![owner],
        public: false,
        sides,
        terms,
        requirements: Requirements::default(),
        clock,
        supersedes: None,
        origin: None,
        revision: 0,
        dialogue: None,
        rationale: None,
        plan: None,
        revitalization: None,
        renewal: None,
        attestations: Vec::new(),
        life: Life::Preparing,
        periods: Vec::new(),
        signed_on: SignedOn::Unknown,
        anniversary: None,
        activities: Vec::new(),
        last_activity: None,
        created: stamp.at,
    };
    let tenants = state.tenants();
    state.readers.extend(tenants.initiator.into_iter().chain(tenants.partner));
    state
}

fn proposed(change: &AgreementProposed, stamp: &Stamp) -> Fold<Agreement> {
    let sides = Both { initiator: side(change.initiator.as_ref())?, partner: side(change.partner.as_ref())? };
    let owner = sides.initiator.tenant.ok_or_else(|| fold_error("a proposal has no initiator on the platform"))?;
    let terms = Terms::read(&change.terms.clone().unwrap_or_default()).map_err(unreadable)?;
    let clock = Clock::from_proto(&change.settings.clone().unwrap_or_default());
    let mut state = blank(owner, sides, terms, clock, stamp);
    state.requirements = Requirements::from_proto(&change.requirements.unwrap_or_default());
    if !change.superseded_agreement.is_empty() {
        let name = RecordName::parse(&change.superseded_agreement, super::COLLECTION, "superseded_agreement")
            .map_err(unreadable)?;
        state.supersedes = Some(name.id);
    }
    Ok(state)
}

fn imported(change: &AgreementImported, stamp: &Stamp) -> Fold<Agreement> {
    let sides = Both { initiator: side(change.initiator.as_ref())?, partner: side(change.partner.as_ref())? };
    let keeper = tenant(&change.keeper)?.ok_or_else(|| fold_error("an import has no keeper"))?;
    let terms = Terms::read(&change.terms.clone().unwrap_or_default()).map_err(unreadable)?;
    let clock = Clock::from_proto(&change.settings.clone().unwrap_or_default());
    let import_date = day("import_date", change.import_date.as_ref())?;
    let mut state = blank(keeper, sides, terms, clock, stamp);
    state.signed_on = SignedOn::read("signed_date", change.signed_date.as_ref()).map_err(unreadable)?;
    state.attestations.push(Attested {
        side: None,
        step: AgreementStep::Import,
        document: None,
        source: change.origin.as_ref().map(|origin| origin.source.clone()).unwrap_or_default(),
        taken: Taken::of(stamp),
        state: AttestationState::Attested,
        reason: Vec::new(),
    });
    state.origin.clone_from(&change.origin);
    let period = match state.terms.start {
        Some(start) => Period::first(start, state.terms.term),
        None => Period { start: None, end: None, automatic: false },
    };
    state.enter(period, import_date, stamp);
    Ok(state)
}

impl Agreement {
    fn apply(&mut self, change: &Change, stamp: &Stamp) -> Fold<()> {
        match change {
            Change::Proposed(_) | Change::Imported(_) => Err(fold_error("an agreement can begin only once")),
            Change::DialogueOpened(change) => {
                self.preparing()?;
                self.side(&change.city)?;
                self.step(Which::Partner, &Step::Dialogue, stamp)
            }
            Change::TermsRevised(change) => {
                self.preparing()?;
                self.terms = Terms::read(&change.terms.clone().unwrap_or_default()).map_err(unreadable)?;
                self.requirements = Requirements::from_proto(&change.requirements.unwrap_or_default());
                self.reworded(change.revision)
            }
            Change::RationaleProposed(change) => {
                let (which, words) = self.words(change.rationale.as_ref())?;
                self.reworded(words.revision)?;
                self.rationale = Some(words);
                self.plan = None;
                self.sides[which].rationale = Some(Taken::of(stamp));
                Ok(())
            }
            Change::RationaleConfirmed(change) => self.step(self.side(&change.city)?, &Step::Rationale, stamp),
            Change::PlanProposed(change) => {
                let (which, words) = self.words(change.plan.as_ref())?;
                self.preparing()?;
                self.next_revision(words.revision)?;
                self.sides.each(|side| side.plan = None);
                self.plan = Some(words);
                self.sides[which].plan = Some(Taken::of(stamp));
                self.forget_fallen();
                Ok(())
            }
            Change::PlanConfirmed(change) => self.step(self.side(&change.city)?, &Step::Plan, stamp),
            Change::CouncilVoted(change) => {
                let which = self.side(&change.city)?;
                self.step(which, &vote(change.vote.as_ref(), stamp)?, stamp)
            }
            Change::Signed(change) => {
                let which = self.side(&change.city)?;
                self.sides[which].need = change.guidelines_need();
                self.step(which, &signature(change.signature.as_ref(), stamp)?, stamp)
            }
            Change::StepAttested(change) => self.attested(change, stamp),
            Change::EnteredIntoForce(change) => {
                self.preparing()?;
                let (start, end) = term_days(change.term.as_ref())?;
                self.enter(Period { start: Some(start), end, automatic: false }, start, stamp);
                Ok(())
            }
            other => self.apply_later(other, stamp),
        }
    }

    /// Applies the changes that are not steps of the preparation.
    fn apply_later(&mut self, change: &Change, stamp: &Stamp) -> Fold<()> {
        match change {
            Change::GuidelinesStated(change) => {
                let which = self.side(&change.city)?;
                self.sides[which].guidelines = change.guidelines.clone().map(|words| (words, Taken::of(stamp)));
                Ok(())
            }
            Change::GuidelinesOverridden(change) => {
                let which = self.side(&change.city)?;
                let reasoned = Reasoned { reason: change.reason.clone(), taken: Taken::of(stamp) };
                self.sides[which].overridden = Some(reasoned);
                Ok(())
            }
            Change::Declined(change) => self.over(Close::Declined, &change.city, &change.reason, stamp.at.date_naive()),
            Change::Withdrawn(change) => {
                self.over(Close::Withdrawn, &change.city, &change.reason, stamp.at.date_naive())
            }
            Change::Ended(change) => {
                self.over(Close::Ended, &change.city, &change.reason, day("last_date", change.last_date.as_ref())?)
            }
            Change::Superseded(change) => {
                let by = RecordName::parse(&change.superseding_agreement, super::COLLECTION, "superseding_agreement");
                let by = by.map_err(unreadable)?.id;
                self.over(Close::Superseded(by), "", &[], day("effective_date", change.effective_date.as_ref())?)
            }
            Change::ActivityCreated(change) => {
                let mut activity = change.activity.clone().ok_or_else(|| fold_error("an activity is missing"))?;
                let dates = activity.dates.unwrap_or_default();
                let end = day("last_date", dates.last_date.as_ref())?;
                activity.create_time = Some(time::timestamp(stamp.at));
                activity.update_time = activity.create_time;
                self.last_activity = self.last_activity.max(Some(end));
                if let Life::InForce(force) = &mut self.life {
                    force.quiet_since = force.quiet_since.max(end);
                }
                self.activities.push(Recorded { version: stamp.version, activity });
                Ok(())
            }
            Change::CommitteeSet(change) => {
                let which = self.side(&change.city)?;
                self.sides[which].committee.clone_from(&change.committee);
                Ok(())
            }
            Change::Claimed(change) => {
                let which = self.side(&change.city)?;
                self.claimed(which, tenant(&change.tenant)?.ok_or_else(|| fold_error("a claim names no tenant"))?)
            }
            Change::PartySucceeded(change) => {
                let which = self.side(&change.city)?;
                self.succeeded(which, side(change.successor.as_ref())?);
                Ok(())
            }
            Change::AttestationConfirmed(change) => {
                self.answer(&change.city, change.step(), AttestationState::Confirmed, &[])
            }
            Change::AttestationDisputed(change) => {
                self.answer(&change.city, change.step(), AttestationState::Disputed, &change.reason)
            }
            other => self.apply_in_force(other, stamp),
        }
    }

    /// Applies the changes that require an agreement that is or was in force.
    fn apply_in_force(&mut self, change: &Change, stamp: &Stamp) -> Fold<()> {
        match change {
            Change::BecameDormant(change) => {
                self.force()?.dormant = Some(day("last_date", change.last_date.as_ref())?);
                Ok(())
            }
            Change::AnniversaryApproached(change) => {
                let years = change.anniversary.as_ref().map_or(0, |anniversary| anniversary.years);
                self.anniversary = Some(Told { years: years.max(0).cast_unsigned() });
                Ok(())
            }
            Change::RevitalizationProposed(change) => {
                let (_, words) = self.words(change.revitalization.as_ref())?;
                self.next_revision(words.revision)?;
                self.revitalization = Some(words);
                Ok(())
            }
            Change::Revitalized(change) => {
                let date = day("effective_date", change.effective_date.as_ref())?;
                let force = self.force()?;
                force.dormant = None;
                force.quiet_since = force.quiet_since.max(date);
                self.terms.sectors = sectors("sectors", &change.sectors).map_err(unreadable)?;
                self.revitalization = None;
                Ok(())
            }
            Change::Suspended(change) => {
                let which = self.side(&change.city)?;
                self.force()?;
                self.sides[which].suspension = Some(Suspension {
                    date: day("first_date", change.first_date.as_ref())?,
                    reason: change.reason.clone(),
                    taken: Taken::of(stamp),
                });
                Ok(())
            }
            Change::SuspensionLifted(change) => self.lifted(&change.city, change.effective_date.as_ref(), stamp),
            Change::RenewalProposed(change) => {
                let (_, words) = self.words(change.renewal.as_ref())?;
                self.next_revision(words.revision)?;
                self.renewal = Some(words);
                Ok(())
            }
            Change::Renewed(change) => {
                let (start, end) = term_days(change.term.as_ref())?;
                let period = Period { start: Some(start), end, automatic: change.automatic };
                let term = term("renewed", change.term_months, change.renews_automatically).map_err(unreadable)?;
                self.renewed(period, term, stamp)
            }
            Change::Expired(change) => {
                self.force()?;
                self.life = Life::Expired(day("last_date", change.last_date.as_ref())?);
                self.revitalization = None;
                // A suspension ends with the term. A renewed term begins without one.
                self.sides.each(|side| side.suspension = None);
                Ok(())
            }
            _ => Err(fold_error("the type of the change is unknown")),
        }
    }

    fn preparing(&self) -> Fold<()> {
        if matches!(self.life, Life::Preparing) { Ok(()) } else { Err(fold_error("the preparation has ended")) }
    }

    fn force(&mut self) -> Fold<&mut InForce> {
        match &mut self.life {
            Life::InForce(force) => Ok(force),
            _ => Err(fold_error("the agreement is not in force")),
        }
    }

    fn side(&self, city: &str) -> Fold<Which> {
        Which::ALL
            .into_iter()
            .find(|&which| self.sides[which].name() == city)
            .ok_or_else(|| fold_error("the city is not a party"))
    }

    fn words(&self, words: Option<&JointText>) -> Fold<(Which, JointText)> {
        let words = words.ok_or_else(|| fold_error("the text is missing"))?;
        Ok((self.side(&words.city)?, words.clone()))
    }

    fn next_revision(&mut self, revision: i32) -> Fold<()> {
        if self.revision.checked_add(1) != Some(revision) {
            return Err(fold_error("the revision is not the next one"));
        }
        self.revision = revision;
        Ok(())
    }

    /// Applies a new wording of terms or rationale, which revokes all confirmations, votes and signatures.
    fn reworded(&mut self, revision: i32) -> Fold<()> {
        self.preparing()?;
        self.next_revision(revision)?;
        for words in [&mut self.rationale, &mut self.plan].into_iter().flatten() {
            words.revision = revision;
        }
        self.sides.each(|side| {
            (side.rationale, side.plan, side.vote, side.signature) = (None, None, None, None);
        });
        self.forget_fallen();
        Ok(())
    }

    /// Applies a step of one side, taken by the side itself or attested by the other.
    fn step(&mut self, which: Which, step: &Step, stamp: &Stamp) -> Fold<()> {
        self.preparing()?;
        match step {
            Step::Dialogue => self.dialogue = Some(Taken::of(stamp)),
            Step::Rationale => self.sides[which].rationale = Some(Taken::of(stamp)),
            Step::Plan => self.sides[which].plan = Some(Taken::of(stamp)),
            Step::Vote(vote) if vote.vote.result() == VoteResult::Rejected => {
                let city = self.sides[which].name();
                let date = day("vote_date", vote.vote.vote_date.as_ref())?;
                return self.over(Close::Declined, &city, &[], date);
            }
            Step::Vote(vote) => self.sides[which].vote = Some(vote.clone()),
            Step::Signature(signature) => self.sides[which].signature = Some(signature.clone()),
        }
        Ok(())
    }

    fn attested(&mut self, change: &StepAttested, stamp: &Stamp) -> Fold<()> {
        let which = self.side(&change.city)?;
        let step = match change.step() {
            AgreementStep::Dialogue => Some(Step::Dialogue),
            AgreementStep::Rationale => Some(Step::Rationale),
            AgreementStep::Plan => Some(Step::Plan),
            AgreementStep::CouncilVote => Some(vote(change.vote.as_ref(), stamp)?),
            AgreementStep::Signature => Some(signature(change.signature.as_ref(), stamp)?),
            // The effect of these steps is a separate change.
            AgreementStep::Revitalization | AgreementStep::Renewal => None,
            AgreementStep::Import | AgreementStep::Unspecified => {
                return Err(fold_error("the step cannot be attested"));
            }
        };
        self.attestations.push(Attested {
            side: Some(which),
            step: change.step(),
            document: change.document.clone(),
            source: change.source.clone(),
            taken: Taken::of(stamp),
            state: AttestationState::Attested,
            reason: Vec::new(),
        });
        step.map_or(Ok(()), |step| self.step(which, &step, stamp))
    }

    fn enter(&mut self, period: Period, quiet_since: NaiveDate, stamp: &Stamp) {
        let last = self.sides.initiator.signature.iter().chain(&self.sides.partner.signature).map(|s| s.date).max();
        if let Some(date) = last {
            self.signed_on = SignedOn::Day(date);
        }
        self.periods.push(period);
        self.life = Life::InForce(InForce { dormant: None, quiet_since, anniversaries_from: stamp.at });
        self.public = true;
    }

    fn lifted(&mut self, city: &str, date: Option<&Date>, stamp: &Stamp) -> Fold<()> {
        let which = self.side(city)?;
        let date = day("effective_date", date)?;
        self.sides[which].suspension = None;
        let free = !self.suspended();
        let force = self.force()?;
        if free {
            force.quiet_since = force.quiet_since.max(date);
            force.anniversaries_from = force.anniversaries_from.max(stamp.at);
        }
        Ok(())
    }

    fn renewed(&mut self, period: Period, term: Option<super::terms::Term>, stamp: &Stamp) -> Fold<()> {
        let start = period.start.ok_or_else(|| fold_error("a renewal has no start"))?;
        match self.life {
            Life::InForce(_) => self.periods.push(period),
            Life::Expired(_) => self.enter(period, start, stamp),
            _ => return Err(fold_error("the agreement cannot be renewed")),
        }
        self.terms.term = term;
        // A proposed renewal does not fit the new term if the old one renewed automatically in the meantime.
        self.renewal = None;
        Ok(())
    }

    fn over(&mut self, how: Close, city: &str, reason: &[LocalizedText], date: NaiveDate) -> Fold<()> {
        if matches!(self.life, Life::Over(_)) {
            return Err(fold_error("the agreement is already over"));
        }
        let by = if city.is_empty() { None } else { Some(self.side(city)?) };
        if matches!(self.life, Life::InForce(_)) {
            self.cut_short(date);
        }
        self.life = Life::Over(Ending { how, date, by, reason: reason.to_vec() });
        (self.revitalization, self.renewal) = (None, None);
        Ok(())
    }

    /// Ends the periods on a day. A renewed period that has not begun is dropped.
    fn cut_short(&mut self, date: NaiveDate) {
        while self.periods.len() > 1 && self.periods.last().is_some_and(|period| period.start > Some(date)) {
            self.periods.pop();
        }
        if let Some(period) = self.periods.last_mut() {
            let date = period.start.map_or(date, |start| start.max(date));
            period.end = Some(period.end.map_or(date, |end| end.min(date)));
        }
    }
}

/// Returns the first and the last day of a term.
fn term_days(term: Option<&DateRange>) -> Fold<(NaiveDate, Option<NaiveDate>)> {
    let (first, last) = time::days("term", term).map_err(unreadable)?;
    Ok((first.ok_or_else(|| fold_error("a term has no first day"))?, last))
}

fn vote(vote: Option<&CouncilVote>, stamp: &Stamp) -> Fold<Step> {
    let vote = vote.ok_or_else(|| fold_error("a vote is missing"))?;
    Ok(Step::Vote(Vote { vote: vote.clone(), taken: Taken::of(stamp) }))
}

fn signature(signature: Option<&AgreementSignature>, stamp: &Stamp) -> Fold<Step> {
    let signature = signature.ok_or_else(|| fold_error("a signature is missing"))?;
    Ok(Step::Signature(Signature {
        date: day("signature_date", signature.signature_date.as_ref())?,
        place: signature.place.clone(),
        in_ceremony: signature.in_ceremony,
        scan: signature.scan.clone(),
        delegation: signature.delegation.clone(),
        taken: Taken::of(stamp),
    }))
}
