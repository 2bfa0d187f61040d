//! The writer: the one task of a journal that writes changes (group commit).
//!
//! The writer takes whatever waits in the fair queue as one batch and runs `load -> decide -> commit -> publish -> reply`. While
//! it commits, the next commands queue up, so the batches grow with the load. A call gets its reply only after the commit.
//!
//! There are two paths, which share the decision ([`Batch::decide`]):
//! - **Optimistic** ([`try_optimistic`], PostgreSQL only): decides over cached and preloaded states without locks, and writes
//!   everything by one statement, which is its own transaction. If another replica was faster, a unique key (record and version,
//!   or tenant and request id) stops the statement: nothing is written.
//! - **Locked** ([`commit_locked`]): locks the records, and decides what the optimistic path could not: conflicts, refusals,
//!   replayed requests and commands that change nothing. On SQLite every batch takes this path; one process owns the file.
//!
//! Example: a mayor signs an agreement. The command joins the FIFO of the city, is decided over the cached state together with the
//! commands of other tenants, and is committed with them by one statement. If a second replica has just committed the partner's
//! signature, the statement fails, the records are locked and read, and the rule decides again over the new state.
//!
//! Guarantees: a reply means that the change is durable; each command is decided over the newest state of its record; a command
//! that is refused, or whose rule panics, affects no other; after `COMMAND_TRIES` conflicts the caller gets ABORTED.

use crate::{
    core::Core,
    limits::{BATCH_COMMANDS, BATCH_SHARE, QUEUED_COMMANDS},
    metrics, panics,
    privacy::erasure,
    store::{
        Backend,
        error::{StoreError, is_conflict, unavailable_store},
    },
    write::{
        batch::Batch,
        fair_queue::FairQueue,
        queued::{Outcome, QueuedCommand},
        working_set::{load_locked, load_optimistic, load_requests, record_names, split_name_conflicts},
    },
};
use hansa_kernel::Refusal;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Runs until every handle of the journal is dropped.
pub(crate) async fn run(core: Arc<Core>, mut queue: mpsc::UnboundedReceiver<QueuedCommand>) {
    let (mut waiting, mut received) = (FairQueue::default(), Vec::new());
    loop {
        if waiting.len() == 0 && queue.recv_many(&mut received, QUEUED_COMMANDS).await == 0 {
            return;
        }
        while let Ok(command) = queue.try_recv() {
            received.push(command);
        }
        received.drain(..).for_each(|command| waiting.push(command.tenant(), command));
        let mut commands = waiting.take_batch(BATCH_COMMANDS, BATCH_SHARE);
        metrics::batch(core.service, commands.len(), waiting.len());
        while !commands.is_empty() {
            commands = panics::catch_async(write(&core, commands)).await.unwrap_or_else(|_| {
                // A panic outside of the rules ends this batch but not the writer. The callers learn that the outcome is
                // unknown, because their reply channels are dropped; cached states may be wrong.
                core.cache.invalidate_all();
                Vec::new()
            });
        }
    }
}

/// Writes one batch. Returns the commands that must be tried again.
async fn write(core: &Core, commands: Vec<QueuedCommand>) -> Vec<QueuedCommand> {
    let (commands, mut again) = split_name_conflicts(commands);
    let is_first_try = commands.iter().all(|command| command.tries == 0);
    let optimistic = is_first_try && core.store.backend() == Backend::Postgres;
    let undecided = if optimistic { try_optimistic(core, commands).await } else { commands };
    if !undecided.is_empty() {
        again.splice(0..0, write_locked(core, undecided).await);
    }
    again
}

/// Decides over states that were loaded without locks and commits by one statement. Returns the commands that the locked path
/// must decide.
async fn try_optimistic(core: &Core, mut commands: Vec<QueuedCommand>) -> Vec<QueuedCommand> {
    let working_set = match load_optimistic(core, &mut commands).await {
        Ok(working_set) => working_set,
        Err(error) => return fail(core, commands, &error),
    };
    let mut batch = Batch::optimistic(core, working_set);
    let decisions = batch.decide(&commands);
    // An erasure also truncates files after the commit; the locked path does that.
    if decisions.iter().all(Result::is_err) || !batch.rows().erasures.is_empty() {
        return commands;
    }
    let (committed, sql) = batch.finish();
    if !sql.is_single_statement() {
        return commands;
    }
    match sql.run(core.store.writer()).await {
        Ok(()) => committed.publish(core),
        Err(error) if is_conflict(&error) => {
            uncache(core, &commands);
            return commands;
        }
        Err(error) => return fail(core, commands, &error),
    }
    let mut undecided = Vec::new();
    for (command, decision) in commands.into_iter().zip(decisions) {
        match decision {
            Ok(outcomes) => command.reply(core.service, Ok(outcomes)),
            Err(_) => undecided.push(command),
        }
    }
    undecided
}

/// Decides under lock and commits. Returns the commands that must be tried again because of a conflict.
async fn write_locked(core: &Core, commands: Vec<QueuedCommand>) -> Vec<QueuedCommand> {
    match commit_locked(core, &commands).await {
        Ok(answers) => {
            commands.into_iter().zip(answers).for_each(|(command, answer)| command.reply(core.service, answer));
            Vec::new()
        }
        Err(error) if is_conflict(&error) => {
            uncache(core, &commands);
            commands.into_iter().filter_map(|command| command.retry(core.service)).collect()
        }
        Err(error) => fail(core, commands, &error),
    }
}

async fn commit_locked(
    core: &Core,
    commands: &[QueuedCommand],
) -> Result<Vec<Result<Vec<Outcome>, Refusal>>, StoreError> {
    let tx = core.store.begin().await?;
    let working_set = load_locked(core, &tx, commands).await?;
    let mut batch = Batch::locked(core, working_set, load_requests(&tx, commands).await?);
    let decisions = batch.decide(commands);
    let answers = decisions.into_iter().map(|decision| decision.map_err(Refusal::from)).collect();
    if batch.rows().changes.is_empty() && batch.rows().requests.is_empty() {
        tx.rollback().await?;
        return Ok(answers);
    }
    let (now, erasures) = (batch.now(), batch.rows().erasures.clone());
    let (committed, sql) = batch.finish();
    sql.run(&tx).await?;
    erasure::erase(&tx, &erasures, now).await?;
    tx.commit().await?;
    committed.publish(core);
    if !erasures.is_empty() {
        // Before the reply: a value that is reported as erased is then gone from the files too.
        core.store.scrub().await;
    }
    Ok(answers)
}

/// Replies UNAVAILABLE to all commands: the commit failed, and it is unknown whether it took effect.
fn fail(core: &Core, commands: Vec<QueuedCommand>, error: &StoreError) -> Vec<QueuedCommand> {
    let refusal = unavailable_store(error);
    uncache(core, &commands);
    for command in commands {
        command.reply(core.service, Err(refusal.clone()));
    }
    Vec::new()
}

fn uncache(core: &Core, commands: &[QueuedCommand]) {
    record_names(commands).keys().for_each(|id| core.cache.invalidate(id));
}
