//! A batch: decides queued commands one after the other over the working set, and collects what they write.

use crate::{
    core::Core,
    limits::BATCH_COMMANDS,
    panics,
    record::erased::FoldedChange,
    store::{batch::SqlBatch, outbox_message::OutboxMessage, tables::request},
    write::{
        append::{Evidence, append},
        command::{Author, ErasedCommand},
        queued::{CommandKind, Outcome, QueuedCommand},
        working_set::{LoadedRecord, WorkingSet},
        write_set::{WriteSet, seals_in},
    },
};
use chrono::{DateTime, Utc};
use hansa_kernel::{
    AssuranceLevel, Moment, ReasonClass, RecordId, RecordName, Refusal, Refused, Stamp, limits::RECORD_CHANGES,
};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// How the working set was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Without locks: the states may be out of date. The unique keys of changes and requests detect that at commit, but only for
    /// commands that change something.
    Optimistic,
    /// Under lock, with the stored requests: the states are current until the commit.
    Locked,
}

/// Why the optimistic path does not decide a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeedsLock {
    /// The command is only validated; nothing would detect an outdated state.
    ValidateOnly,
    /// The command changes nothing over this state; nothing would detect an outdated state.
    Unchanged,
    /// The timer is not due over this state.
    TimerNotDue,
}

/// Why a command has no outcome.
#[derive(Debug)]
pub(crate) enum Undecided {
    Refused(Refusal),
    NeedsLock(NeedsLock),
}

impl From<Refusal> for Undecided {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Undecided> for Refusal {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::Refused(refusal) => refusal,
            Undecided::NeedsLock(why) => Self::because(
                ReasonClass::Internal,
                "PL-4",
                "INTERNAL",
                format!("internal error: undecided under lock ({why:?})"),
            )
            .help("Nothing was changed. Report the time of the call to the node's operator."),
        }
    }
}

/// Decides commands over one working set.
pub(crate) struct Batch<'a> {
    core: &'a Core,
    moment: Moment,
    working_set: WorkingSet,
    /// Answered requests by tenant and id; only loaded under lock.
    requests: HashMap<(Uuid, Uuid), request::Model>,
    rows: WriteSet,
    isolation: Isolation,
}

/// What a batch leads to once its rows are committed.
pub(crate) struct Committed {
    changes: i64,
    messages: Vec<OutboxMessage>,
    records: Vec<LoadedRecord>,
}

impl Committed {
    /// Hands the changes to the relay, caches the states, and wakes the readers of the feed.
    pub(crate) fn publish(self, core: &Core) {
        if let (Some(outbox), false) = (core.outbox.get(), self.messages.is_empty()) {
            // If the relay is behind, its sweep finds the changes in the table.
            let _ = outbox.try_send(self.messages);
        }
        self.records.into_iter().for_each(|record| record.into_cache(core));
        core.committed.send_modify(|count| *count += self.changes);
    }
}

impl<'a> Batch<'a> {
    /// Starts a batch over records that were loaded without locks.
    pub(crate) fn optimistic(core: &'a Core, working_set: WorkingSet) -> Self {
        Self::new(core, working_set, HashMap::new(), Isolation::Optimistic)
    }

    /// Starts a batch over records that were loaded under lock, with the requests that were answered before.
    pub(crate) fn locked(
        core: &'a Core,
        working_set: WorkingSet,
        requests: HashMap<(Uuid, Uuid), request::Model>,
    ) -> Self {
        Self::new(core, working_set, requests, Isolation::Locked)
    }

    fn new(
        core: &'a Core,
        working_set: WorkingSet,
        requests: HashMap<(Uuid, Uuid), request::Model>,
        isolation: Isolation,
    ) -> Self {
        Self { core, moment: core.clock.moment(), working_set, requests, rows: WriteSet::default(), isolation }
    }

    /// Decides all commands, each for itself: one that is refused, or whose rule panics, leaves nothing in the batch.
    pub(crate) fn decide(&mut self, commands: &[QueuedCommand]) -> Vec<Result<Vec<Outcome>, Undecided>> {
        debug_assert!(commands.len() <= BATCH_COMMANDS);
        commands.iter().map(|command| self.decide_one(command)).collect()
    }

    fn decide_one(&mut self, command: &QueuedCommand) -> Result<Vec<Outcome>, Undecided> {
        panics::catch(|| match &command.kind {
            CommandKind::Commands { commands, validate_only } => self.decide_commands(commands, *validate_only),
            CommandKind::Timer { name, due, trace } => self.fire_timer(name, *due, trace.as_deref()),
        })
        .unwrap_or_else(|_| {
            let refusal =
                Refusal::because(ReasonClass::Internal, "PL-4", "INTERNAL", "internal error: a rule panicked");
            Err(refusal.help("Nothing was changed. Report the time of the call to the node's operator.").into())
        })
    }

    pub(crate) fn rows(&self) -> &WriteSet {
        &self.rows
    }

    /// Returns the time at which the batch decides.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.moment.now
    }

    /// Returns what is to be written, and what follows once it is committed.
    pub(crate) fn finish(self) -> (Committed, SqlBatch) {
        let records: Vec<LoadedRecord> = self.working_set.into_values().filter(|record| record.changed).collect();
        let (changes, messages) = (self.rows.changes.len() as i64, self.rows.outbox_messages(self.core));
        let batch = self.rows.into_batch(self.core, &records);
        (Committed { changes, messages, records }, batch)
    }

    /// Decides commands that take effect together. They see each other's changes in `overlay`; only if all are accepted do
    /// they enter the working set.
    fn decide_commands(
        &mut self,
        commands: &[Box<dyn ErasedCommand>],
        validate_only: bool,
    ) -> Result<Vec<Outcome>, Undecided> {
        let optimistic = self.isolation == Isolation::Optimistic;
        if validate_only && optimistic {
            return Err(Undecided::NeedsLock(NeedsLock::ValidateOnly));
        }
        if let Some(outcome) = self.replayed(commands)? {
            return Ok(vec![outcome]);
        }
        let (mut overlay, mut rows) = (WorkingSet::new(), WriteSet::default());
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let id = command.name().id.0;
            let Some(loaded) = overlay.remove(&id).or_else(|| self.working_set.get(&id).cloned()) else {
                return Err(Refusal::not_found(command.name()).into());
            };
            let version_before = loaded.version;
            let loaded = self.apply(loaded, command.as_ref(), &mut rows)?;
            outcomes.push(Outcome {
                changes: loaded.version - version_before,
                name: loaded.name.clone(),
                version: loaded.version,
                head: loaded.head.clone(),
                state: loaded.state.clone(),
                replayed: false,
            });
            overlay.insert(id, loaded);
        }
        if optimistic && overlay.iter().any(|(id, loaded)| self.working_set[id].version == loaded.version) {
            return Err(Undecided::NeedsLock(NeedsLock::Unchanged));
        }
        self.store_other_seals(commands, &overlay, &mut rows);
        if !validate_only {
            self.working_set.extend(overlay);
            self.rows.merge(rows);
            self.store_request(commands, &outcomes);
        }
        Ok(outcomes)
    }

    /// Returns the first answer if the request was answered before.
    fn replayed(&self, commands: &[Box<dyn ErasedCommand>]) -> Refused<Option<Outcome>> {
        let Some((command, key)) = commands.first().and_then(|c| c.idempotency_key().map(|key| (c, key))) else {
            return Ok(None);
        };
        let Some(row) = self.requests.get(&(key.tenant.0, key.id)) else { return Ok(None) };
        key.check_matches(row)?;
        let current = self.working_set.get(&row.record).filter(|loaded| loaded.version.cast_signed() == row.version);
        let name = match current {
            Some(loaded) => loaded.name.clone(),
            // The first request may have created a record under another new id.
            None => RecordName::new(command.name().collection(), RecordId(row.record)),
        };
        Ok(Some(Outcome {
            name,
            version: row.version.cast_unsigned(),
            changes: 0,
            head: current.map(|loaded| loaded.head.clone()).unwrap_or_default(),
            state: current.and_then(|loaded| loaded.state.clone()),
            replayed: true,
        }))
    }

    /// Stores the request id of accepted commands, also if they changed nothing: a retry must not be decided over another state.
    fn store_request(&mut self, commands: &[Box<dyn ErasedCommand>], outcomes: &[Outcome]) {
        if let (Some(key), Some(first)) = (commands.first().and_then(|c| c.idempotency_key()), outcomes.first()) {
            let row = request::Model {
                tenant: key.tenant.0,
                request: key.id,
                fingerprint: key.fingerprint.to_vec(),
                record: first.name.id.0,
                version: first.version.cast_signed(),
                created_at: self.moment.now.timestamp_micros(),
            };
            self.requests.insert((row.tenant, row.request), row.clone());
            self.rows.requests.push(row);
        }
    }

    /// Checks and decides one command, and appends its changes to the record.
    fn apply(
        &self,
        mut loaded: LoadedRecord,
        command: &dyn ErasedCommand,
        rows: &mut WriteSet,
    ) -> Refused<LoadedRecord> {
        command.authorize(loaded.state.as_ref())?;
        check_accepts_commands(&loaded, command.etag())?;
        let author = command.author();
        let stamp = self.stamp(&loaded, author);
        let changes = command.decide(loaded.state.as_ref(), &stamp, self.moment)?;
        if loaded.version + changes.len() as u64 > RECORD_CHANGES {
            return Err(Refusal::because(
                ReasonClass::Limit,
                "PL-3",
                "TOO_MANY_CHANGES",
                format!("{} has too many changes", loaded.name),
            )
            .help("Create a new record that takes its place."));
        }
        if let Some(last) = changes.last() {
            let tenant = author.tenant.unwrap_or_else(|| loaded.record.owner(&last.after));
            let used =
                if command.seals().is_empty() { HashSet::new() } else { seals_in(loaded.record.as_ref(), &changes) };
            let own = command.seals().iter().filter(|sealed| used.contains(&sealed.seal[..]));
            rows.add_seals(loaded.name.id, tenant, own);
            rows.erasures.extend(command.erasing().cloned());
            rows.side_rows.extend(command.side_rows().iter().cloned());
        }
        let evidence = Evidence {
            now: self.moment.now,
            actor: &stamp.actor,
            command_hash: command.command_hash(),
            signers: command.signers(),
            trace: author.trace.as_deref(),
        };
        self.append_all(&mut loaded, changes, &evidence, rows)?;
        Ok(loaded)
    }

    fn append_all(
        &self,
        loaded: &mut LoadedRecord,
        changes: Vec<FoldedChange>,
        evidence: &Evidence<'_>,
        rows: &mut WriteSet,
    ) -> Refused<()> {
        changes.into_iter().try_for_each(|change| append(self.core, loaded, change, evidence, rows))
    }

    /// Stores sealed values whose seal is in none of the changes with the first record that the commands changed.
    fn store_other_seals(&self, commands: &[Box<dyn ErasedCommand>], after: &WorkingSet, rows: &mut WriteSet) {
        for command in commands {
            let id = command.name().id;
            let is_changed =
                |loaded: &&LoadedRecord| self.working_set.get(&id.0).is_none_or(|old| old.version != loaded.version);
            if let Some(loaded) = after.get(&id.0).filter(is_changed)
                && let Some(tenant) =
                    command.author().tenant.or(loaded.state.as_ref().map(|state| loaded.record.owner(state)))
            {
                rows.add_seals(id, tenant, command.seals());
            }
        }
    }

    /// Builds the stamp of the next change of a record.
    fn stamp(&self, loaded: &LoadedRecord, author: &Author) -> Stamp {
        Stamp {
            version: loaded.version + 1,
            at: self.moment.now,
            actor: author.actor.clone(),
            party: author.tenant,
            level: AssuranceLevel::Host,
        }
    }

    /// Fires a timer. The state says when it is due, and the changes move that instant. So a timer fires once on any number of
    /// replicas, and no idempotency key is needed.
    fn fire_timer(
        &mut self,
        name: &RecordName,
        due: DateTime<Utc>,
        trace: Option<&str>,
    ) -> Result<Vec<Outcome>, Undecided> {
        let Some(mut loaded) = self.working_set.get(&name.id.0).cloned() else {
            return Err(Refusal::not_found(name).into());
        };
        let Some(state) = loaded.state.clone().filter(|state| loaded.record.due(state) == Some(due)) else {
            return match self.isolation {
                Isolation::Optimistic => Err(Undecided::NeedsLock(NeedsLock::TimerNotDue)),
                Isolation::Locked => Ok(Vec::new()),
            };
        };
        let broken = |error: String| {
            tracing::error!(record = %name, error, "a timer cannot fire");
            Refusal::because(ReasonClass::Internal, "PL-3", "INTERNAL", "internal error: a timer cannot fire")
        };
        let author = Author::default();
        let stamp = self.stamp(&loaded, &author);
        let changes = loaded.record.fire(&state, due, &stamp).map_err(|error| broken(error.to_string()))?;
        if changes.last().is_none_or(|change| loaded.record.due(&change.after) == Some(due)) {
            return Err(broken("its changes do not move the instant at which it is due".into()).into());
        }
        let evidence = Evidence { now: self.moment.now, actor: &stamp.actor, command_hash: &[], signers: &[], trace };
        let mut rows = WriteSet::default();
        self.append_all(&mut loaded, changes, &evidence, &mut rows)?;
        self.working_set.insert(name.id.0, loaded);
        self.rows.merge(rows);
        Ok(Vec::new())
    }
}

/// Refuses a command on a record that is deleted or frozen, or whose etag has changed.
fn check_accepts_commands(loaded: &LoadedRecord, etag: &str) -> Refused<()> {
    if let Some(at) = loaded.state.as_ref().and_then(|state| loaded.record.deleted_at(state)) {
        return Err(Refusal::deleted(&loaded.name, at));
    }
    if let Some(reason) = &loaded.frozen {
        return Err(Refusal::because(
            ReasonClass::Frozen,
            "PL-3",
            "RECORD_FROZEN",
            format!("{} is frozen: {reason}", loaded.name),
        ));
    }
    if !etag.is_empty() && etag != hex::encode(&loaded.head) {
        return Err(Refusal::because(
            ReasonClass::Stale,
            "PL-4",
            "STALE",
            format!("{} has changed since", loaded.name),
        )
        .missing("etag", "the present etag of the record")
        .help("Read the record again, look at what changed, and send the command with its new etag."));
    }
    Ok(())
}
