//! The one writer of a journal. It takes whatever waits, decides each command in turn, and commits all of it at once.

use crate::{
    beside::Beside,
    command::{AnyCommand, Signer, within_audience_limit, within_change_limit},
    erasure::{self, Erasing},
    job::{Done, Job, Work},
    journal::Inner,
    kind::{AnyKind, Collectors, Step},
    limits::{BATCH_COMMANDS, COMMAND_TRIES},
    metrics, panics,
    relay::Outgoing,
    slots::{Slot, load_requests, load_slots},
    store::{Backend, StoreError, insert, storage, upsert},
    tables::{change, feed, record, request, seal},
};
use chrono::{DateTime, Utc};
use hansa_kernel::{
    Audience, Moment, Reason, RecordId, RecordName, Refusal, Stamp, TenantId, envelope,
    limits::RECORD_CHANGES,
    seal::{SEAL_BYTES, Sealed},
    time::{instant, timestamp},
};
use hansa_proto::types::{ChangeEnvelope, HashAlgorithm, SignedChange};
use prost::Message;
use sea_orm::{DatabaseTransaction, Set, SqlErr};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// The feed of everyone.
pub(crate) const PUBLIC: Uuid = Uuid::nil();

/// The rows that a batch writes, beside records and views.
#[derive(Default)]
struct Output {
    changes: Vec<change::ActiveModel>,
    feed: Vec<feed::ActiveModel>,
    requests: Vec<request::Model>,
    seals: Vec<seal::ActiveModel>,
    /// Those of `seals`, by what stands in the change.
    sealed: HashSet<[u8; SEAL_BYTES]>,
    erasures: Vec<Erasing>,
    beside: Vec<Arc<dyn Beside>>,
}

/// What a change carries along of the command that led to it.
#[derive(Clone, Copy, Default)]
struct Evidence<'a> {
    command_hash: &'a [u8],
    signers: &'a [Signer],
    trace: Option<&'a str>,
}

impl Output {
    /// Keeps values for a record, each once: commands that take effect together may bear the same ones.
    fn keep_seals<'a>(&mut self, record: RecordId, tenant: TenantId, seals: impl IntoIterator<Item = &'a Sealed>) {
        for sealed in seals {
            if self.sealed.insert(sealed.seal) {
                self.seals.push(seal::ActiveModel {
                    seal: Set(sealed.seal.to_vec()),
                    record: Set(record.0),
                    tenant: Set(tenant.0),
                    salt: Set(sealed.salt.to_vec()),
                    value: Set(sealed.value.clone()),
                    erased_at: Set(None),
                });
            }
        }
    }
}

/// The seals that stand in changes.
fn seals_in(kind: &dyn AnyKind, steps: &[Step]) -> HashSet<Vec<u8>> {
    let mut seals = HashSet::new();
    for step in steps {
        kind.visit_texts(&step.type_name, &step.payload, &mut |text| seals.extend([text.seal.clone()]));
    }
    seals
}

struct Batch<'a> {
    inner: &'a Inner,
    moment: Moment,
    slots: HashMap<Uuid, Slot>,
    requests: HashMap<(Uuid, Uuid), request::Model>,
    output: Output,
}

/// Runs until every handle of the journal is gone.
pub(crate) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(BATCH_COMMANDS);
    while queue.recv_many(&mut jobs, BATCH_COMMANDS).await > 0 {
        metrics::batch(inner.service, jobs.len(), queue.len());
        let mut waiting = std::mem::take(&mut jobs);
        while !waiting.is_empty() {
            waiting = panics::survived(&inner, attempt(&inner, waiting)).await;
        }
    }
}

/// One transaction. Returns the jobs that must be tried again, because another replica wrote the same records.
async fn attempt(inner: &Inner, jobs: Vec<Job>) -> Vec<Job> {
    match decide_and_commit(inner, &jobs).await {
        Ok(answers) => {
            for (job, answer) in jobs.into_iter().zip(answers) {
                job.answered(inner, answer);
            }
            Vec::new()
        }
        Err(error) if lost_a_race(&error) => jobs.into_iter().filter_map(|job| again(inner, job)).collect(),
        Err(error) => {
            let refusal = storage(&error);
            // Where the commit itself failed, it is not known what stands.
            crate::slots::names(&jobs).keys().for_each(|id| inner.cache.invalidate(id));
            for job in jobs {
                job.answered(inner, Err(refusal.clone()));
            }
            Vec::new()
        }
    }
}

fn lost_a_race(error: &StoreError) -> bool {
    let text = error.to_string();
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
        || text.contains("deadlock detected")
        || text.contains("could not serialize")
}

fn again(inner: &Inner, mut job: Job) -> Option<Job> {
    job.tries += 1;
    if job.tries < COMMAND_TRIES {
        return Some(job);
    }
    let refusal = Refusal::because(Reason::Stale, "PL-4", "others kept changing the same record");
    job.answered(inner, Err(refusal.help("Nothing was changed. Read the record and try again.")));
    None
}

async fn decide_and_commit(inner: &Inner, jobs: &[Job]) -> Result<Vec<Result<Vec<Done>, Refusal>>, StoreError> {
    let tx = inner.store.begin().await?;
    let mut batch = Batch {
        inner,
        moment: inner.clock.moment(),
        slots: load_slots(inner, &tx, jobs).await?,
        requests: load_requests(&tx, jobs).await?,
        output: Output::default(),
    };
    let answers: Vec<_> = jobs.iter().map(|job| panics::decided(|| batch.run(&job.work))).collect();
    if batch.output.changes.is_empty() && batch.output.requests.is_empty() {
        tx.rollback().await?;
        return Ok(answers);
    }
    let written = batch.output.changes.len() as i64;
    let outgoing = batch.outgoing();
    let erased = !batch.output.erasures.is_empty();
    let slots = batch.write(&tx).await?;
    tx.commit().await?;
    if erased {
        // Before anyone is answered: what is said to be erased is gone from the files as well.
        inner.store.scrub().await;
    }
    if let (Some(outbox), false) = (inner.outbox.get(), outgoing.is_empty()) {
        // A relay that is behind is no reason to wait: its sweep finds what was not handed over.
        let _ = outbox.try_send(outgoing);
    }
    for slot in slots {
        inner.remember(slot.name.id.0, slot.name, slot.version, slot.head, slot.state);
    }
    inner.committed.send_modify(|count| *count += written);
    Ok(answers)
}

impl Batch<'_> {
    fn run(&mut self, work: &Work) -> Result<Vec<Done>, Refusal> {
        match work {
            Work::Commands { commands, validate_only } => self.commands(commands, *validate_only),
            Work::Timer { name, due, trace } => self.timer(name, *due, trace.as_deref()),
        }
    }

    fn commands(&mut self, commands: &[Box<dyn AnyCommand>], validate_only: bool) -> Result<Vec<Done>, Refusal> {
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
        self.seal_the_rest(commands, &overlay, &mut output);
        if !validate_only {
            self.slots.extend(overlay);
            self.keep(output);
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
        if row.fingerprint != key.fingerprint {
            return Err(Refusal::because(
                Reason::RequestIdReused,
                "PL-4",
                "this request id was used for another request",
            )
            .missing("request_id", "a new UUID for a new request"));
        }
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
            return Err(Refusal::because(Reason::Limit, "PL-3", format!("{} has too many changes", slot.name)));
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
        let Some(state) = slot.state.clone().filter(|s| slot.kind.due(s) == Some(due)) else { return Ok(Vec::new()) };
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
        self.keep(output);
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

    /// What the relay publishes at once, where there is one.
    fn outgoing(&self) -> Vec<Outgoing> {
        if self.inner.outbox.get().is_none() {
            return Vec::new();
        }
        let change = |row: &change::ActiveModel| Outgoing {
            record: row.record.clone().unwrap(),
            version: row.version.clone().unwrap(),
            envelope: row.envelope.clone().unwrap(),
            signatures: row.signatures.clone().unwrap(),
            trace: row.trace.clone().unwrap(),
        };
        self.output.changes.iter().map(change).collect()
    }

    fn keep(&mut self, output: Output) {
        self.output.changes.extend(output.changes);
        self.output.feed.extend(output.feed);
        self.output.requests.extend(output.requests);
        self.output.seals.extend(output.seals);
        self.output.erasures.extend(output.erasures);
        self.output.beside.extend(output.beside);
    }

    /// Writes everything: the changes first, whose unique keys stop a batch that lost a race.
    async fn write(self, tx: &DatabaseTransaction) -> Result<Vec<Slot>, StoreError> {
        let Output { changes, mut feed, requests, seals, erasures, beside, .. } = self.output;
        insert::<change::Entity, _>(tx, changes).await?;
        let requests = requests.into_iter().map(sea_orm::IntoActiveModel::into_active_model).collect::<Vec<_>>();
        insert::<request::Entity, request::ActiveModel>(tx, requests).await?;
        insert::<seal::Entity, _>(tx, seals).await?;
        erasure::erase(tx, &erasures, self.moment.now).await?;
        for row in beside {
            row.write(tx).await?;
        }
        if self.inner.store.backend() == Backend::Sqlite {
            // One writer a file: its order is the order of commit, so positions are given at once.
            for row in &mut feed {
                row.position = Set(Some(self.inner.next_position.fetch_add(1, Ordering::Relaxed)));
            }
        }
        insert::<feed::Entity, _>(tx, feed).await?;

        let touched: Vec<Slot> = self.slots.into_values().filter(|slot| slot.touched).collect();
        let mut records = Vec::with_capacity(touched.len());
        let mut views = Collectors::default();
        for slot in &touched {
            let Some(state) = &slot.state else { continue };
            let (revision, bytes) = slot.kind.encode(state);
            records.push(record::ActiveModel {
                record: Set(slot.name.id.0),
                name: Set(slot.name.as_str().to_owned()),
                version: Set(slot.version.cast_signed()),
                head: Set(slot.head.clone()),
                revision: Set(revision),
                state: Set(bytes),
                due_at: Set(slot.kind.due(state).map(|due| due.timestamp_micros())),
                frozen: Set(slot.frozen.clone()),
            });
            views.add(slot.kind.as_ref(), &slot.name, state, slot.existed);
        }
        upsert::<record::Entity, _>(tx, records).await?;
        views.write(tx).await?;
        Ok(touched)
    }
}
