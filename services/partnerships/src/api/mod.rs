//! The gRPC methods: open the request, name the record and the rule, render the answer.

pub mod agreement;
mod bulk;
mod export;
pub mod facts;

use hansa_chassis::to_status;
use hansa_kernel::{RecordName, Refused};
use hansa_partnerships_domain::agreement::COLLECTION;
use tonic::Status;

/// A part of a request, or the refusal as gRPC says it.
fn ask<T>(part: Refused<T>) -> Result<T, Status> {
    part.map_err(|refusal| to_status(&refusal))
}

fn agreement_name(name: &str, field: &str) -> Result<RecordName, Status> {
    ask(RecordName::parse(name, COLLECTION, field))
}
