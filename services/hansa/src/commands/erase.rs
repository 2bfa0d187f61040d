//! `hansa erase`: erases texts of the caller's tenant permanently (PL-7).

use crate::{api::request_id, output, session::Session};
use anyhow::Context;
use hansa_proto::changes::EraseTextsRequest;

/// Erases texts of a record, and prints how many.
///
/// # Errors
/// If a seal is not hexadecimal, or the call fails.
pub async fn run(session: &Session, record: &str, seals: &[String], dry_run: bool, json: bool) -> anyhow::Result<()> {
    let seal = |text: &String| hex::decode(text).with_context(|| format!("the seal `{text}` is not hexadecimal"));
    let request = EraseTextsRequest {
        name: record.to_owned(),
        seals: seals.iter().map(seal).collect::<anyhow::Result<_>>()?,
        request_id: request_id(),
        validate_only: dry_run,
    };
    let answer = session.api.changes().erase_texts(request).await?.into_inner();
    if json {
        return output::print_json(&output::json(&answer)?);
    }
    match (answer.erased_count, dry_run) {
        (0, _) => println!("Your tenant has no such texts in {record}."),
        (count, true) => println!("{count} texts of {record} would be erased."),
        (count, false) => println!("{count} texts of {record} are erased, as recorded in {}.", answer.erasure),
    }
    Ok(())
}
