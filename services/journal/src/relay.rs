//! The relay: publishes what was committed. The process that committed publishes at once; a sweep catches what a crash, or
//! a broker that was away, left behind. What the broker has lost, it gets again.

use crate::{
    bus::{Bus, broker},
    journal::Journal,
    limits::{
        BACKLOG_PERIOD, HISTORY_REPLY_BYTES, MARK_PERIOD, MARKS_WAITING, PUBLISH_WINDOW, PULSE_PERIOD, RELAY_BACKLOG,
        SWEEP_PERIOD,
    },
    marks::{Mark, mark, unpublished},
    metrics,
    store::storage,
    tables::change,
};
use async_nats::{HeaderMap, jetstream::publish::PublishAck};
use bytes::Bytes;
use futures::{StreamExt, future::join, stream};
use hansa_kernel::{RecordName, Refusal};
use hansa_proto::types::{ChangeEnvelope, SignedChange, SignedChanges};
use prost::Message;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A committed change on its way to the broker.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub record: Uuid,
    pub version: i64,
    pub envelope: Vec<u8>,
    pub signatures: Vec<u8>,
    pub trace: Option<String>,
}

impl From<change::Model> for Outgoing {
    fn from(row: change::Model) -> Self {
        let change::Model { record, version, envelope, signatures, trace, .. } = row;
        Self { record, version, envelope, signatures, trace }
    }
}

/// The relay of one service.
pub struct Relay {
    journal: Journal,
    bus: Bus,
    /// What the writer hands over, until the relay runs.
    fresh: Option<mpsc::Receiver<Vec<Outgoing>>>,
    /// Where the stream began when it was last looked at.
    first: AtomicU64,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("service", &self.journal.service()).finish_non_exhaustive()
    }
}

impl Relay {
    /// The relay of a journal. From now on its writer hands over what it commits.
    #[must_use]
    pub fn of(journal: &Journal, bus: &Bus) -> Self {
        let (outbox, fresh) = mpsc::channel(RELAY_BACKLOG);
        // A second relay of one journal gets nothing fresh; its sweep still works.
        let _ = journal.inner.outbox.set(outbox);
        Self { journal: journal.clone(), bus: bus.clone(), fresh: Some(fresh), first: AtomicU64::new(0) }
    }

    /// Publishes until it is told to stop, and answers subscribers that miss something.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut beside = JoinSet::new();
        beside.spawn(answer(self.journal.clone(), self.bus.clone(), stop.clone()));
        beside.spawn(number(self.journal.clone(), stop.clone()));
        let (told, mut marks) = mpsc::channel(MARKS_WAITING);
        if let Some(fresh) = self.fresh.take() {
            tokio::select! {
                () = stop.cancelled() => {}
                // Neither ends by itself: whoever watches over the relay must hear of it.
                Some(_) = beside.join_next() => return,
                // What is fresh never waits for marks or a sweep, nor they for it.
                _ = join(self.publish(fresh, told), self.keep(&mut marks)) => {}
            }
        }
        if let Err(refusal) = self.note(&mut marks).await {
            tracing::warn!(service = self.journal.service(), %refusal, "what was published last will be published again");
        }
        while beside.join_next().await.is_some() {}
    }

    /// Looks after what is published: marks it, sweeps, and counts.
    async fn keep(&self, marks: &mut mpsc::Receiver<Mark>) {
        // Before the first mark: marks of a stream that is not known would be taken for those of one that is lost.
        if let Err(refusal) = self.journal.check_stream(&self.bus).await {
            self.waits(&refusal);
        }
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(BACKLOG_PERIOD);
        let mut note = tokio::time::interval(MARK_PERIOD);
        note.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pulse = tokio::time::interval(PULSE_PERIOD);
        loop {
            let outcome = tokio::select! {
                _ = look.tick() => self.measure().await,
                _ = pulse.tick() => self.pulse().await,
                // Marks are for later: what is published and not marked yet is at worst published again.
                _ = note.tick(), if !marks.is_empty() => self.note(marks).await,
                _ = sweep.tick() => match self.note(marks).await {
                    Ok(()) => self.sweep().await.map(drop),
                    Err(refusal) => Err(refusal),
                },
            };
            if let Err(refusal) = outcome {
                self.waits(&refusal);
            }
        }
    }

    fn waits(&self, refusal: &Refusal) {
        tracing::warn!(service = self.journal.service(), %refusal, "the relay waits; the sweep will catch up");
    }

    /// Tells whoever follows that time goes on.
    async fn pulse(&self) -> Result<(), Refusal> {
        self.bus.stream(self.journal.service()).await?;
        let subject = self.bus.pulse(self.journal.service());
        self.put(&subject, HeaderMap::new(), &Bytes::new()).await.map(drop)
    }

    /// Tells how much the broker lacks.
    async fn measure(&self) -> Result<(), Refusal> {
        let lacking = change::Entity::find().filter(change::Column::Published.is_null());
        let count = lacking.count(self.journal.store().reader()).await.map_err(|e| storage(&e))?;
        metrics::backlog(self.journal.service(), count);
        Ok(())
    }

    /// Publishes what was committed, in that order and many on their way at once; tells the marks of those that the broker
    /// has.
    async fn publish(&self, fresh: mpsc::Receiver<Vec<Outgoing>>, told: mpsc::Sender<Mark>) {
        let batches = stream::unfold(fresh, async |mut fresh| Some((stream::iter(fresh.recv().await?), fresh)));
        let sending = batches.flatten().map(|change| self.send(change)).buffered(PUBLISH_WINDOW);
        let mut sent = pin!(sending.ready_chunks(PUBLISH_WINDOW));
        // What is published before there is a stream would wait for the sweep.
        if let Err(refusal) = self.bus.stream(self.journal.service()).await {
            self.waits(&refusal);
        }
        while let Some(outcomes) = sent.next().await {
            let mut failed = None;
            for outcome in outcomes {
                match outcome {
                    // What finds no room is published again by the sweep, and marked then.
                    Ok(mark) => drop(told.try_send(mark)),
                    Err(refusal) => failed = Some(refusal),
                }
            }
            failed.iter().for_each(|refusal| self.waits(refusal));
        }
    }

    /// Writes down what was published. Where that fails, the sweep finds it.
    async fn note(&self, told: &mut mpsc::Receiver<Mark>) -> Result<(), Refusal> {
        let marks: Vec<Mark> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        if marks.is_empty() {
            return Ok(());
        }
        let tx = self.journal.store().begin().await.map_err(|e| storage(&e))?;
        let twice = mark(&tx, &marks).await.map_err(|e| storage(&e))?;
        tx.commit().await.map_err(|e| storage(&e))?;
        self.after(twice).await
    }

    /// What a sequence that was claimed twice leads to.
    async fn after(&self, twice: bool) -> Result<(), Refusal> {
        if twice {
            tracing::warn!(
                service = self.journal.service(),
                "the stream lost its end; what it lost is published again"
            );
            self.journal.begin_anew(&self.bus).await?;
        }
        Ok(())
    }

    async fn send(&self, change: Outgoing) -> Result<Mark, Refusal> {
        let envelope = ChangeEnvelope::decode(change.envelope.as_slice()).map_err(|e| broker(&e))?;
        self.bus.own(&change.envelope);
        let name = RecordName::parse_any(&envelope.record, "record")?;
        let headers = headers(&envelope, &name, change.trace.as_deref());
        let signatures = SignedChange::decode(change.signatures.as_slice()).map_err(|e| broker(&e))?.signatures;
        let body = Bytes::from(SignedChange { envelope: change.envelope, signatures }.encode_to_vec());
        let subject = self.bus.subject(self.journal.service(), &name);
        let mut ack = self.put(&subject, headers.clone(), &body).await?;
        let first = self.first.load(Ordering::Relaxed);
        if ack.duplicate && ack.sequence < first {
            // For a while the broker remembers also what was taken out of the stream, and takes it for a repetition.
            let mut headers = headers;
            headers.insert("Nats-Msg-Id", format!("{}@{first}", name.change(envelope.version)).as_str());
            ack = self.put(&subject, headers, &body).await?;
        }
        Ok(Mark { record: change.record, version: change.version, sequence: ack.sequence.cast_signed() })
    }

    async fn put(&self, subject: &str, headers: HeaderMap, body: &Bytes) -> Result<PublishAck, Refusal> {
        let sent = self.bus.context.publish_with_headers(subject.to_owned(), headers, body.clone()).await;
        sent.map_err(|e| broker(&e))?.await.map_err(|e| broker(&e))
    }

    /// Looks whether the broker still has what it was given, then publishes what it has not. Answers how much that was.
    ///
    /// # Errors
    /// Where the broker or the database is away.
    pub async fn sweep(&self) -> Result<usize, Refusal> {
        let first = self.journal.check_stream(&self.bus).await?;
        self.first.store(first, Ordering::Relaxed);
        let now = self.journal.clock().now().timestamp_micros();
        let mut swept = 0;
        loop {
            let tx = self.journal.store().begin().await.map_err(|e| storage(&e))?;
            let rows = unpublished(&tx, self.journal.store().backend(), now).await.map_err(|e| storage(&e))?;
            if rows.is_empty() {
                return Ok(swept);
            }
            swept += rows.len();
            let outgoing: Vec<Outgoing> = rows.into_iter().map(Outgoing::from).collect();
            let mut sent = stream::iter(outgoing.into_iter().map(|change| self.send(change))).buffered(PUBLISH_WINDOW);
            let mut marks = Vec::new();
            while let Some(outcome) = sent.next().await {
                marks.push(outcome?);
            }
            let twice = mark(&tx, &marks).await.map_err(|e| storage(&e))?;
            tx.commit().await.map_err(|e| storage(&e))?;
            self.after(twice).await?;
        }
    }
}

/// Numbers the feed, whether or not the broker is there.
async fn number(journal: Journal, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = journal.number_feed().await {
            let refusal = storage(&error);
            tracing::warn!(service = journal.service(), %refusal, "the feed waits for its numbers");
        }
    }
}

/// CloudEvents attributes as NATS headers, the message id, and the trace. The record stands in the id; a `ce-subject` beside it
/// would only be longer.
fn headers(envelope: &ChangeEnvelope, name: &RecordName, trace: Option<&str>) -> HeaderMap {
    let id = name.change(envelope.version);
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.as_str());
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-id", id.as_str());
    headers.insert("ce-source", envelope.authority.as_str());
    headers.insert("ce-type", envelope.r#type.as_str());
    if let Some(at) = envelope
        .claimed_time
        .as_ref()
        .and_then(|t| chrono::DateTime::from_timestamp(t.seconds, u32::try_from(t.nanos).unwrap_or_default()))
    {
        headers.insert("ce-time", at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true).as_str());
    }
    headers.insert("content-type", "application/x-protobuf");
    if let Some(trace) = trace {
        headers.insert("traceparent", trace);
    }
    headers
}

/// Answers subscribers: the past of a record, and the wish to have everything published again.
async fn answer(journal: Journal, bus: Bus, stop: CancellationToken) {
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = answer_until_lost(&journal, &bus) => ended,
        };
        if let Err(refusal) = ended {
            tracing::warn!(service = journal.service(), %refusal, "subscribers wait for answers");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_PERIOD) => {}
        }
    }
}

async fn answer_until_lost(journal: &Journal, bus: &Bus) -> Result<(), Refusal> {
    let group = || "answers".to_owned();
    let past = bus.client.queue_subscribe(bus.history_subject(journal.service()), group());
    let mut past = past.await.map_err(|e| broker(&e))?;
    let again = bus.client.queue_subscribe(bus.replay_subject(journal.service()), group());
    let mut again = again.await.map_err(|e| broker(&e))?;
    loop {
        tokio::select! {
            asked = past.next() => {
                let Some(asked) = asked else { return Ok(()) };
                if let Some(reply) = asked.reply.clone() {
                    let body = history_page(journal, &asked.payload).await?;
                    bus.client.publish(reply, body.into()).await.map_err(|e| broker(&e))?;
                }
            }
            asked = again.next() => {
                let Some(asked) = asked else { return Ok(()) };
                journal.unpublish_all().await.map_err(|e| storage(&e))?;
                if let Some(reply) = asked.reply.clone() {
                    bus.client.publish(reply, Bytes::new()).await.map_err(|e| broker(&e))?;
                }
            }
        }
    }
}

/// As much of a record's past as one message takes. The request is `{record} {version}`.
async fn history_page(journal: &Journal, asked: &[u8]) -> Result<Vec<u8>, Refusal> {
    let text = String::from_utf8_lossy(asked);
    let Some((record, after)) = text.rsplit_once(' ') else { return Ok(Vec::new()) };
    let (Ok(name), Ok(after)) = (RecordName::parse_any(record, "record"), after.parse()) else { return Ok(Vec::new()) };
    let mut page = SignedChanges::default();
    let mut bytes = 0;
    for change in journal.history(name.id, after, u64::MAX).await? {
        bytes += change.signed.encoded_len();
        if bytes > HISTORY_REPLY_BYTES && !page.changes.is_empty() {
            break;
        }
        page.changes.push(change.signed);
    }
    Ok(page.encode_to_vec())
}
