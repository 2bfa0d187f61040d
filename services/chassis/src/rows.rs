//! Results of rows: of an import, or of a decision about many records.

use crate::status::to_rpc_status;
use hansa_kernel::{ReasonClass, Refusal};
use hansa_proto::types::{RowOutcome, RowResult};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Returns the result of a row. `index` is the place of the row in the request, from 0.
#[must_use]
pub fn row_result(index: usize, resource: String, outcome: Result<RowOutcome, Refusal>) -> RowResult {
    let row_number = i32::try_from(index.saturating_add(1)).unwrap_or(i32::MAX);
    let (outcome, status) = match outcome {
        Ok(outcome) => (outcome, None),
        Err(refusal) => (RowOutcome::Failed, Some(to_rpc_status(&refusal))),
    };
    RowResult { row_number, resource, outcome: outcome as i32, status }
}

/// Returns the status of a row that failed, with the details of its refusal.
#[must_use]
pub fn row_status(row: &RowResult) -> Option<Status> {
    let status = row.status.as_ref()?;
    let details = status.encode_to_vec().into();
    Some(Status::with_details(Code::from_i32(status.code), status.message.clone(), details))
}

/// Returns why a row failed, in one line: the message, the rule and what would help. Empty if the row did not fail.
#[must_use]
pub fn row_failure(row: &RowResult) -> String {
    let Some(status) = row_status(row) else { return String::new() };
    let metadata = status.get_details_error_info().map(|info| info.metadata).unwrap_or_default();
    let of = |key: &str| metadata.get(key).cloned().unwrap_or_default();
    let (rule, help) = (of("rule"), of("help"));
    format!("{} ({rule}) {help}", status.message()).trim_end().to_owned()
}

/// The refusal of a row that the writer did not reach.
#[must_use]
pub fn undecided() -> Refusal {
    Refusal::because(ReasonClass::Unavailable, "PL-4", "ROW_UNDECIDED", "the row was not decided")
        .help("Send the row again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_row_carries_the_status_of_its_refusal() {
        let good = row_result(0, "cities/x".into(), Ok(RowOutcome::Created));
        assert_eq!((good.row_number, good.outcome(), &good.status), (1, RowOutcome::Created, &None));
        let bad = row_result(4, String::new(), Err(Refusal::field("tier", "is required")));
        assert_eq!((bad.row_number, bad.outcome()), (5, RowOutcome::Failed));
        let status = bad.status.clone().unwrap();
        assert_eq!((status.code, status.message.as_str()), (3, "tier: is required"));
        assert!(!status.details.is_empty());
        assert_eq!((row_failure(&bad).as_str(), row_failure(&good).as_str()), ("tier: is required (PL-4)", ""));
        assert_eq!(row_status(&bad).unwrap().code(), Code::InvalidArgument);
    }
}
