//! Refusals as gRPC statuses: `google.rpc.Status` with exactly one `ErrorInfo` (AIP-193), and the error type of rpc handlers.

use crate::limits::RETRY_AFTER;
use hansa_journal::JournalError;
use hansa_kernel::{ReasonClass, Refusal, refusal::Missing};
use hansa_proto::{
    google::rpc::Status as RpcStatus,
    types::{Violation, Violations},
};
use prost::{Message, Name};
use std::collections::HashMap;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "hansa";

/// The result of an rpc handler.
pub type ApiResult<T> = Result<Response<T>, ApiError>;

/// The error of an rpc handler. Refusals and errors of the journal convert into it, so that handlers use `?`.
#[derive(Clone, Debug)]
pub struct ApiError(Status);

impl ApiError {
    /// Returns the gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self(to_status(&refusal))
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error.0
    }
}

/// Converts a refusal into a status: one `ErrorInfo` for the first violation, the standard detail of its class, and
/// `hansa.type.v1.Violations` with every violation.
#[must_use]
pub fn to_status(refusal: &Refusal) -> Status {
    let mut metadata = HashMap::from([("rule".to_owned(), refusal.rule.to_owned())]);
    if !refusal.help.is_empty() {
        metadata.insert("help".into(), refusal.help.clone());
    }
    let mut details = ErrorDetails::with_error_info(refusal.reason, DOMAIN, metadata);
    match refusal.class {
        ReasonClass::InvalidField | ReasonClass::RequestIdReused => {
            let violation = |(_, m): (&Refusal, &Missing)| FieldViolation::new(&m.subject, &m.description);
            details.set_bad_request(missing(refusal).map(violation).collect::<Vec<_>>());
        }
        ReasonClass::Rule | ReasonClass::OutOfOrder | ReasonClass::Frozen | ReasonClass::Stale => {
            let violation =
                |(of, m): (&Refusal, &Missing)| PreconditionViolation::new(of.reason, &m.subject, &m.description);
            details.set_precondition_failure(missing(refusal).map(violation).collect::<Vec<_>>());
        }
        ReasonClass::Limit | ReasonClass::Unavailable => {
            if refusal.retryable {
                details.set_retry_info(Some(RETRY_AFTER));
            }
            if !refusal.missing.is_empty() {
                let violation = |m: &Missing| QuotaViolation::new(&m.subject, &m.description);
                details.set_quota_failure(refusal.missing.iter().map(violation).collect::<Vec<_>>());
            }
        }
        _ => {}
    }
    let code = code(refusal.class);
    let status = Status::with_error_details(code, refusal.message.clone(), details);
    with_violations(&status, refusal)
}

/// Returns everything that is missing, with the violation to which it belongs.
fn missing(refusal: &Refusal) -> impl Iterator<Item = (&Refusal, &Missing)> {
    refusal.violations().flat_map(|violation| violation.missing.iter().map(move |missing| (violation, missing)))
}

/// Returns every violation of a refusal as the contract's message: one per thing that is missing, or one without a subject.
#[must_use]
pub fn violations(refusal: &Refusal) -> Vec<Violation> {
    let plain = |of: &Refusal| Violation {
        rule: of.rule.to_owned(),
        reason: of.reason.to_owned(),
        help: of.help.clone(),
        ..Violation::default()
    };
    let each = |of: &Refusal| match of.missing.is_empty() {
        true => vec![Violation { missing: of.message.clone(), ..plain(of) }],
        false => of
            .missing
            .iter()
            .map(|m| Violation {
                subject: m.subject.clone(),
                missing: m.description.clone(),
                provider: m.provider.clone(),
                ..plain(of)
            })
            .collect(),
    };
    refusal.violations().flat_map(each).collect()
}

/// Adds the violations as one more detail. `tonic-types` only knows the details of `google.rpc`.
fn with_violations(status: &Status, refusal: &Refusal) -> Status {
    let Ok(mut rpc) = RpcStatus::decode(status.details()) else { return status.clone() };
    let all = Violations { violations: violations(refusal) };
    rpc.details.push(prost_types::Any {
        type_url: format!("type.googleapis.com{}", Violations::type_url()),
        value: all.encode_to_vec(),
    });
    Status::with_details(status.code(), status.message(), rpc.encode_to_vec().into())
}

/// Returns a refusal as a `google.rpc.Status`, for a row of a result.
#[must_use]
pub fn to_rpc_status(refusal: &Refusal) -> RpcStatus {
    RpcStatus::decode(to_status(refusal).details()).unwrap_or_default()
}

fn code(class: ReasonClass) -> Code {
    match class {
        ReasonClass::Rule | ReasonClass::OutOfOrder | ReasonClass::Frozen => Code::FailedPrecondition,
        ReasonClass::InvalidField | ReasonClass::RequestIdReused => Code::InvalidArgument,
        ReasonClass::NotFound | ReasonClass::Deleted => Code::NotFound,
        ReasonClass::AlreadyExists => Code::AlreadyExists,
        ReasonClass::NotPermitted => Code::PermissionDenied,
        ReasonClass::NotAuthenticated => Code::Unauthenticated,
        ReasonClass::Stale => Code::Aborted,
        ReasonClass::Limit => Code::ResourceExhausted,
        ReasonClass::Unavailable => Code::Unavailable,
        ReasonClass::NotServed => Code::Unimplemented,
        ReasonClass::Internal | ReasonClass::Unspecified => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_status_names_the_rule_and_what_would_help() {
        let refusal = Refusal::rule("AG-11", "GUIDELINES_REQUIRED", "guidelines are missing")
            .missing("guidelines", "state them")
            .help("Do.");
        let status = to_status(&refusal);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("GUIDELINES_REQUIRED", "hansa"));
        assert_eq!(info.metadata["rule"], "AG-11");
        assert_eq!(info.metadata["help"], "Do.");
        assert_eq!(status.get_details_precondition_failure().unwrap().violations[0].subject, "guidelines");
    }

    #[test]
    fn a_status_contains_every_violation() {
        let mayor = Refusal::rule("AG-3", "CEREMONY_MISSING", "no ceremony").missing("in_ceremony", "is false");
        let refusal = Refusal::rule("AG-11", "GUIDELINES_REQUIRED", "guidelines are missing")
            .missing_from("tenants/x", "guidelines", "state them")
            .and(mayor);
        let status = to_status(&refusal);
        let rpc = RpcStatus::decode(status.details()).unwrap();
        assert_eq!((rpc.code, rpc.message.as_str()), (Code::FailedPrecondition as i32, "guidelines are missing"));
        let last = rpc.details.last().unwrap();
        assert_eq!(last.type_url, "type.googleapis.com/hansa.type.v1.Violations");
        let all = Violations::decode(last.value.as_slice()).unwrap().violations;
        let seen: Vec<_> = all.iter().map(|v| (v.rule.as_str(), v.reason.as_str(), v.provider.as_str())).collect();
        assert_eq!(seen, [("AG-11", "GUIDELINES_REQUIRED", "tenants/x"), ("AG-3", "CEREMONY_MISSING", "")]);
        let failure = status.get_details_precondition_failure().unwrap();
        let types: Vec<_> = failure.violations.iter().map(|violation| violation.r#type.as_str()).collect();
        assert_eq!(types, ["GUIDELINES_REQUIRED", "CEREMONY_MISSING"]);
    }

    #[test]
    fn only_a_retryable_refusal_says_when_to_retry() {
        let delay = |refusal: &Refusal| to_status(refusal).get_details_retry_info().and_then(|info| info.retry_delay);
        let lasting =
            Refusal::because(ReasonClass::Limit, "PL-3", "TOO_MANY_CHANGES", "the record has too many changes");
        assert_eq!(delay(&lasting), None);
        assert_eq!(delay(&lasting.retryable()), Some(RETRY_AFTER));
        assert_eq!(
            delay(&Refusal::because(ReasonClass::Unavailable, "PL-4", "DATABASE_UNAVAILABLE", "away")),
            Some(RETRY_AFTER)
        );
    }
}
