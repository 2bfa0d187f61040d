//! Comparison and description of refusals.

use hansa_proto::{
    google::rpc::Status as RpcStatus,
    types::{RowResult, Violation, Violations},
};
use prost::{Message, Name};
use std::collections::{BTreeMap, HashMap};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Replaces the ids in a text by `*`.
fn masked(text: &str) -> String {
    let parted: Vec<&str> = text.split('/').collect();
    let mask = |part: &&str| {
        let id = part.get(..36).filter(|id| uuid::Uuid::try_parse(id).is_ok());
        id.map_or_else(|| (*part).to_owned(), |id| part.replacen(id, "*", 1))
    };
    parted.iter().map(mask).collect::<Vec<_>>().join("/")
}

/// Returns the parts of a refusal that distinguish it from others, without ids.
#[must_use]
pub fn shape(status: &Status) -> (i32, String, BTreeMap<String, String>, String) {
    let mut details = status.get_error_details();
    let metadata = details.error_info().map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    details.set_error_info(reason, "", HashMap::new());
    let violations = violations(status);
    (status.code().into(), masked(status.message()), metadata, masked(&format!("{details:?} {violations:?}")))
}

/// Returns the status of a row that failed.
#[must_use]
pub fn row_status(row: &RowResult) -> Status {
    let status = row.status.clone().unwrap_or_default();
    Status::with_details(Code::from_i32(status.code), status.message.clone(), status.encode_to_vec().into())
}

/// Returns every violation of a refusal.
#[must_use]
pub fn violations(status: &Status) -> Vec<Violation> {
    let rpc = RpcStatus::decode(status.details()).unwrap_or_default();
    let is_ours = |detail: &&prost_types::Any| detail.type_url == Violations::type_url();
    let all = rpc.details.iter().find(is_ours).map(|detail| Violations::decode(detail.value.as_slice()).unwrap());
    all.unwrap_or_default().violations
}

/// Describes an answer in one line.
#[must_use]
pub fn brief(answer: &Result<Vec<u8>, Status>) -> String {
    match answer {
        Ok(_) => "OK".into(),
        Err(status) => {
            let metadata = status.get_details_error_info().map(|info| info.metadata).unwrap_or_default();
            format!("{:?} {} {:?}", status.code(), status.message(), metadata.get("rule"))
        }
    }
}

/// Returns whether the policies refused the call because of role or relation, and not a rule about the record.
#[must_use]
pub fn denied(status: &Status) -> bool {
    status.code() == Code::PermissionDenied
        && status.message().starts_with("your role")
        && status.get_details_error_info().is_some_and(|info| info.metadata["rule"] == "PL-2")
}
