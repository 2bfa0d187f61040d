//! Refusals as gRPC statuses: `google.rpc.Status` with exactly one `ErrorInfo` (AIP-193), and the error type of rpc handlers.

use crate::limits::RETRY_AFTER;
use hansa_journal::JournalError;
use hansa_kernel::{Reason, Refusal, refusal::Missing};
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

/// Converts a refusal into a status.
#[must_use]
pub fn to_status(refusal: &Refusal) -> Status {
    let reason = refusal.reason.as_str_name().trim_start_matches("REASON_");
    let mut metadata = HashMap::from([("rule".to_owned(), refusal.rule.to_owned())]);
    if !refusal.help.is_empty() {
        metadata.insert("help".into(), refusal.help.clone());
    }
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    match refusal.reason {
        Reason::InvalidField | Reason::RequestIdReused => {
            let violations: Vec<_> =
                refusal.missing.iter().map(|m| FieldViolation::new(&m.subject, &m.description)).collect();
            details.set_bad_request(violations);
        }
        Reason::Rule | Reason::OutOfOrder | Reason::Frozen | Reason::Stale => {
            let violation = |m: &Missing| PreconditionViolation::new(refusal.rule, &m.subject, &m.description);
            details.set_precondition_failure(refusal.missing.iter().map(violation).collect::<Vec<_>>());
        }
        Reason::Limit | Reason::Unavailable => {
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
    Status::with_error_details(code(refusal.reason), refusal.message.clone(), details)
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::Rule | Reason::OutOfOrder | Reason::Frozen => Code::FailedPrecondition,
        Reason::InvalidField | Reason::RequestIdReused => Code::InvalidArgument,
        Reason::NotFound | Reason::Deleted => Code::NotFound,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::NotPermitted => Code::PermissionDenied,
        Reason::NotAuthenticated => Code::Unauthenticated,
        Reason::Stale => Code::Aborted,
        Reason::Limit => Code::ResourceExhausted,
        Reason::Unavailable => Code::Unavailable,
        Reason::NotServed => Code::Unimplemented,
        Reason::Internal | Reason::Unspecified => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_status_names_the_rule_and_what_would_help() {
        let refusal = Refusal::rule("AG-11", "guidelines are missing").missing("guidelines", "state them").help("Do.");
        let status = to_status(&refusal);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("RULE", "hansa"));
        assert_eq!(info.metadata["rule"], "AG-11");
        assert_eq!(info.metadata["help"], "Do.");
        assert_eq!(status.get_details_precondition_failure().unwrap().violations[0].subject, "guidelines");
    }

    #[test]
    fn only_a_retryable_refusal_says_when_to_retry() {
        let delay = |refusal: &Refusal| to_status(refusal).get_details_retry_info().and_then(|info| info.retry_delay);
        let lasting = Refusal::because(Reason::Limit, "PL-3", "the record has too many changes");
        assert_eq!(delay(&lasting), None);
        assert_eq!(delay(&lasting.retryable()), Some(RETRY_AFTER));
        assert_eq!(delay(&Refusal::because(Reason::Unavailable, "PL-4", "away")), Some(RETRY_AFTER));
    }
}
