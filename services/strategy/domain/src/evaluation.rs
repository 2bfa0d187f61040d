//! Evaluations of a city's diplomacy: scores and findings by a rubric, and the record of the latest result (ST-6).

use crate::{
    model::Model,
    portfolio::Portfolio,
    rubric::{Criterion, Rubric, WHOLE, hex},
    strategy::Strategy,
};
use chrono::NaiveDate;
use hansa_kernel::{
    AssuranceLevel, Audience, Decision, Emitted, FoldError, Record, RecordName, Refusal, Stamp, TenantId,
    envelope::hash, time,
};
use hansa_proto::strategy::{
    self as proto, Evaluation, Finding, Precondition, Score, StrategyPart, evaluation_change::Change,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};

/// Largest number of records that a finding lists as evidence. The finding also states the total number.
pub const EVIDENCE: usize = 100;

const PARTS: [StrategyPart; 3] = [StrategyPart::Diagnostic, StrategyPart::Goals, StrategyPart::Implementation];
const PRECONDITIONS: [Precondition; 5] = [
    Precondition::PoliticalPriority,
    Precondition::HumanResources,
    Precondition::EconomicResources,
    Precondition::RightPartners,
    Precondition::LocalEngagement,
];

/// Returns the name of a city's evaluation record.
#[must_use]
pub fn name_of(city: &RecordName) -> RecordName {
    RecordName::new(Evaluations::COLLECTION, city.id.of("evaluation"))
}

/// Evaluates a city on a day (ST-6, ST-7). The caller passes the strategy in force. If there is none, the caller passes
/// the strategy that lapsed last, or else a draft, which counts as no strategy. The same inputs give the same bytes.
#[must_use]
pub fn evaluate(rubric: &Rubric, portfolio: &Portfolio, strategy: Option<&Strategy>, date: NaiveDate) -> Evaluation {
    let model = Model::of(portfolio, strategy, date);
    let judged = Judged::of(rubric, &model);
    let unjudged_criterion_ids =
        judged.criteria().filter(|(_, met)| met.is_none()).map(|(c, _)| c.shown.criterion_id.clone()).collect();
    let part_score = |part: StrategyPart| proto::PartScore {
        part: part as i32,
        score: Some(judged.score(|criterion| criterion.shown.part == part as i32)),
    };
    let precondition_score = |precondition: Precondition| proto::PreconditionScore {
        precondition: precondition as i32,
        score: Some(judged.score(|criterion| criterion.shown.precondition == precondition as i32)),
    };
    Evaluation {
        name: String::new(),
        etag: String::new(),
        city: portfolio.city().city.clone(),
        rubric: rubric.name().into(),
        rubric_version: rubric.version().into(),
        rubric_digest: rubric.digest().into(),
        evaluation_date: Some(time::date(date)),
        inputs_digest: inputs_digest(rubric, portfolio, strategy, date),
        strategy: model.strategy().unwrap_or_default().into(),
        overall: Some(judged.score(|_| true)),
        parts: PARTS.into_iter().map(part_score).collect(),
        preconditions: PRECONDITIONS.into_iter().map(precondition_score).collect(),
        findings: judged.findings(&model),
        unjudged_criterion_ids,
        create_time: None,
        update_time: None,
    }
}

/// Returns the digest of the inputs: the rubric, the day, and every fact that the model reads. Each part is in
/// canonical form, so equal inputs have equal digests. Other facts, such as a partner's name, are omitted: they cannot
/// change a result, and hashing them would take half the time of an evaluation.
fn inputs_digest(rubric: &Rubric, portfolio: &Portfolio, strategy: Option<&Strategy>, date: NaiveDate) -> String {
    let ties: Vec<_> = portfolio
        .ties()
        .map(|tie| {
            let guidelines = (tie.guidelines_needed, tie.guidelines_stated, tie.guidelines_overridden);
            (
                &tie.agreement,
                &tie.partner,
                &tie.country,
                tie.kind,
                tie.state,
                tie.dormant,
                guidelines,
                &tie.partner_languages,
            )
        })
        .collect();
    let inputs = (rubric.digest(), portfolio.city(), portfolio.office(), ties, strategy, date);
    hex(&hash(&postcard::to_stdvec(&inputs).unwrap_or_default()))
}

/// The criteria of a rubric, with the degree to which each is met.
struct Judged<'r> {
    criteria: &'r [Criterion],
    met: Vec<Option<i64>>,
    /// Per criterion, the index of the criterion whose finding carries the lost score: the criterion itself, or the
    /// unmet criterion that it needs.
    borne_by: Vec<usize>,
}

impl<'r> Judged<'r> {
    fn of(rubric: &'r Rubric, model: &Model<'_>) -> Self {
        let scope = rubric.scope(model);
        let criteria = rubric.criteria();
        let (mut met, mut borne_by) = (Vec::with_capacity(criteria.len()), Vec::with_capacity(criteria.len()));
        for (place, criterion) in criteria.iter().enumerate() {
            let judged = criterion.judge(&scope);
            match criterion.needs.filter(|needed| met[*needed] == Some(0)) {
                Some(needed) if judged.is_some() => {
                    met.push(Some(0));
                    borne_by.push(borne_by[needed]);
                }
                _ => {
                    met.push(judged);
                    borne_by.push(place);
                }
            }
        }
        Self { criteria, met, borne_by }
    }

    fn criteria(&self) -> impl Iterator<Item = (&'r Criterion, Option<i64>)> {
        self.criteria.iter().zip(self.met.iter().copied())
    }

    /// Returns the weighted mean of the criteria that could be judged. Criteria that could not be judged have no
    /// weight.
    fn score(&self, counts: impl Fn(&Criterion) -> bool) -> Score {
        let (mut all, mut known, mut reached) = (0, 0, 0);
        for (criterion, met) in self.criteria().filter(|(criterion, _)| counts(criterion)) {
            all += criterion.weight;
            if let Some(met) = met {
                known += criterion.weight;
                reached += criterion.weight * met;
            }
        }
        Score { basis_points: share(reached, known), judged_basis_points: share(known * WHOLE, all) }
    }

    /// Returns the findings, sorted by effect, code and evidence.
    fn findings(&self, model: &Model<'_>) -> Vec<Finding> {
        let known: i64 = self.criteria().filter(|(_, met)| met.is_some()).map(|(criterion, _)| criterion.weight).sum();
        let mut lost = vec![0; self.criteria.len()];
        for (place, (criterion, met)) in self.criteria().enumerate() {
            lost[self.borne_by[place]] += criterion.weight * (WHOLE - met.unwrap_or(WHOLE));
        }
        let mut findings: Vec<Finding> = lost
            .into_iter()
            .zip(self.criteria)
            .filter(|(lost, _)| *lost > 0)
            .map(|(lost, criterion)| finding(criterion, model, share(lost, known)))
            .collect();
        findings.sort_by(|a, b| {
            (b.effect_basis_points, a.code, &a.evidence, &a.criterion_id).cmp(&(
                a.effect_basis_points,
                b.code,
                &b.evidence,
                &b.criterion_id,
            ))
        });
        findings
    }
}

fn share(of: i64, whole: i64) -> i32 {
    if whole == 0 { 0 } else { i32::try_from(of / whole).unwrap_or(i32::MAX) }
}

fn finding(criterion: &Criterion, model: &Model<'_>, effect: i32) -> Finding {
    let evidence = criterion.evidence.map(|of| model.evidence(of)).unwrap_or_default();
    Finding {
        code: criterion.shown.finding,
        severity: criterion.shown.severity,
        criterion_id: criterion.shown.criterion_id.clone(),
        evidence: evidence.iter().take(EVIDENCE).map(|name| (*name).to_owned()).collect(),
        evidence_count: i32::try_from(evidence.len()).unwrap_or(i32::MAX),
        risk: criterion.shown.risk.clone(),
        advice: criterion.shown.advice.clone(),
        effect_basis_points: effect,
    }
}

/// Returns the digest by which results are compared. It covers all fields except the name, the day and the inputs
/// digest.
#[must_use]
pub fn result_digest(evaluation: &Evaluation) -> [u8; 32] {
    let result = Evaluation {
        evaluation_date: None,
        inputs_digest: String::new(),
        name: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..evaluation.clone()
    };
    hash(&result.encode_to_vec())
}

/// The record of a city's evaluations. Its state is the latest result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluations {
    tenant: TenantId,
    latest: Vec<u8>,
    digest: [u8; 32],
}

impl Evaluations {
    /// The latest result.
    #[must_use]
    pub fn latest(&self) -> Evaluation {
        // Decoding cannot fail, because the fold encoded the message.
        Evaluation::decode(self.latest.as_slice()).unwrap_or_default()
    }

    /// The digest of the latest result, to compare with another result.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// Records a result if it differs from the latest. `tenant` is the tenant of the city.
///
/// # Errors
/// `INVALID_FIELD` under ST-6 if the evaluation does not name a city.
pub fn record(state: Option<&Evaluations>, evaluation: Evaluation, tenant: TenantId) -> Decision<Change> {
    let city =
        RecordName::parse(&evaluation.city, "cities", "evaluation.city").map_err(|e: Refusal| e.under("ST-6"))?;
    if state.is_some_and(|state| state.digest == result_digest(&evaluation)) {
        return Ok(Vec::new());
    }
    let evaluation = Evaluation { name: name_of(&city).to_string(), ..evaluation };
    let recorded = proto::EvaluationRecorded { tenant: tenant.name(), evaluation: Some(evaluation) };
    Ok(vec![Emitted::at_level(recorded, Some(tenant), AssuranceLevel::Host)])
}

impl Record for Evaluations {
    const COLLECTION: &'static str = "evaluations";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, FoldError> {
        let Change::Recorded(recorded) = change;
        let fold_error = |why: &str| FoldError(format!("change {}: {why}", stamp.version));
        let tenant = TenantId::parse(&recorded.tenant, "tenant").map_err(|e| fold_error(&e.to_string()))?;
        if before.is_some_and(|state| state.tenant != tenant) {
            return Err(fold_error("the evaluation names another tenant"));
        }
        let evaluation = recorded.evaluation.as_ref().ok_or_else(|| fold_error("the evaluation is missing"))?;
        Ok(Self { tenant, latest: evaluation.encode_to_vec(), digest: result_digest(evaluation) })
    }

    fn owner(&self) -> TenantId {
        self.tenant
    }

    /// Returns the owner only (PL-1).
    fn audience(&self) -> Audience {
        Audience::of([self.tenant])
    }
}

#[cfg(test)]
#[path = "evaluation/tests.rs"]
mod tests;
