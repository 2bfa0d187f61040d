//! The public part of an agreement's history, once the agreement has been in force (PL-1): kind, parties, sectors and
//! dates, as in the public resource.

use super::Change;
use hansa_kernel::Disclosed;
use hansa_proto::partnerships::{
    AgreementEnded, AgreementImported, AgreementProposed, AgreementRenewed, AgreementRevitalized, AgreementSignature,
    AgreementSigned, AgreementStep, AgreementSuspended, AgreementTerms, PartyEntry, PartySucceeded, StepAttested,
    SuspensionLifted, TermsRevised,
};

/// Returns the public part of a change. A type of change that is not listed here is visible to the parties only.
pub(super) fn disclosed(change: &Change) -> Disclosed<Change> {
    beginning(change).or_else(|| entry(change)).or_else(|| later(change)).map_or(Disclosed::Hidden, Disclosed::Part)
}

fn party(entry: Option<&PartyEntry>) -> Option<PartyEntry> {
    entry.map(|entry| PartyEntry { guidelines_need: 0, ..entry.clone() })
}

fn terms(terms: Option<&AgreementTerms>) -> Option<AgreementTerms> {
    terms.map(|terms| AgreementTerms { title: Vec::new(), summary: Vec::new(), ..terms.clone() })
}

fn signature(signature: Option<&AgreementSignature>) -> Option<AgreementSignature> {
    signature.map(|signature| AgreementSignature {
        signature_date: signature.signature_date,
        ..AgreementSignature::default()
    })
}

fn beginning(change: &Change) -> Option<Change> {
    Some(match change {
        Change::Proposed(change) => Change::Proposed(AgreementProposed {
            initiator: party(change.initiator.as_ref()),
            partner: party(change.partner.as_ref()),
            terms: terms(change.terms.as_ref()),
            ..AgreementProposed::default()
        }),
        Change::Imported(change) => Change::Imported(AgreementImported {
            initiator: party(change.initiator.as_ref()),
            partner: party(change.partner.as_ref()),
            terms: terms(change.terms.as_ref()),
            signed_date: change.signed_date,
            import_date: change.import_date,
            ..AgreementImported::default()
        }),
        Change::TermsRevised(change) => {
            Change::TermsRevised(TermsRevised { terms: terms(change.terms.as_ref()), ..TermsRevised::default() })
        }
        Change::Claimed(change) => Change::Claimed(change.clone()),
        Change::PartySucceeded(change) => {
            Change::PartySucceeded(PartySucceeded { successor: party(change.successor.as_ref()), ..change.clone() })
        }
        _ => return None,
    })
}

fn entry(change: &Change) -> Option<Change> {
    Some(match change {
        Change::Signed(change) => Change::Signed(AgreementSigned {
            city: change.city.clone(),
            signature: signature(change.signature.as_ref()),
            ..AgreementSigned::default()
        }),
        Change::StepAttested(change) if change.step() == AgreementStep::Signature => {
            Change::StepAttested(StepAttested {
                city: change.city.clone(),
                step: change.step,
                signature: signature(change.signature.as_ref()),
                ..StepAttested::default()
            })
        }
        Change::EnteredIntoForce(change) => Change::EnteredIntoForce(*change),
        _ => return None,
    })
}

fn later(change: &Change) -> Option<Change> {
    Some(match change {
        Change::BecameDormant(change) => Change::BecameDormant(*change),
        Change::AnniversaryApproached(change) => Change::AnniversaryApproached(*change),
        Change::Revitalized(change) => Change::Revitalized(AgreementRevitalized {
            sectors: change.sectors.clone(),
            effective_date: change.effective_date,
            ..AgreementRevitalized::default()
        }),
        Change::Suspended(change) => {
            Change::Suspended(AgreementSuspended { first_date: change.first_date, ..AgreementSuspended::default() })
        }
        Change::SuspensionLifted(change) => Change::SuspensionLifted(SuspensionLifted {
            effective_date: change.effective_date,
            ..SuspensionLifted::default()
        }),
        Change::Renewed(change) => Change::Renewed(AgreementRenewed { city: String::new(), ..change.clone() }),
        Change::Expired(change) => Change::Expired(*change),
        Change::Ended(change) => {
            Change::Ended(AgreementEnded { last_date: change.last_date, ..AgreementEnded::default() })
        }
        Change::Superseded(change) => Change::Superseded(change.clone()),
        _ => return None,
    })
}
