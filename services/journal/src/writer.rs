//! The one writer of a journal. It takes whatever waits, the tenants by turns, decides each command, and commits all of it at
//! once.
//!
//! On PostgreSQL it first decides by what it knows and writes all of that by one statement, without a transaction around it.
//! The unique keys of changes and requests stop the statement where another replica was faster or a request came again.
//! What changed nothing may have been decided by a state that is old by now: that is decided once more, under lock.

use crate::{
    bulk::Writes,
    command::{AnyCommand, Signer, within_audience_limit, within_change_limit},
    erasure,
    job::{Done, Job, Work},
    journal::Inner,
    kind::Step,
    limits::{BATCH_COMMANDS, BATCH_PART, QUEUED_COMMANDS},
    lines::Lines,
    metrics,
    output::{Output, seals_in},
    panics,
    relay::Outgoing,
    slots::{Slot, by_one_name, load_known, load_locked, load_requests},
    store::{Backend, StoreError, lacks_a_revision, storage},
    tables::{change, feed, request},
};
use chrono::{DateTime, Utc};
use hansa_kernel::{
    Audience, Moment, Reason, RecordName, Refusal, Stamp, envelope,
    limits::RECORD_CHANGES,
    time::{instant, timestamp},
};
use hansa_proto::types::{ChangeEnvelope, HashAlgorithm, SignedChange};
use prost::Message;
use sea_orm::{Set, SqlErr};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// The feed of everyone.
pub(crate) const PUBLIC: Uuid = Uuid::nil();

/// What a change carries along of the command that led to it.
#[derive(Clone, Copy, Default)]
struct Evidence<'a> {
    command_hash: &'a [u8],
    signers: &'a [Signer],
    trace: Option<&'a str>,
}

struct Batch<'a> {
    inner: &'a Inner,
    moment: Moment,
    slots: HashMap<Uuid, Slot>,
    requests: HashMap<(Uuid, Uuid), request::Model>,
    output: Output,
    /// Nothing is locked: what changes nothing is refused, and decided again under lock.
    unlocked: bool,
}

/// Runs until every handle of the journal is gone.
pub(crate) async fn run(inner: Arc<Inner>, mut queue: mpsc::UnboundedReceiver<Job>) {
    let (mut lines, mut come) = (Lines::default(), Vec::new());
    loop {
        if lines.len() == 0 && queue.recv_many(&mut come, QUEUED_COMMANDS).await == 0 {
            return;
        }
        while let Ok(job) = queue.try_recv() {
            come.push(job);
        }
        come.drain(..).for_each(|job| lines.join(job.whose(), job));
        let mut jobs = lines.next(BATCH_COMMANDS, BATCH_PART);
        metrics::batch(inner.service, jobs.len(), lines.len());
        while !jobs.is_empty() {
            jobs = panics::survived(&inner, attempt(&inner, jobs)).await;
        }
    }
}

/// Returns the jobs that must be tried again, because another replica wrote the same records.
async fn attempt(inner: &Inner, jobs: Vec<Job>) -> Vec<Job> {
    let (jobs, others) = by_one_name(jobs);
    let mut again = attempt_together(inner, jobs).await;
    again.extend(others);
    again
}

async fn attempt_together(inner: &Inner, jobs: Vec<Job>) -> Vec<Job> {
    let first = jobs.iter().all(|job| job.tries == 0);
    let jobs = if first && inner.store.backend() == Backend::Postgres { at_once(inner, jobs).await } else { jobs };
    if jobs.is_empty() {
        return jobs;
    }
    match decide_and_commit(inner, &jobs).await {
        Ok(answers) => {
            for (job, answer) in jobs.into_iter().zip(answers) {
                job.answered(inner, answer);
            }
            Vec::new()
        }
        Err(error) if lost_a_race(&error) => {
            forget(inner, &jobs);
            jobs.into_iter().filter_map(|job| job.again(inner)).collect()
        }
        Err(error) => {
            failed(inner, jobs, &error);
            Vec::new()
        }
    }
}

/// Where the commit itself failed, it is not known what stands.
fn failed(inner: &Inner, jobs: Vec<Job>, error: &StoreError) {
    let refusal = storage(error);
    forget(inner, &jobs);
    for job in jobs {
        job.answered(inner, Err(refusal.clone()));
    }
}

fn forget(inner: &Inner, jobs: &[Job]) {
    crate::slots::names(jobs).keys().for_each(|id| inner.cache.invalidate(id));
}

/// Nobody hears this: it is decided again under lock.
fn undecided() -> Refusal {
    Refusal::because(Reason::Stale, "PL-4", "this may have been decided by what is old")
}

fn lost_a_race(error: &StoreError) -> bool {
    let text = error.to_string();
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
        || lacks_a_revision(error)
        || text.contains("deadlock detected")
        || text.contains("could not serialize")
}

/// Decides by what is known and writes what came of it by one statement. Returns the jobs that must be decided under lock.
async fn at_once(inner: &Inner, mut jobs: Vec<Job>) -> Vec<Job> {
    let slots = match load_known(inner, &mut jobs).await {
        Ok(slots) => slots,
        Err(error) => {
            failed(inner, jobs, &error);
            return Vec::new();
        }
    };
    let mut batch = Batch::over(inner, slots, HashMap::new(), true);
    let answers: Vec<_> = jobs.iter().map(|job| panics::decided(|| batch.run(&job.work))).collect();
    if answers.iter().all(Result::is_err) || !batch.output.erasures.is_empty() {
        return jobs;
    }
    let (committed, writes) = batch.finish();
    if !writes.at_once() {
        return jobs;
    }
    match writes.run(inner.store.writer()).await {
        Ok(()) => {
            committed.tell(inner);
            let (mut done, mut left) = (Vec::with_capacity(jobs.len()), Vec::new());
            for (job, answer) in jobs.into_iter().zip(answers) {
                match answer {
                    Ok(answer) => done.push((job, answer)),
                    Err(_) => left.push(job),
                }
            }
            done.into_iter().for_each(|(job, answer)| job.answered(inner, Ok(answer)));
            left
        }
        Err(error) if lost_a_race(&error) => {
            forget(inner, &jobs);
            jobs
        }
        Err(error) => {
            failed(inner, jobs, &error);
            Vec::new()
        }
    }
}

async fn decide_and_commit(inner: &Inner, jobs: &[Job]) -> Result<Vec<Result<Vec<Done>, Refusal>>, StoreError> {
    let tx = inner.store.begin().await?;
    let slots = load_locked(inner, &tx, jobs).await?;
    let mut batch = Batch::over(inner, slots, load_requests(&tx, jobs).await?, false);
    let answers: Vec<_> = jobs.iter().map(|job| panics::decided(|| batch.run(&job.work))).collect();
    if batch.output.changes.is_empty() && batch.output.requests.is_empty() {
        tx.rollback().await?;
        return Ok(answers);
    }
    let now = batch.moment.now;
    let erasures = std::mem::take(&mut batch.output.erasures);
    let (committed, writes) = batch.finish();
    writes.run(&tx).await?;
    erasure::erase(&tx, &erasures, now).await?;
    tx.commit().await?;
    committed.tell(inner);
    if !erasures.is_empty() {
        // Before anyone is answered: what is said to be erased is gone from the files as well.
        inner.store.scrub().await;
    }
    Ok(answers)
}

/// What follows from a commit.
struct Committed {
    changes: i64,
    outgoing: Vec<Outgoing>,
    slots: Vec<Slot>,
}

impl Committed {
    fn tell(self, inner: &Inner) {
        if let (Some(outbox), false) = (inner.outbox.get(), self.outgoing.is_empty()) {
            // A relay that is behind is no reason to wait: its sweep finds what was not handed over.
            let _ = outbox.try_send(self.outgoing);
        }
        self.slots.into_iter().for_each(|slot| inner.remember(slot));
        inner.committed.send_modify(|count| *count += self.changes);
    }
}

impl<'a> Batch<'a> {
    fn over(
        inner: &'a Inner,
        slots: HashMap<Uuid, Slot>,
        requests: HashMap<(Uuid, Uuid), request::Model>,
        unlocked: bool,
    ) -> Self {
        Self { inner, moment: inner.clock.moment(), slots, requests, output: Output::default(), unlocked }
    }

    fn finish(self) -> (Committed, Writes) {
        let slots: Vec<Slot> = self.slots.into_values().filter(|slot| slot.touched).collect();
        let (changes, outgoing) = (self.output.changes.len() as i64, self.output.outgoing(self.inner));
        let writes = self.output.writes(self.inner, &slots);
        (Committed { changes, outgoing, slots }, writes)
    }
}

impl Batch<'_> {
    fn run(&mut self, work: &Work) -> Result<Vec<Done>, Refusal> {
        match work {
            Work::Commands { commands, validate_only } => self.commands(commands, *validate_only),
            Work::Timer { name, due, trace } => self.timer(name, *due, trace.as_deref()),
        }
    }

    fn commands(&mut self, commands: &[Box<dyn AnyCommand>], validate_only: bool) -> Result<Vec<Done>, Refusal> {
        if validate_only && self.unlocked {
            return Err(undecided());
        }
        if let Some(done) = self.repeated(commands)? {
            return Ok(vec![done]);
        }
        let mut overlay: HashMap<Uuid, Slot> = HashMap::new();
        let mut output = Output::default();
        let mut done = Vec::with_capacity(commands.len());
        for command in commands {
            let id = command.name().id.0;
            let slot = match overlay.remove(&id).or_else(|| self.slots.get(&id).cloned()) {
                Some(slot) => slot,
                None => return Err(Refusal::not_found(command.name())),
            };
            let slot = self.command(slot, command.as_ref(), &mut output)?;
            done.push(Done {
                name: slot.name.clone(),
                version: slot.version,
                head: slot.head.clone(),
                state: slot.state.clone(),
                repeated: false,
            });
            overlay.insert(id, slot);
        }
        if self.unlocked && overlay.iter().any(|(id, slot)| self.slots[id].version == slot.version) {
            return Err(undecided());
        }
        self.seal_the_rest(commands, &overlay, &mut output);
        if !validate_only {
            self.slots.extend(overlay);
            self.output.keep(output);
            self.remember_request(commands, &done);
        }
        Ok(done)
    }

    /// The first answer to a request that was made before.
    fn repeated(&self, commands: &[Box<dyn AnyCommand>]) -> Result<Option<Done>, Refusal> {
        let Some((command, key)) = commands.first().and_then(|c| c.request().map(|key| (c, key))) else {
            return Ok(None);
        };
        let Some(row) = self.requests.get(&(key.tenant.0, key.id)) else { return Ok(None) };
        key.is_of(row)?;
        let current = self.slots.get(&row.record).filter(|slot| slot.version.cast_signed() == row.version);
        let name = match current {
            Some(slot) => slot.name.clone(),
            // The first answer may have been about a record that did not exist before and was given another id.
            None => RecordName::new(command.name().collection(), hansa_kernel::RecordId(row.record)),
        };
        Ok(Some(Done {
            name,
            version: row.version.cast_unsigned(),
            head: current.map(|slot| slot.head.clone()).unwrap_or_default(),
            state: current.and_then(|slot| slot.state.clone()),
            repeated: true,
        }))
    }

    /// An accepted request is remembered even where it changed nothing: a repetition must not find another state.
    fn remember_request(&mut self, commands: &[Box<dyn AnyCommand>], done: &[Done]) {
        if let (Some(key), Some(first)) = (commands.first().and_then(|c| c.request()), done.first()) {
            let row = request::Model {
                tenant: key.tenant.0,
                request: key.id,
                fingerprint: key.fingerprint.to_vec(),
                record: first.name.id.0,
                version: first.version.cast_signed(),
                created_at: self.moment.now.timestamp_micros(),
            };
            self.requests.insert((row.tenant, row.request), row.clone());
            self.output.requests.push(row);
        }
    }

    fn command(&self, mut slot: Slot, command: &dyn AnyCommand, output: &mut Output) -> Result<Slot, Refusal> {
        command.authorise(slot.state.as_ref())?;
        if let Some(at) = slot.state.as_ref().and_then(|state| slot.kind.deleted_at(state)) {
            return Err(Refusal::deleted(&slot.name, at));
        }
        if let Some(reason) = &slot.frozen {
            return Err(Refusal::because(Reason::Frozen, "PL-3", format!("{} is frozen: {reason}", slot.name)));
        }
        if !command.etag().is_empty() && command.etag() != hex::encode(&slot.head) {
            return Err(Refusal::because(Reason::Stale, "PL-4", format!("{} has changed since", slot.name))
                .missing("etag", "the head of the record as it is now")
                .help("Read the record again, look at what changed, and send the command with its new etag."));
        }
        let stamp = self.stamp(&slot, command);
        let steps = command.decide(slot.state.as_ref(), &stamp, self.moment)?;
        if slot.version + steps.len() as u64 > RECORD_CHANGES {
            return Err(Refusal::because(Reason::Limit, "PL-3", format!("{} has too many changes", slot.name))
                .help("Begin a new record that takes its place."));
        }
        let author = command.author();
        if let Some(last) = steps.last() {
            let tenant = author.tenant.unwrap_or_else(|| slot.kind.owner(&last.after));
            let standing =
                if command.seals().is_empty() { HashSet::new() } else { seals_in(slot.kind.as_ref(), &steps) };
            let own = command.seals().iter().filter(|sealed| standing.contains(&sealed.seal[..]));
            output.keep_seals(slot.name.id, tenant, own);
            output.erasures.extend(command.erasing().cloned());
            output.beside.extend(command.beside().iter().cloned());
        }
        let (command_hash, signers, trace) = (command.command_hash(), command.signers(), author.trace.as_deref());
        for step in steps {
            self.append(&mut slot, step, &stamp, Evidence { command_hash, signers, trace }, output)?;
        }
        Ok(slot)
    }

    /// A value whose seal stands in none of the changes lies with the first record that the commands changed.
    fn seal_the_rest(&self, commands: &[Box<dyn AnyCommand>], after: &HashMap<Uuid, Slot>, output: &mut Output) {
        for command in commands {
            let id = command.name().id;
            let changed = |slot: &&Slot| self.slots.get(&id.0).is_none_or(|before| before.version != slot.version);
            if let Some(slot) = after.get(&id.0).filter(changed)
                && let Some(tenant) =
                    command.author().tenant.or(slot.state.as_ref().map(|state| slot.kind.owner(state)))
            {
                output.keep_seals(id, tenant, command.seals());
            }
        }
    }

    fn stamp(&self, slot: &Slot, command: &dyn AnyCommand) -> Stamp {
        let author = command.author();
        Stamp {
            version: slot.version + 1,
            at: self.moment.now,
            actor: author.actor.clone(),
            party: author.tenant,
            level: hansa_kernel::AssuranceLevel::Host,
        }
    }

    /// What time does. The state itself says what is due, and moves on with the change: so each firing has effect once,
    /// on any number of replicas.
    fn timer(&mut self, name: &RecordName, due: DateTime<Utc>, trace: Option<&str>) -> Result<Vec<Done>, Refusal> {
        let Some(mut slot) = self.slots.get(&name.id.0).cloned() else { return Err(Refusal::not_found(name)) };
        let Some(state) = slot.state.clone().filter(|s| slot.kind.due(s) == Some(due)) else {
            return if self.unlocked { Err(undecided()) } else { Ok(Vec::new()) };
        };
        let stamp = Stamp {
            version: slot.version + 1,
            at: self.moment.now,
            actor: hansa_proto::types::Actor::default(),
            party: None,
            level: hansa_kernel::AssuranceLevel::Host,
        };
        let broken = |why: String| {
            tracing::error!(record = %name, %why, "a timer cannot fire");
            Refusal::because(Reason::Internal, "PL-3", "a timer cannot fire")
        };
        let steps = slot.kind.fire(&state, due, &stamp).map_err(|misfit| broken(misfit.to_string()))?;
        let moved = steps.last().is_some_and(|step| slot.kind.due(&step.after) != Some(due));
        if !moved {
            return Err(broken("it does not move on".into()));
        }
        let mut output = Output::default();
        for step in steps {
            self.append(&mut slot, step, &stamp, Evidence { trace, ..Evidence::default() }, &mut output)?;
        }
        self.slots.insert(name.id.0, slot);
        self.output.keep(output);
        Ok(Vec::new())
    }

    /// Adds one change to a record: envelope, chain, signature, feeds.
    fn append(
        &self,
        slot: &mut Slot,
        step: Step,
        stamp: &Stamp,
        Evidence { command_hash, signers, trace }: Evidence<'_>,
        output: &mut Output,
    ) -> Result<(), Refusal> {
        let audience = slot.kind.audience(&step.after);
        within_audience_limit(&audience)?;
        let version = slot.version + 1;
        let envelope = ChangeEnvelope {
            format: envelope::FORMAT,
            hash_algorithm: HashAlgorithm::Sha256 as i32,
            r#type: step.type_name,
            schema_revision: 1,
            critical: true,
            record: slot.name.as_str().to_owned(),
            version,
            epoch: 1,
            previous_hash: slot.head.clone(),
            authority: self.inner.node.name().to_owned(),
            audience: Some(audience.to_proto()),
            actor: Some(stamp.actor.clone()),
            on_behalf_of: step.party.map(hansa_kernel::TenantId::name).unwrap_or_default(),
            level: step.level as i32,
            command_hash: command_hash.to_vec(),
            claimed_time: Some(timestamp(self.moment.now)),
            payload: step.payload,
        };
        debug_assert!(instant("claimed_time", envelope.claimed_time.as_ref()).is_ok());
        let SignedChange { envelope: bytes, mut signatures } =
            envelope::seal(&envelope, self.inner.node.name(), self.inner.node.signing());
        let by = |s: &Signer| envelope::sign(envelope::PAYLOAD_TYPE, &bytes, &s.tenant.name(), &s.key);
        signatures.extend(signers.iter().map(by));
        within_change_limit(&bytes)?;
        let before = slot.state.as_ref().map(|state| slot.kind.audience(state));
        self.feed(slot.name.id.0, version, before.as_ref(), &audience, output);
        slot.head = envelope::hash(&bytes).to_vec();
        slot.version = version;
        slot.state = Some(step.after);
        slot.touched = true;
        output.changes.push(change::ActiveModel {
            seq: sea_orm::NotSet,
            record: Set(slot.name.id.0),
            version: Set(version.cast_signed()),
            kind: Set(envelope.r#type),
            envelope: Set(bytes),
            signatures: Set(SignedChange { envelope: Vec::new(), signatures }.encode_to_vec()),
            received_at: Set(self.moment.now.timestamp_micros()),
            trace: Set(trace.map(str::to_owned)),
            published: Set(None),
        });
        Ok(())
    }

    /// Who may follow the change. A newcomer gets the record's past as well.
    fn feed(&self, record: Uuid, version: u64, before: Option<&Audience>, after: &Audience, output: &mut Output) {
        let recipients = |audience: &Audience| {
            if audience.public { vec![PUBLIC] } else { audience.tenants.iter().map(|t| t.0).collect() }
        };
        let old = before.map(recipients).unwrap_or_default();
        for tenant in recipients(after) {
            let from = if old.contains(&tenant) { version } else { 1 };
            for version in from..=version {
                output.feed.push(feed::ActiveModel {
                    seq: sea_orm::NotSet,
                    position: sea_orm::NotSet,
                    tenant: Set(tenant),
                    record: Set(record),
                    version: Set(version.cast_signed()),
                });
            }
        }
    }
}
