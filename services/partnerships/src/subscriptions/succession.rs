//! Supersession: when an agreement enters into force, it supersedes the weaker agreement that it names (AG-3). The two
//! are separate records, so a work queue carries the effect from the new agreement to the old one.

use super::queues::SUPERSEDE;
use hansa_journal::{Author, Command, Journal, QueueKey, Subscription, trace};
use hansa_kernel::{FoldError, ReasonClass, RecordId, RecordName, Reference, Refusal, Stamp};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, Change};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The mirror of the service's own agreements for supersession.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// Whether the agreement names another that it supersedes.
    names_another: bool,
    /// Whether the agreement has entered into force.
    entered: bool,
}

impl Reference for Succession {
    const COLLECTION: &'static str = COLLECTION;
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        let mut state = before.unwrap_or_default();
        match change {
            Change::Proposed(proposed) => state.names_another = !proposed.superseded_agreement.is_empty(),
            Change::EnteredIntoForce(_) => state.entered = true,
            _ => {}
        }
        Ok(state)
    }
}

/// Enqueues an agreement that has just entered into force and names another.
fn invalidates(record: RecordId, before: Option<&Succession>, after: Option<&Succession>) -> Vec<QueueKey> {
    let had_entered = before.is_some_and(|before| before.entered);
    let is_due = after.is_some_and(|after| after.names_another && after.entered && !had_entered);
    if is_due { vec![(SUPERSEDE, record.0)] } else { Vec::new() }
}

/// Creates the subscription to the service's own changes.
#[must_use]
pub fn subscription(journal: &Journal) -> Subscription {
    Subscription::new("partnerships-from-itself", journal).mirror_invalidating::<Succession>(invalidates)
}

/// Supersedes the agreement that the agreement `id` names. A repeated call changes nothing.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable; the agreement stays in the queue.
pub async fn supersede(journal: Journal, id: Uuid) -> Result<(), Refusal> {
    let named = RecordName::new(COLLECTION, RecordId(id));
    let Some(new) = journal.load::<Agreement>(&named).await? else { return Ok(()) };
    let Some(old) = new.state.supersedes() else { return Ok(()) };
    let old = RecordName::new(COLLECTION, old);
    let target = old.clone();
    let author = Author { trace: trace::current(), ..Author::default() };
    let command = Command::new(old, author, move |old: Option<&Agreement>, at| {
        let old = old.ok_or_else(|| Refusal::not_found(&target))?;
        agreement::supersede(old, &target, &new.state, &new.name, at)
    });
    match journal.submit(command, false).await {
        Ok(_) => Ok(()),
        // The old agreement does not exist, or the new one has ended in the meantime. A retry would not help.
        Err(refusal) if matches!(refusal.class, ReasonClass::OutOfOrder | ReasonClass::NotFound) => {
            tracing::warn!(agreement = %named, %refusal, "an agreement cannot supersede the agreement that it names");
            Ok(())
        }
        Err(refusal) => Err(refusal),
    }
}
