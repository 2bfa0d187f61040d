//! `hansa export`: writes an agreement as a document that anyone can check offline (AG-12).

use crate::{output, session::Session};
use anyhow::Context;
use hansa_proto::partnerships::ExportAgreementRequest;
use std::path::Path;

/// Exports an agreement and writes the document to a file.
///
/// # Errors
/// If the export is refused, or the file cannot be written.
pub async fn run(session: &Session, agreement: &str, file: &Path) -> anyhow::Result<()> {
    let request = ExportAgreementRequest { name: agreement.to_owned() };
    let document = session.api.agreements().export_agreement(request).await?.into_inner();
    let text = serde_json::to_string_pretty(&output::json(&document)?)?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!(
        "Wrote {} changes to {}. Check the document with: hansa verify {}",
        document.changes.len(),
        file.display(),
        file.display()
    );
    Ok(())
}
