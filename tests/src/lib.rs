//! Shared code of the black-box tests: a running platform in one of its three shapes, and callers with tokens.
//!
//! Tests use the program as its users do: by its command line and over gRPC.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used)]

pub mod certificates;
pub mod cities;
pub mod clock;
pub mod collector;
pub mod dice;
pub mod filler;
pub mod hostile;
pub mod load;
pub mod networks;
pub mod people;
pub mod picture;
pub mod platform;
pub mod raw;
pub mod refusals;
pub mod servers;
pub mod world;

pub use dice::{Dice, budget};
pub use load::Load;
pub use people::{Caller, Client};
pub use platform::{Platform, Shape};
pub use servers::Servers;

use std::time::{Duration, Instant};
use tonic::Status;
use tonic_types::StatusExt;

/// Maximum time to wait for an effect in another service or process.
pub const SOON: Duration = Duration::from_secs(60);

/// Polls `ask` until it returns a value. Panics with `what` after [`SOON`].
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not reached after {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the rule that a refusal names.
pub fn rule(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("a refusal without ErrorInfo: {status:?}"));
    info.metadata.get("rule").cloned().unwrap_or_default()
}

/// Returns a new request id.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Returns the current date in UTC as a message of the contract.
pub fn today() -> hansa_proto::google::r#type::Date {
    hansa_kernel::time::date(chrono::Utc::now().date_naive())
}

/// Returns an English text as a message of the contract.
pub fn text(text: &str) -> Vec<hansa_proto::types::LocalizedText> {
    let text = text.to_owned();
    vec![hansa_proto::types::LocalizedText { language_code: "en".into(), text, authentic: true, seal: Vec::new() }]
}
