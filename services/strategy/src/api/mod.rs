//! The rpc handlers of the service: they parse the request, name the record and the rule, and respond.

pub mod evaluation;
pub mod strategy;
mod watch;

use hansa_chassis::with_times;
use hansa_journal::Loaded;
use hansa_kernel::{RecordName, Refused};
use hansa_proto::strategy::Evaluation;
use hansa_strategy_domain::Evaluations;

fn city_name(name: &str, field: &str) -> Refused<RecordName> {
    RecordName::parse(name, "cities", field)
}

/// Returns the latest evaluation of a record as a resource.
fn latest(found: &Loaded<Evaluations>) -> Evaluation {
    with_times(Evaluation { etag: found.etag.clone(), ..found.state.latest() }, found.times)
}
