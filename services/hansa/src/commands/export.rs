//! `hansa export`: an agreement as a document that anyone can check offline (AG-12).

use crate::{output, session::Session};
use anyhow::Context;
use hansa_proto::partnerships::ExportAgreementRequest;
use std::path::Path;

/// Writes the document.
pub async fn run(session: &Session, agreement: &str, file: &Path) -> anyhow::Result<()> {
    let request = ExportAgreementRequest { name: agreement.to_owned() };
    let document = session.api.agreements().export_agreement(request).await?.into_inner();
    let text = serde_json::to_string_pretty(&output::json(&document)?)?;
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    println!(
        "{} changes, written to {}. Check it: hansa verify {}",
        document.changes.len(),
        file.display(),
        file.display()
    );
    Ok(())
}
