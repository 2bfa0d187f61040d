//! Rubrics: the criteria of evaluations, read from a file (ST-8). Loading checks the whole file and compiles its
//! expressions.

use crate::{
    model::{Evidence, Model, VARIABLES},
    portfolio::Portfolio,
};
use chrono::NaiveDate;
use hansa_expressions::{Answer, Environment, Expression, Scope, Type};
use hansa_kernel::envelope::hash;
use hansa_proto::strategy::{self as proto, FindingCode, Precondition, Severity, StrategyPart};
use hansa_proto::types::ExpressionVariable;
use serde::Deserialize;
use std::{collections::BTreeSet, fmt::Write as _};

/// The full score, in basis points.
pub const WHOLE: i64 = 10_000;
/// Largest file, in bytes.
pub const FILE_BYTES: usize = 256 * 1024;
/// Largest number of criteria per rubric.
pub const CRITERIA: usize = 100;
/// Longest id, name or version, in characters.
pub const ID_CHARS: usize = 63;
/// Longest title, risk or advice, in characters.
pub const WORDS_CHARS: usize = 1_000;

/// The reason why a rubric is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct BadRubric {
    /// The place of the problem: the file, or a criterion and its field.
    pub place: String,
    /// The problem.
    pub problem: String,
}

fn bad<T>(place: impl Into<String>, problem: impl Into<String>) -> Result<T, BadRubric> {
    Err(BadRubric { place: place.into(), problem: problem.into() })
}

/// The content of a rubric file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    version: String,
    title: String,
    #[serde(rename = "criterion")]
    criteria: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    title: String,
    #[serde(default)]
    part: String,
    #[serde(default)]
    precondition: String,
    weight: i32,
    #[serde(default = "always")]
    judgeable_expression: String,
    score_expression: String,
    #[serde(default)]
    prerequisite_id: String,
    finding: String,
    severity: String,
    #[serde(default)]
    evidence: String,
    risk: String,
    advice: String,
}

fn always() -> String {
    "true".into()
}

/// A criterion with its compiled expressions.
#[derive(Debug)]
pub struct Criterion {
    /// The criterion as an API message.
    pub shown: proto::Criterion,
    /// The weight in the overall score, in basis points.
    pub weight: i64,
    /// The index of an earlier criterion that this one needs. If that criterion is not met at all, this one counts as
    /// not met either.
    pub needs: Option<usize>,
    /// The records that the finding lists as evidence.
    pub evidence: Option<Evidence>,
    known: Expression,
    met: Expression,
}

impl Criterion {
    /// Returns the degree to which the criterion is met, 0 to `WHOLE`; `None` if it cannot be judged or an expression
    /// fails.
    pub(crate) fn judge(&self, scope: &Scope<'_>) -> Option<i64> {
        match self.known.answer(scope) {
            Some(Answer::Bool(true)) => {}
            _ => return None,
        }
        Some(match self.met.answer(scope)? {
            Answer::Bool(met) => i64::from(met) * WHOLE,
            Answer::Int(met) => met.clamp(0, WHOLE),
        })
    }

    /// Returns whether `known` fails, or `met` fails although `known` holds.
    fn fails(&self, scope: &Scope<'_>) -> bool {
        match self.known.answer(scope) {
            Some(Answer::Bool(known)) => known && self.met.answer(scope).is_none(),
            _ => true,
        }
    }
}

/// A checked and compiled rubric.
pub struct Rubric {
    name: String,
    version: String,
    title: String,
    digest: String,
    criteria: Vec<Criterion>,
    environment: Environment,
}

impl std::fmt::Debug for Rubric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rubric").field("name", &self.name).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Rubric {
    /// Loads the rubric that is embedded in the program.
    ///
    /// # Panics
    /// Never panics: a test loads this rubric.
    #[must_use]
    pub fn embedded() -> Self {
        Self::load(include_str!("../rubrics/hansa-2026.toml")).expect("the embedded rubric is valid")
    }

    /// Parses, checks and compiles a rubric file.
    ///
    /// # Errors
    /// Returns the first problem that the check finds, with its place.
    pub fn load(source: &str) -> Result<Self, BadRubric> {
        if source.len() > FILE_BYTES {
            return bad("file", format!("the file is longer than {FILE_BYTES} bytes"));
        }
        let file: File =
            toml::from_str(source).map_err(|e| BadRubric { place: "file".into(), problem: e.to_string() })?;
        slug("id", &file.id)?;
        let version = &file.version;
        if version.is_empty() || version.len() > ID_CHARS || !version.chars().all(|c| c.is_ascii_graphic()) {
            return bad("version", format!("must be 1 to {ID_CHARS} visible ASCII characters"));
        }
        words("title", &file.title)?;
        if file.criteria.is_empty() || file.criteria.len() > CRITERIA {
            return bad("criterion", format!("the file has {} criteria, not 1 to {CRITERIA}", file.criteria.len()));
        }
        let environment = Environment::new(&VARIABLES);
        let mut criteria: Vec<Criterion> = Vec::with_capacity(file.criteria.len());
        for entry in file.criteria {
            criteria.push(read(&environment, entry, &criteria)?);
        }
        let rubric = Self {
            name: format!("rubrics/{}", file.id),
            version: file.version,
            title: file.title,
            digest: hex(&hash(source.as_bytes())),
            criteria,
            environment,
        };
        rubric.weigh()?;
        rubric.try_on_nothing()?;
        Ok(rubric)
    }

    /// The resource name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The SHA-256 digest of the file in lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The criteria in the order of the file.
    #[must_use]
    pub fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }

    /// Converts the rubric to the API message.
    #[must_use]
    pub fn to_proto(&self) -> proto::Rubric {
        let variables = VARIABLES.iter().map(|variable| ExpressionVariable {
            variable: variable.name.into(),
            cel_type: variable.kind.as_cel().into(),
            description: variable.description.into(),
        });
        proto::Rubric {
            name: self.name.clone(),
            version: self.version.clone(),
            title: self.title.clone(),
            digest: self.digest.clone(),
            criteria: self.criteria.iter().map(|criterion| criterion.shown.clone()).collect(),
            variables: variables.collect(),
        }
    }

    /// Creates the scope in which the expressions run.
    pub(crate) fn scope<'m>(&self, model: &'m Model<'_>) -> Scope<'m> {
        self.environment.scope(model.values())
    }

    fn weigh(&self) -> Result<(), BadRubric> {
        let sum: i64 = self.criteria.iter().map(|criterion| criterion.weight).sum();
        if sum == WHOLE { Ok(()) } else { bad("criterion", format!("the weights add up to {sum}, not {WHOLE}")) }
    }

    /// Evaluates every criterion for a city without any facts, because such a city reveals divisions by zero.
    fn try_on_nothing(&self) -> Result<(), BadRubric> {
        let portfolio = Portfolio::default();
        let model = Model::of(&portfolio, None, NaiveDate::default());
        let scope = self.scope(&model);
        match self.criteria.iter().find(|criterion| criterion.fails(&scope)) {
            Some(criterion) => bad(
                format!("{}.score_expression", criterion.shown.criterion_id),
                "fails for a city without any tool; `judgeable_expression` must exclude such a city",
            ),
            None => Ok(()),
        }
    }
}

fn read(environment: &Environment, entry: Entry, before: &[Criterion]) -> Result<Criterion, BadRubric> {
    let at = |field: &str| format!("{}.{field}", entry.id);
    slug("criterion.id", &entry.id)?;
    if before.iter().any(|other| other.shown.criterion_id == entry.id) {
        return bad(at("id"), "is the id of two criteria");
    }
    for (field, text) in [("title", &entry.title), ("risk", &entry.risk), ("advice", &entry.advice)] {
        words(&at(field), text)?;
    }
    if !(1..=WHOLE).contains(&i64::from(entry.weight)) {
        return bad(at("weight"), format!("must be 1 to {WHOLE} basis points"));
    }
    let needs = match before.iter().position(|other| other.shown.criterion_id == entry.prerequisite_id) {
        None if !entry.prerequisite_id.is_empty() => {
            return bad(at("prerequisite_id"), "must be the id of an earlier criterion");
        }
        needs => needs,
    };
    let evidence = Evidence::parse(&entry.evidence);
    if evidence.is_none() && !entry.evidence.is_empty() {
        return bad(at("evidence"), format!("`{}` is not a list of evidence", entry.evidence));
    }
    let program = |field: &str, source: &str, wanted: &[Type]| {
        environment.compile(source, wanted).map_err(|problem| BadRubric { place: at(field), problem })
    };
    let known = program("judgeable_expression", &entry.judgeable_expression, &[Type::Bool])?;
    let met = program("score_expression", &entry.score_expression, &[Type::Int, Type::Bool])?;
    let (part, precondition, finding, severity) = coded(&entry)?;
    let weight = i64::from(entry.weight);
    let shown = proto::Criterion {
        criterion_id: entry.id,
        title: entry.title,
        part: part as i32,
        precondition: precondition as i32,
        weight_basis_points: entry.weight,
        judgeable_expression: entry.judgeable_expression,
        score_expression: entry.score_expression,
        prerequisite_id: entry.prerequisite_id,
        finding: finding as i32,
        severity: severity as i32,
        evidence: entry.evidence,
        risk: entry.risk,
        advice: entry.advice,
    };
    Ok(Criterion { shown, weight, needs, evidence, known, met })
}

type Codes = (StrategyPart, Precondition, FindingCode, Severity);

/// Parses the enum fields, which rubrics write without the prefix of the API names.
fn coded(entry: &Entry) -> Result<Codes, BadRubric> {
    let at = |field: &str| format!("{}.{field}", entry.id);
    let unknown = |field: &str, name: &str| BadRubric { place: at(field), problem: format!("`{name}` is not known") };
    let optional = |name: &str| if name.is_empty() { "UNSPECIFIED".to_owned() } else { name.to_owned() };
    let part = StrategyPart::from_str_name(&format!("STRATEGY_PART_{}", optional(&entry.part)));
    let precondition = Precondition::from_str_name(&format!("PRECONDITION_{}", optional(&entry.precondition)));
    let finding = FindingCode::from_str_name(&format!("FINDING_CODE_{}", entry.finding));
    let severity = Severity::from_str_name(&format!("SEVERITY_{}", entry.severity));
    let codes = (
        part.ok_or_else(|| unknown("part", &entry.part))?,
        precondition.ok_or_else(|| unknown("precondition", &entry.precondition))?,
        finding.filter(|f| *f != FindingCode::Unspecified).ok_or_else(|| unknown("finding", &entry.finding))?,
        severity.filter(|s| *s != Severity::Unspecified).ok_or_else(|| unknown("severity", &entry.severity))?,
    );
    if codes.0 == StrategyPart::Unspecified && codes.1 == Precondition::Unspecified {
        return bad(at("part"), "must be set if `precondition` is not");
    }
    Ok(codes)
}

fn slug(place: &str, id: &str) -> Result<(), BadRubric> {
    let allowed: BTreeSet<char> = ('a'..='z').chain('0'..='9').chain(['-', '.']).collect();
    if !id.is_empty() && id.len() <= ID_CHARS && id.chars().all(|c| allowed.contains(&c)) {
        Ok(())
    } else {
        bad(place, format!("must be 1 to {ID_CHARS} lower-case letters, digits, hyphens and points"))
    }
}

fn words(place: &str, text: &str) -> Result<(), BadRubric> {
    if text.trim().is_empty() {
        return bad(place, "is empty");
    }
    if text.chars().count() > WORDS_CHARS {
        return bad(place, format!("is longer than {WORDS_CHARS} characters"));
    }
    Ok(())
}

/// Encodes bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = r#"
        id = "test-1"
        version = "1"
        title = "A test"
        [[criterion]]
        id = "a"
        title = "Ties"
        part = "GOALS"
        weight = 10000
        judgeable_expression = "ties > 0"
        score_expression = "10000 * ties_alive / ties"
        finding = "DORMANT_TIES"
        severity = "LOW"
        evidence = "dormant_ties"
        risk = "Lost ties."
        advice = "Wake them."
    "#;

    fn refused(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        Rubric::load(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
    }

    #[test]
    fn st_8_the_embedded_rubric_is_sound_and_finds_all_it_should() {
        let rubric = Rubric::embedded();
        let found: BTreeSet<i32> = rubric.criteria().iter().map(|c| c.shown.finding).collect();
        let asked: BTreeSet<i32> = (1..FindingCode::Other as i32).collect();
        assert_eq!(found, asked);
        assert_eq!(rubric.to_proto().variables.len(), VARIABLES.len());
    }

    /// Recorded evaluations refer to this file by its digest. Do not change it; add `hansa-2027.toml` instead.
    #[test]
    fn st_8_the_embedded_rubric_is_what_it_was() {
        let rubric = Rubric::embedded();
        assert_eq!((rubric.name(), rubric.version()), ("rubrics/hansa-2026", "2026.1"));
        assert_eq!(rubric.digest(), "a508767359f0659407695ba390ec8df72442db037ffaf59ec342a15da0096c1f");
    }

    #[test]
    fn st_8_a_rubric_is_refused_with_place_and_reason() {
        assert!(Rubric::load(GOOD).is_ok());
        for (from, to, place, reason) in [
            ("ties > 0", "tied > 0", "a.judgeable_expression", "not a variable of the model"),
            ("ties > 0", "ties > 0.5", "a.judgeable_expression", "floats"),
            ("ties > 0", "{1: 2}.size() > 0", "a.judgeable_expression", "map literals"),
            ("ties > 0", "ties", "a.judgeable_expression", "type Int"),
            (
                "ties > 0",
                "tie_kinds.all(a, tie_kinds.all(b, tie_kinds.all(c, true)))",
                "a.judgeable_expression",
                "deeper than 2",
            ),
            ("judgeable_expression = \"ties > 0\"", "", "a.score_expression", "fails for a city without any tool"),
            ("ties > 0", &" ".repeat(600), "a.judgeable_expression", "longer than 500"),
            ("10000 * ties_alive / ties", "strategy_state", "a.score_expression", "type Text"),
            ("weight = 10000", "weight = 9000", "criterion", "add up to 9000"),
            ("weight = 10000", "weight = 0", "a.weight", "basis points"),
            ("weight = 10000", "weight = 0.5", "file", "invalid type"),
            ("\"GOALS\"", "\"\"", "a.part", "must be set"),
            ("\"GOALS\"", "\"GOAL\"", "a.part", "not known"),
            ("DORMANT_TIES", "SLEEPY", "a.finding", "not known"),
            ("DORMANT_TIES", "UNSPECIFIED", "a.finding", "not known"),
            ("\"LOW\"", "\"MILD\"", "a.severity", "not known"),
            ("\"dormant_ties\"", "\"ties\"", "a.evidence", "not a list of evidence"),
            ("risk = \"Lost ties.\"", "risk = \"\"", "a.risk", "empty"),
            ("advice = \"Wake them.\"", "", "file", "advice"),
            ("advice = ", "prerequisite_id = \"a\"\nadvice = ", "a.prerequisite_id", "earlier"),
            ("advice = ", "colour = \"a\"\nadvice = ", "file", "colour"),
            ("id = \"test-1\"", "id = \"Test\"", "id", "lower-case"),
            ("version = \"1\"", "version = \"\"", "version", "visible"),
            ("Wake them.", &"x".repeat(WORDS_CHARS + 1), "a.advice", "longer than 1000"),
            ("A test", &"x".repeat(FILE_BYTES), "file", "bytes"),
        ] {
            let refusal = refused(from, to);
            assert!(refusal.starts_with(place) && refusal.contains(reason), "{to}: {refusal}");
        }
        let twice = format!("{GOOD}{}", &GOOD[GOOD.find("[[criterion]]").unwrap()..]);
        assert!(Rubric::load(&twice).unwrap_err().to_string().contains("two criteria"));
    }

    #[test]
    fn criteria_are_capped() {
        let one = &GOOD[GOOD.find("[[criterion]]").unwrap()..];
        let head = &GOOD[..GOOD.find("[[criterion]]").unwrap()];
        let many = |n: usize| -> String {
            let weight = format!("weight = {}", WHOLE / n as i64);
            let each = |i| one.replace("id = \"a\"", &format!("id = \"a{i}\"")).replace("weight = 10000", &weight);
            std::iter::once(head.to_owned()).chain((0..n).map(each)).collect()
        };
        assert!(Rubric::load(&many(CRITERIA)).is_ok());
        assert!(Rubric::load(&many(CRITERIA + 25)).unwrap_err().to_string().contains("not 1 to 100"));
    }
}
