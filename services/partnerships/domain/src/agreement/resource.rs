//! The resource for readers: complete for the parties, reduced for everyone else (PL-1).

use super::{
    Agreement, Attested, Close, Ending, InForce, Life, Period, Which,
    sides::{Side, Signature, Suspension, Taken},
};
use hansa_kernel::{Caller, IntoResource, RecordName, TenantId, time};
use hansa_proto::partnerships::{
    self as proto, AgreementEnding, AgreementParty, AgreementPeriod, AgreementSignature, AgreementTerms, Attestation,
    GuidelinesOverride, StepTaken,
};

impl IntoResource for Agreement {
    type Resource = proto::Agreement;

    /// Returns the resource with the fields that the caller's tenant may see.
    fn to_resource(&self, name: &RecordName, etag: &str, caller: &Caller) -> proto::Agreement {
        if self.readers.contains(&caller.tenant) { self.resource(name, etag) } else { self.public_resource(name, etag) }
    }

    fn basic(agreement: proto::Agreement) -> proto::Agreement {
        let party = |party: AgreementParty| AgreementParty {
            city: party.city,
            display_name: party.display_name,
            country_code: party.country_code,
            tenant: party.tenant,
            guidelines_need: party.guidelines_need,
            ..AgreementParty::default()
        };
        let terms = |terms| AgreementTerms { title: Vec::new(), summary: Vec::new(), ..terms };
        let ending = |ending| AgreementEnding { reason: Vec::new(), ..ending };
        proto::Agreement {
            terms: agreement.terms.map(terms),
            initiator: agreement.initiator.map(party),
            partner: agreement.partner.map(party),
            ending: agreement.ending.map(ending),
            rationale: None,
            plan: None,
            revitalization: None,
            renewal: None,
            periods: Vec::new(),
            attestations: Vec::new(),
            settings: None,
            ..agreement
        }
    }
}

impl Agreement {
    /// Returns the complete resource, for the parties.
    #[must_use]
    pub fn resource(&self, name: &RecordName, etag: &str) -> proto::Agreement {
        proto::Agreement {
            requirements: Some(self.requirements.to_proto()),
            initiator: Some(self.party(Which::Initiator)),
            partner: Some(self.party(Which::Partner)),
            rationale: self.rationale.clone(),
            plan: self.plan.clone(),
            revitalization: self.revitalization.clone(),
            renewal: self.renewal.clone(),
            activity_count: i32::try_from(self.activities.len()).unwrap_or(i32::MAX),
            last_activity_date: self.last_activity.map(time::date),
            superseded_agreement: self.supersedes.map(agreement_name).unwrap_or_default(),
            ending: self.ending(),
            origin: self.origin.clone(),
            attestations: self.attestations.iter().map(|attested| self.attestation_of(attested)).collect(),
            revision: self.revision,
            settings: Some(self.clock.to_proto()),
            terms: Some(self.terms.to_proto()),
            ..self.public_resource(name, etag)
        }
    }

    /// Returns the resource for everyone, once the agreement has been in force: kind, parties, sectors, dates.
    #[must_use]
    pub fn public_resource(&self, name: &RecordName, etag: &str) -> proto::Agreement {
        let open = |side: &Side| AgreementParty {
            city: side.name(),
            display_name: side.display_name.clone(),
            country_code: side.country.clone(),
            tenant: side.tenant.map(TenantId::name).unwrap_or_default(),
            ..AgreementParty::default()
        };
        let superseding_agreement = match &self.life {
            Life::Over(Ending { how: Close::Superseded(by), .. }) => agreement_name(*by),
            _ => String::new(),
        };
        let dormant = match &self.life {
            Life::InForce(InForce { dormant, .. }) => *dormant,
            _ => None,
        };
        proto::Agreement {
            name: name.as_str().to_owned(),
            etag: etag.to_owned(),
            state: self.state() as i32,
            terms: Some(AgreementTerms { title: Vec::new(), summary: Vec::new(), ..self.terms.to_proto() }),
            initiator: Some(open(&self.sides.initiator)),
            partner: Some(open(&self.sides.partner)),
            periods: self.periods.iter().map(|period| period.to_proto()).collect(),
            signed_date: self.signed_on.to_proto(),
            dormant_date: dormant.map(time::date),
            economic_component: self.economic(),
            anniversary: self.anniversary.map(|told| self.anniversary_of(told.years)),
            superseding_agreement,
            ..proto::Agreement::default()
        }
    }

    fn economic(&self) -> bool {
        self.terms.economic || self.activities.iter().any(|recorded| recorded.activity.economic_component)
    }

    fn party(&self, which: Which) -> AgreementParty {
        let side = &self.sides[which];
        AgreementParty {
            city: side.name(),
            display_name: side.display_name.clone(),
            country_code: side.country.clone(),
            tenant: side.tenant.map(TenantId::name).unwrap_or_default(),
            dialogue_step: self.dialogue.as_ref().filter(|_| which == Which::Partner).map(Taken::to_proto),
            rationale_step: side.rationale.as_ref().map(Taken::to_proto),
            plan_step: side.plan.as_ref().map(Taken::to_proto),
            council_vote: side.vote.as_ref().map(|vote| vote.vote.clone()),
            council_vote_step: side.vote.as_ref().map(|vote| vote.taken.to_proto()),
            signature: side.signature.as_ref().map(Signature::to_proto),
            guidelines_need: side.need as i32,
            guidelines: side.guidelines.as_ref().map(|(guidelines, _)| guidelines.clone()),
            guidelines_step: side.guidelines.as_ref().map(|(_, taken)| taken.to_proto()),
            guidelines_override: side.overridden.as_ref().map(|overridden| GuidelinesOverride {
                reason: overridden.reason.clone(),
                step: Some(overridden.taken.to_proto()),
            }),
            suspension: side.suspension.as_ref().map(Suspension::to_proto),
            committee: side.committee.clone(),
        }
    }

    fn ending(&self) -> Option<AgreementEnding> {
        match &self.life {
            Life::Over(ending) => Some(AgreementEnding {
                ending_date: Some(time::date(ending.date)),
                city: ending.by.map(|which| self.sides[which].name()).unwrap_or_default(),
                reason: ending.reason.clone(),
            }),
            Life::Expired(date) => {
                Some(AgreementEnding { ending_date: Some(time::date(*date)), ..AgreementEnding::default() })
            }
            Life::Preparing | Life::InForce(_) => None,
        }
    }

    fn attestation_of(&self, attested: &Attested) -> Attestation {
        Attestation {
            city: attested.side.map(|which| self.sides[which].name()).unwrap_or_default(),
            step: attested.step as i32,
            document: attested.document.clone(),
            source: attested.source.clone(),
            attestation_step: Some(attested.taken.to_proto()),
            state: attested.state as i32,
            reason: attested.reason.clone(),
        }
    }
}

fn agreement_name(id: hansa_kernel::RecordId) -> String {
    RecordName::new(super::COLLECTION, id).to_string()
}

impl Taken {
    fn to_proto(&self) -> StepTaken {
        StepTaken {
            actor: Some(self.actor.clone()),
            record_time: Some(time::timestamp(self.at)),
            assurance_level: self.level as i32,
        }
    }
}

impl Signature {
    fn to_proto(&self) -> AgreementSignature {
        AgreementSignature {
            signature_date: Some(time::date(self.date)),
            place: self.place.clone(),
            in_ceremony: self.in_ceremony,
            scan: self.scan.clone(),
            delegation: self.delegation.clone(),
            step: Some(self.taken.to_proto()),
        }
    }
}

impl Suspension {
    fn to_proto(&self) -> proto::Suspension {
        proto::Suspension {
            first_date: Some(time::date(self.date)),
            reason: self.reason.clone(),
            step: Some(self.taken.to_proto()),
        }
    }
}

impl Period {
    fn to_proto(self) -> AgreementPeriod {
        AgreementPeriod { dates: Some(time::range(self.start, self.end)), automatic: self.automatic }
    }
}
