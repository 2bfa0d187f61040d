//! What is asked of the writer, and what became of it.

use crate::{command::AnyCommand, journal::Inner, kind::AnyState, limits::COMMAND_TRIES, metrics, tables::record};
use chrono::{DateTime, Utc};
use hansa_kernel::{Reason, RecordName, Refusal};
use std::collections::BTreeMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

/// Rows of records, nothing where there is none, as they stood when they were read.
pub(crate) type Found = BTreeMap<Uuid, Option<record::Model>>;

/// What is asked of the writer.
pub(crate) enum Work {
    /// Commands that take effect together or not at all.
    Commands { commands: Vec<Box<dyn AnyCommand>>, validate_only: bool },
    /// What time does to a record.
    Timer { name: RecordName, due: DateTime<Utc>, trace: Option<String> },
}

pub(crate) struct Job {
    pub work: Work,
    pub answer: oneshot::Sender<Result<Vec<Done>, Refusal>>,
    pub tries: u32,
    /// What was read of its records while it came.
    pub found: Found,
    /// Its place among those that may wait, free again with the answer.
    pub _place: OwnedSemaphorePermit,
}

impl Job {
    /// The tenant that asks. What time and the node do is nobody's: that has a line of its own.
    pub fn whose(&self) -> Uuid {
        match &self.work {
            Work::Commands { commands, .. } => commands.first().and_then(|command| command.author().tenant),
            Work::Timer { .. } => None,
        }
        .map_or(Uuid::nil(), |tenant| tenant.0)
    }

    /// Tries once more, where another replica wrote the same records; refuses where that happened too often.
    pub fn again(mut self, inner: &Inner) -> Option<Self> {
        self.tries += 1;
        if self.tries < COMMAND_TRIES {
            return Some(self);
        }
        let refusal = Refusal::because(Reason::Stale, "PL-4", "others kept changing the same record");
        self.answered(inner, Err(refusal.help("Nothing was changed. Read the record and try again.")));
        None
    }

    /// Answers, and counts the answer.
    pub fn answered(self, inner: &Inner, answer: Result<Vec<Done>, Refusal>) {
        metrics::answered(inner.service, &self.work, &answer);
        // A caller that has hung up does not want its answer; the act stands.
        let _ = self.answer.send(answer);
    }
}

/// What became of one record.
pub(crate) struct Done {
    pub name: RecordName,
    pub version: u64,
    pub head: Vec<u8>,
    /// `None` where a repeated request answered with an older version, which is then folded again.
    pub state: Option<AnyState>,
    pub repeated: bool,
}
