//! A stronger agreement that enters into force takes the place of the one that it names (AG-3). The two are records of
//! their own, so the second step follows from the first one's changes, as soon as may be and once.

use hansa_journal::{Author, Command, Journal, Mirror, trace};
use hansa_kernel::{Misfit, Reason, RecordId, RecordName, Reference, Refusal, Stamp};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, Change};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where agreements wait whose predecessor is to be taken out of force.
pub const QUEUE: &str = "supersede";

/// What is kept of an agreement for that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// Whether it names another.
    names_another: bool,
    /// Whether it has entered into force.
    entered: bool,
}

/// The mirror.
#[derive(Debug)]
pub struct Successions;

impl Reference for Succession {
    const COLLECTION: &'static str = COLLECTION;
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, Misfit> {
        let mut state = before.unwrap_or_default();
        match change {
            Change::Proposed(proposed) => state.names_another = !proposed.supersedes.is_empty(),
            Change::EnteredIntoForce(_) => state.entered = true,
            _ => {}
        }
        Ok(state)
    }
}

impl Mirror for Successions {
    type State = Succession;

    fn touches(record: RecordId, before: Option<&Succession>, after: Option<&Succession>) -> Vec<(&'static str, Uuid)> {
        let was = before.is_some_and(|before| before.entered);
        let due = after.is_some_and(|after| after.names_another && after.entered && !was);
        if due { vec![(QUEUE, record.0)] } else { Vec::new() }
    }
}

/// Takes the predecessor of an agreement out of force. Where that has happened, nothing does.
///
/// # Errors
/// Where the database is away: the agreement stays in the queue.
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
        // The agreement was over again before its predecessor's turn came, or names none that is there: trying again
        // would not help.
        Err(refusal) if matches!(refusal.reason, Reason::OutOfOrder | Reason::NotFound) => {
            tracing::warn!(agreement = %named, %refusal, "an agreement takes no other's place");
            Ok(())
        }
        Err(refusal) => Err(refusal),
    }
}
