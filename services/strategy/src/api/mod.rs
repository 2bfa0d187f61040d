//! The rpc handlers of the service: they parse the request, name the record and the rule, and respond.

pub mod evaluation;
pub mod strategy;
mod watch;

use hansa_kernel::{RecordName, Refused};

fn city_name(name: &str, field: &str) -> Refused<RecordName> {
    RecordName::parse(name, "cities", field)
}
