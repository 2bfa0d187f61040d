//! `hansa history`: shows who changed what in a record, and when (PL-3).

use crate::{output, session::Session};
use hansa_chassis::role::role_name;
use hansa_kernel::Role;
use hansa_proto::{changes::ListChangesRequest, types::Change};

/// Prints the history of a record.
///
/// # Errors
/// If a call fails.
pub async fn run(session: &Session, record: &str, json: bool) -> anyhow::Result<()> {
    let changes = read(session, record).await?;
    if json {
        let changes = changes.iter().map(output::json).collect::<Result<Vec<_>, _>>()?;
        return output::print_json(&changes.into());
    }
    println!("{}", output::table(&["", "when", "what", "who", "bound", "level"], changes.iter().map(row)));
    Ok(())
}

async fn read(session: &Session, record: &str) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListChangesRequest { parent: record.to_owned(), page_size: 1_000, page_token };
        let page = session.api.changes().list_changes(request).await?.into_inner();
        changes.extend(page.changes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(changes);
        }
    }
}

fn row(change: &Change) -> Vec<String> {
    let when = change.claim_time.as_ref().and_then(|t| chrono::DateTime::from_timestamp(t.seconds, 0));
    let role = match &change.actor {
        None => "(not shown)".to_owned(),
        Some(actor) if actor.person.is_empty() => "the platform".to_owned(),
        Some(actor) => role_name(Role::try_from(actor.role).unwrap_or_default()),
    };
    vec![
        change.version.to_string(),
        when.map(|when| when.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default(),
        change.payload_type.rsplit('.').next().unwrap_or_default().to_owned(),
        role,
        change.on_behalf_of.clone(),
        change.assurance_level().as_str_name().trim_start_matches("ASSURANCE_LEVEL_").to_owned(),
    ]
}
