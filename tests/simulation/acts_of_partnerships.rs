//! Commands of the partnerships service: mostly the next step of an agreement, sometimes any command.

#![allow(clippy::needless_update, reason = "some of the requests have no fields of their own")]

use crate::acts::{City, Mind, Order};
use hansa_kernel::{Role, TenantId};
use hansa_proto::{
    partnerships::{self as p, AgreementState, GuidelinesNeed, Sector},
    types::{AgreementKind, CouncilVote, DateRange, VoteResult},
};

/// Returns the path of an rpc.
macro_rules! path {
    ($service:ident.$rpc:ident) => {
        concat!("/hansa.partnerships.v1.", stringify!($service), "Service/", stringify!($rpc))
    };
}

/// Builds a command on an agreement from caller, rpc, request type and the request's own fields.
macro_rules! order {
    ($mind:expr, $on:expr, $by:expr, $service:ident.$rpc:ident, $request:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        let request = p::$request {
            name: $on.name.clone(),
            etag: $mind.etag(&$on.etag),
            request_id: $mind.id(),
            validate_only: $mind.tried,
            $($field: $value,)*
            ..Default::default()
        };
        let name = $on.name.clone();
        $mind.order(path!($service.$rpc), &name, $by, &request)
    }};
}

/// Builds the request that records an activity under an agreement.
macro_rules! create_activity {
    ($mind:expr, $on:expr, $by:expr) => {{
        let request = p::CreateActivityRequest {
            parent: $on.name.clone(),
            activity: Some($mind.activity()),
            request_id: $mind.id(),
            validate_only: $mind.tried,
        };
        let name = $on.name.clone();
        $mind.order(path!(Partnership.CreateActivity), &name, $by, &request)
    }};
}

mod attestations;

/// A party of an agreement that has a tenant.
struct Side<'a> {
    party: &'a p::AgreementParty,
    other: &'a p::AgreementParty,
    tenant: TenantId,
    votes: bool,
}

impl Side<'_> {
    fn as_(&self, role: Role) -> (TenantId, Role) {
        (self.tenant, role)
    }
}

fn tenant_of(party: &p::AgreementParty) -> Option<TenantId> {
    TenantId::parse(&party.tenant, "tenant").ok()
}

impl Mind<'_> {
    pub fn propose(&mut self) -> Order {
        let [one, other] = self.pair();
        if self.chance(1, 4) { self.propose_to_one_who_is_absent() } else { self.propose_between(&one, &other) }
    }

    /// Proposes an agreement to a city that has not joined. The initiator can only attest the steps of that city.
    pub fn propose_to_one_who_is_absent(&mut self) -> Order {
        let there = |city: &&City| !city.gone;
        let (joined, absent): (Vec<City>, Vec<City>) =
            self.known.cities.iter().filter(there).cloned().partition(|city| city.tenant.is_some());
        if joined.is_empty() || absent.is_empty() {
            let [one, other] = self.pair();
            return self.propose_between(&one, &other);
        }
        let (one, other) = (self.dice.pick(&joined).clone(), self.dice.pick(&absent).clone());
        self.propose_between(&one, &other)
    }

    fn propose_between(&mut self, one: &City, other: &City) -> Order {
        let kind = *self.dice.pick(&[AgreementKind::Memorandum, AgreementKind::Cooperation, AgreementKind::Twinning]);
        let agreements = self.known.agreements.clone();
        let supersedes = if !agreements.is_empty() && self.chance(1, 3) {
            self.dice.pick(&agreements).clone()
        } else {
            String::new()
        };
        let terms = p::AgreementTerms {
            kind: kind as i32,
            title: self.text(),
            sectors: vec![Sector::Climate as i32],
            term_months: *self.dice.pick(&[12, 24]),
            renews_automatically: self.chance(1, 2),
            ..Default::default()
        };
        let request = p::ProposeAgreementRequest {
            initiator: one.name.clone(),
            partner: other.name.clone(),
            terms: Some(terms),
            superseded_agreement: supersedes,
            request_id: self.id(),
            validate_only: self.tried,
        };
        let tenant = one.tenant.unwrap_or(self.known.steward);
        self.order(path!(Agreement.ProposeAgreement), "", (tenant, Role::Mayor), &request)
    }

    pub fn import(&mut self) -> Order {
        let [one, other] = self.pair();
        if let Some(deleted) = self.deleted() {
            return deleted;
        }
        let external_id = self.dice.below(12).to_string();
        let origin = p::AgreementOrigin { source: "a test".into(), external_id, claimed_by: String::new() };
        let terms = p::AgreementTerms { title: self.text(), ..Default::default() };
        let request = p::ImportAgreementRequest {
            row: Some(p::AgreementRow {
                initiator: one.name,
                partner: other.name,
                origin: Some(origin),
                terms: Some(terms),
                signed_date: self.days(-20_000),
            }),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!(Attestation.ImportAgreement), "", (self.known.steward, Role::Steward), &request)
    }

    /// Returns a command on a deleted agreement, in half of the calls.
    fn deleted(&mut self) -> Option<Order> {
        let deleted: Vec<String> =
            self.known.deleted.keys().filter(|name| name.starts_with("agreements/")).cloned().collect();
        if deleted.is_empty() || self.chance(1, 2) {
            return None;
        }
        let gone = p::Agreement { name: self.dice.pick(&deleted).clone(), ..Default::default() };
        let steward = (self.known.steward, Role::Steward);
        Some(if self.chance(1, 2) {
            order!(self, gone, steward, Agreement.RetractAgreement, RetractAgreementRequest { reason: self.text() })
        } else {
            create_activity!(self, gone, steward)
        })
    }

    /// Ends or suspends all agreements with a country.
    pub fn with_country(&mut self) -> Order {
        let [one, other] = self.pair();
        let by = (one.tenant.unwrap_or(self.known.steward), Role::Mayor);
        let (country_code, reason) = (other.country.to_owned(), self.text());
        let (request_id, validate_only) = (self.id(), self.tried);
        let order = if self.chance(1, 3) {
            let request =
                p::EndAgreementsRequest { country_code, reason, request_id, validate_only, ..Default::default() };
            self.order(path!(Partnership.EndAgreements), "", by, &request)
        } else {
            let request =
                p::SuspendAgreementsRequest { country_code, reason, request_id, validate_only, ..Default::default() };
            self.order(path!(Partnership.SuspendAgreements), "", by, &request)
        };
        Order { many: true, ..order }
    }

    /// Returns the next step of an agreement, or another command that its state may allow.
    pub fn on_agreement(&mut self, a: &p::Agreement) -> Order {
        let (Some(initiator), Some(partner)) = (&a.initiator, &a.partner) else { return self.propose() };
        let needs = a.requirements.unwrap_or_default();
        let side = |party, other, votes| tenant_of(party).map(|tenant| Side { party, other, tenant, votes });
        let sides: Vec<Side<'_>> = [
            side(initiator, partner, needs.initiator_council_vote),
            side(partner, initiator, needs.partner_council_vote),
        ]
        .into_iter()
        .flatten()
        .collect();
        if sides.is_empty() || sides.len() < 2 && self.chance(1, 3) {
            return self.unclaimed(a, initiator, partner);
        }
        let side = self.dice.pick(&[0, 1]) % sides.len();
        let side = &sides[side];
        if let Some(step) = self.unanswered(a, side) {
            return self.answer(a, side, step);
        }
        if sides.len() < 2 && self.chance(1, 2) || self.errs && self.chance(1, 12) {
            let votes =
                if side.other.city == partner.city { needs.partner_council_vote } else { needs.initiator_council_vote };
            return self.attest(a, side, votes);
        }
        if self.chance(1, 10) {
            return self.anything(a, side);
        }
        match a.state() {
            AgreementState::Proposed => {
                let by = sides.last().map_or(side, |last| last).as_(Role::IrOfficer);
                order!(self, a, by, Agreement.OpenDialogue, OpenDialogueRequest { note: self.text() })
            }
            AgreementState::InDialogue
            | AgreementState::Planned
            | AgreementState::Approved
            | AgreementState::Signed => self.prepare(a, &sides),
            AgreementState::Suspended => {
                let by = sides.iter().find(|side| side.party.suspension.is_some()).unwrap_or(side).as_(Role::Mayor);
                order!(self, a, by, Partnership.LiftSuspension, LiftSuspensionRequest { reason: self.text() })
            }
            AgreementState::Expired => self.renew(a, side),
            AgreementState::Dormant if self.chance(1, 2) => self.revitalize(a, side),
            _ => self.live(a, side),
        }
    }

    /// Returns a command on an agreement that has a side without a tenant.
    fn unclaimed(&mut self, a: &p::Agreement, initiator: &p::AgreementParty, partner: &p::AgreementParty) -> Order {
        let steward = (self.known.steward, Role::Steward);
        if self.errs && self.chance(1, 4) {
            return order!(
                self,
                a,
                steward,
                Agreement.RetractAgreement,
                RetractAgreementRequest { reason: self.text() }
            );
        }
        let free = [initiator, partner].into_iter().filter(|party| party.tenant.is_empty());
        let ends: Vec<&String> = free.map(|party| &party.city).collect();
        let joined = self.known.cities.iter().filter(|city| ends.contains(&&city.name)).find_map(|city| city.tenant);
        match joined {
            Some(tenant) if self.chance(2, 3) => {
                order!(self, a, (tenant, Role::Mayor), Attestation.ClaimAgreement, ClaimAgreementRequest {})
            }
            _ => create_activity!(self, a, steward),
        }
    }

    pub(crate) fn vote(&mut self, result: VoteResult, days: i64) -> CouncilVote {
        CouncilVote {
            result: result as i32,
            vote_date: self.days(days),
            minutes: Some("doc:minutes".into()),
            tally: None,
        }
    }

    fn activity(&mut self) -> p::Activity {
        let ago = self.dice.below(5) as i64;
        p::Activity {
            kind: p::ActivityKind::InstitutionalVisit as i32,
            title: self.text(),
            dates: Some(DateRange { first_date: self.days(-ago), last_date: None }),
            sectors: vec![Sector::Climate as i32],
            ..Default::default()
        }
    }

    /// Returns the next step before both signatures.
    fn prepare(&mut self, a: &p::Agreement, sides: &[Side<'_>]) -> Order {
        let any = &sides[self.dice.below(sides.len() as u64) as usize];
        let Some(rationale) = &a.rationale else {
            let by = any.as_(Role::IrOfficer);
            return order!(self, a, by, Agreement.ProposeRationale, ProposeRationaleRequest { rationale: self.text() });
        };
        if let Some(side) = sides.iter().find(|side| side.party.rationale_step.is_none()) {
            let by = side.as_(Role::IrOfficer);
            return order!(
                self,
                a,
                by,
                Agreement.ConfirmRationale,
                ConfirmRationaleRequest { revision: rationale.revision }
            );
        }
        let Some(plan) = &a.plan else {
            let by = any.as_(Role::IrOfficer);
            return order!(self, a, by, Agreement.ProposePlan, ProposePlanRequest { plan: self.text() });
        };
        if let Some(side) = sides.iter().find(|side| side.party.plan_step.is_none()) {
            let by = side.as_(Role::IrOfficer);
            return order!(self, a, by, Agreement.ConfirmPlan, ConfirmPlanRequest { revision: plan.revision });
        }
        if let Some(side) = sides.iter().find(|side| side.votes && side.party.council_vote.is_none()) {
            let rejects = self.chance(1, 12);
            let result = if rejects { VoteResult::Rejected } else { VoteResult::Approved };
            return order!(
                self,
                a,
                side.as_(Role::CouncilClerk),
                Agreement.RecordCouncilVote,
                RecordCouncilVoteRequest { vote: Some(self.vote(result, 0)) }
            );
        }
        let unstated = |side: &&Side<'_>| {
            side.party.guidelines_need() == GuidelinesNeed::Required
                && side.party.guidelines.is_none()
                && side.party.guidelines_override.is_none()
        };
        if let Some(side) = sides.iter().find(unstated) {
            return self.guidelines(a, side);
        }
        let side = sides.iter().find(|side| side.party.signature.is_none()).unwrap_or(any);
        let ceremony = a.requirements.is_some_and(|needs| needs.ceremony) && !(self.errs && self.chance(1, 12));
        order!(
            self,
            a,
            side.as_(Role::Mayor),
            Agreement.SignAgreement,
            SignAgreementRequest { place: self.text(), in_ceremony: ceremony }
        )
    }

    fn guidelines(&mut self, a: &p::Agreement, side: &Side<'_>) -> Order {
        if self.chance(1, 4) {
            let by = side.as_(Role::Mayor);
            return order!(
                self,
                a,
                by,
                Agreement.OverrideGuidelines,
                OverrideGuidelinesRequest { reason: self.text() }
            );
        }
        let guidelines = p::Guidelines {
            document: Some("https://example.org/guidelines.pdf".into()),
            grounds: vec![p::GuidelinesGround::Technical as i32],
            influence_mitigation: self.text(),
            endorsement_mitigation: self.text(),
            bind_all_actors: true,
        };
        let by = side.as_(Role::IrOfficer);
        order!(self, a, by, Agreement.StateGuidelines, StateGuidelinesRequest { guidelines: Some(guidelines) })
    }

    /// Returns a command on an agreement in force.
    fn live(&mut self, a: &p::Agreement, side: &Side<'_>) -> Order {
        match self.dice.below(8) {
            0 => order!(
                self,
                a,
                side.as_(Role::Mayor),
                Partnership.SuspendAgreement,
                SuspendAgreementRequest { reason: self.text() }
            ),
            1 => self.renew(a, side),
            2 => self.anything(a, side),
            _ => {
                let by = side.as_(Role::IrOfficer);
                create_activity!(self, a, by)
            }
        }
    }

    fn renew(&mut self, a: &p::Agreement, side: &Side<'_>) -> Order {
        match &a.renewal {
            Some(renewal) if renewal.city == side.other.city => {
                let by = side.as_(Role::IrOfficer);
                order!(self, a, by, Partnership.ConfirmRenewal, ConfirmRenewalRequest { revision: renewal.revision })
            }
            _ => order!(
                self,
                a,
                side.as_(Role::IrOfficer),
                Partnership.ProposeRenewal,
                ProposeRenewalRequest { term_months: 12, note: self.text() }
            ),
        }
    }

    fn revitalize(&mut self, a: &p::Agreement, side: &Side<'_>) -> Order {
        match &a.revitalization {
            Some(put) if put.city == side.other.city => {
                let by = side.as_(Role::IrOfficer);
                order!(
                    self,
                    a,
                    by,
                    Partnership.ConfirmRevitalization,
                    ConfirmRevitalizationRequest { revision: put.revision }
                )
            }
            _ => order!(
                self,
                a,
                side.as_(Role::IrOfficer),
                Partnership.ProposeRevitalization,
                ProposeRevitalizationRequest {
                    action: self.text(),
                    sectors: vec![Sector::Climate as i32],
                    with_residents: true,
                }
            ),
        }
    }

    /// Returns a random command, whether or not the state allows it.
    fn anything(&mut self, a: &p::Agreement, side: &Side<'_>) -> Order {
        let (mayor, officer, clerk) = (side.as_(Role::Mayor), side.as_(Role::IrOfficer), side.as_(Role::CouncilClerk));
        match self.dice.below(9) {
            0 => order!(self, a, officer, Agreement.DeclineAgreement, DeclineAgreementRequest { reason: self.text() }),
            1 => {
                order!(self, a, officer, Agreement.WithdrawAgreement, WithdrawAgreementRequest { reason: self.text() })
            }
            2 => order!(self, a, mayor, Partnership.EndAgreement, EndAgreementRequest { reason: self.text() }),
            3 => order!(self, a, mayor, Agreement.SignAgreement, SignAgreementRequest { place: self.text() }),
            4 => order!(self, a, officer, Agreement.ProposePlan, ProposePlanRequest { plan: self.text() }),
            5 => order!(
                self,
                a,
                clerk,
                Agreement.RecordCouncilVote,
                RecordCouncilVoteRequest { vote: Some(self.vote(VoteResult::Approved, -1)) }
            ),
            6 => {
                order!(self, a, officer, Agreement.ProposeRationale, ProposeRationaleRequest { rationale: self.text() })
            }
            7 => {
                let member = p::CommitteeMember { person_name: self.text(), chair: true };
                let committee = p::Committee { members: vec![member], support: self.text() };
                order!(self, a, officer, Partnership.SetCommittee, SetCommitteeRequest { committee: Some(committee) })
            }
            _ => {
                let terms = p::AgreementTerms {
                    kind: AgreementKind::Cooperation as i32,
                    title: self.text(),
                    sectors: vec![Sector::Culture as i32],
                    term_months: 24,
                    ..Default::default()
                };
                order!(self, a, officer, Agreement.ReviseTerms, ReviseTermsRequest { terms: Some(terms) })
            }
        }
    }
}
