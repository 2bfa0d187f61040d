//! The gRPC methods: open the request, name the record and the rule, render the answer.

pub mod evaluation;
pub mod strategy;
mod watch;

use hansa_chassis::to_status;
use hansa_kernel::{RecordName, Refused};
use tonic::Status;

/// A part of a request, or the refusal as gRPC says it.
fn ask<T>(part: Refused<T>) -> Result<T, Status> {
    part.map_err(|refusal| to_status(&refusal))
}

fn city_name(name: &str, field: &str) -> Result<RecordName, Status> {
    ask(RecordName::parse(name, "cities", field))
}
