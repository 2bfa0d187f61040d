//! The write path: `load -> decide -> commit -> publish -> reply`.
//!
//! A [`command`] waits in the fair queue as a [`queued::QueuedCommand`]. The [`writer`] takes a batch, loads the records into the
//! working set, decides each command in a [`batch`], [`append`]s the changes, and commits the write set in one transaction.

pub(crate) mod append;
pub(crate) mod batch;
pub(crate) mod command;
pub(crate) mod fair_queue;
pub(crate) mod queued;
pub(crate) mod side_row;
pub(crate) mod working_set;
pub(crate) mod write_set;
pub(crate) mod writer;
