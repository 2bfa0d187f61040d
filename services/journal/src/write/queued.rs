//! A command that waits for the writer, and its outcome.

use crate::{
    limits::COMMAND_TRIES, metrics, record::erased::ErasedState, store::tables::record, write::command::ErasedCommand,
};
use chrono::{DateTime, Utc};
use hansa_kernel::{ReasonClass, RecordName, Refusal};
use std::collections::BTreeMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

/// Rows of records that were read while the command was queued; `None` if there was no row.
pub(crate) type Preloaded = BTreeMap<Uuid, Option<record::Model>>;

/// What the writer is asked to decide.
pub(crate) enum CommandKind {
    /// Commands that take effect together or not at all.
    Commands { commands: Vec<Box<dyn ErasedCommand>>, validate_only: bool },
    /// The timer of a record, due at `due`.
    Timer { name: RecordName, due: DateTime<Utc>, trace: Option<String> },
}

impl CommandKind {
    /// Returns the records that the writer must load.
    pub fn records(&self) -> Vec<&RecordName> {
        match self {
            Self::Commands { commands, .. } => commands.iter().map(|command| command.name()).collect(),
            Self::Timer { name, .. } => vec![name],
        }
    }

    /// Returns the label of the metric `hansa.commands`.
    pub fn outcome_label(&self, answer: &Result<Vec<Outcome>, Refusal>) -> &'static str {
        match (self, answer) {
            (_, Err(refusal)) => refusal.reason,
            (Self::Timer { .. }, Ok(_)) => "FIRED",
            (Self::Commands { .. }, Ok(outcomes)) if outcomes.iter().any(|one| one.replayed) => "REPLAYED",
            (Self::Commands { validate_only: true, .. }, Ok(_)) => "VALIDATED",
            (Self::Commands { .. }, Ok(_)) => "DONE",
        }
    }
}

/// A command in the queue of the writer.
pub(crate) struct QueuedCommand {
    pub kind: CommandKind,
    pub reply: oneshot::Sender<Result<Vec<Outcome>, Refusal>>,
    /// How often a conflict made the writer decide it again.
    pub tries: u32,
    pub preloaded: Preloaded,
    /// Its permit to wait; released with the reply.
    pub _permit: OwnedSemaphorePermit,
}

impl QueuedCommand {
    /// Returns the tenant whose FIFO it joins. Timers and the node's own commands share the nil tenant.
    pub fn tenant(&self) -> Uuid {
        match &self.kind {
            CommandKind::Commands { commands, .. } => commands.first().and_then(|command| command.author().tenant),
            CommandKind::Timer { .. } => None,
        }
        .map_or(Uuid::nil(), |tenant| tenant.0)
    }

    /// Returns it for another try after a conflict. After `COMMAND_TRIES` tries, replies ABORTED instead.
    pub fn retry(mut self, service: &'static str) -> Option<Self> {
        self.tries += 1;
        if self.tries < COMMAND_TRIES {
            return Some(self);
        }
        let refusal =
            Refusal::because(ReasonClass::Stale, "PL-4", "CONTENDED", "other commands kept changing the same record");
        self.reply(service, Err(refusal.help("Nothing was changed. Read the record and try again.")));
        None
    }

    /// Replies to the caller and counts the outcome.
    pub fn reply(self, service: &'static str, answer: Result<Vec<Outcome>, Refusal>) {
        metrics::command(service, self.kind.outcome_label(&answer));
        // A caller that has disconnected gets no reply; the command stands.
        let _ = self.reply.send(answer);
    }
}

/// What a command led to for one record.
pub(crate) struct Outcome {
    pub name: RecordName,
    pub version: u64,
    pub head: Vec<u8>,
    /// How many changes the command has appended.
    pub changes: u64,
    /// `None` if a replayed request refers to an older version, which the reader folds again.
    pub state: Option<ErasedState>,
    /// Whether the request had been answered before.
    pub replayed: bool,
}
