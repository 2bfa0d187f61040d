//! The gRPC methods: open the request, name the record and the rule, render the answer.

pub mod evaluation;
pub mod strategy;
mod watch;

use hansa_chassis::ask;
use hansa_kernel::RecordName;
use tonic::Status;

fn city_name(name: &str, field: &str) -> Result<RecordName, Status> {
    ask(RecordName::parse(name, "cities", field))
}
